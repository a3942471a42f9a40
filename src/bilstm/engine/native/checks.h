// Checks of what comes in through the C interface. Each throws Invalid, which says what is wrong.
#pragma once

#include <cmath>
#include <string>

#include "api.h"
#include "network.h"

namespace bilstm {

inline void require(bool condition, const char* otherwise) {
    if (!condition) throw Invalid(otherwise);
}

// An array that is passed in: there unless it may be left out, and where items of its type can be.
template <typename Item>
void check_array(const Item* array, const char* name, bool optional = false) {
    if (!array && !optional) throw Invalid(std::string("no ") + name);
    if (reinterpret_cast<uintptr_t>(array) % alignof(Item)) throw Invalid(std::string("misaligned ") + name);
}

// A number of rows that arrays of `width` numbers per row can have on a machine there is.
inline void check_rows(int64_t rows, int64_t width, const char* name) {
    int64_t numbers = 0;
    if (rows < 0 || __builtin_mul_overflow(rows, width, &numbers) || numbers > kMostNumbers)
        throw Invalid("impossible number of " + std::string(name) + ": " + std::to_string(rows));
}

inline void check_complete(const Network& network) {
    require(network.complete(),
            "pooling of windows makes sequences shorter: a layer that returns one row for each must follow");
}

inline void check_words(const bilstm_data& data) {
    check_rows(data.words, 1, "words");
    check_rows(data.word_features, 1, "features of words");
    check_array(data.word_values, "values of words", data.words == 0);
    check_array(data.word_offsets, "offsets of words", data.words == 0);
    for (int64_t i = 0; i < data.words; ++i)
        if (data.word_offsets[i + 1] <= data.word_offsets[i] || (i == 0 && data.word_offsets[i] != 0))
            throw Invalid("word " + std::to_string(i) + " has no rows: its offsets are " +
                          std::to_string(data.word_offsets[i]) + " and " + std::to_string(data.word_offsets[i + 1]));
    if (data.words) check_rows(data.word_offsets[data.words], data.word_features, "rows of words");
}

inline void check_data(const Network* network, const bilstm_data* data) {
    require(network, "no network");
    check_complete(*network);
    check_array(data, "data");
    check_rows(data->steps, network->features(), "steps");
    check_rows(data->sequences, network->outputs(), "sequences");
    check_array(data->values, "values", data->steps == 0);
    check_array(data->offsets, "offsets", data->sequences == 0);
    int64_t before = 0;
    for (int64_t i = 0; i < data->sequences; ++i) {
        const int64_t begin = data->offsets[i], end = data->offsets[i + 1];
        if (begin != before || end < begin || end > data->steps)
            throw Invalid("offsets of sequence " + std::to_string(i) + " leave the data: " + std::to_string(begin) +
                          " to " + std::to_string(end));
        before = end;
    }
    if (before != data->steps)
        throw Invalid("offsets end at " + std::to_string(before) + " of " + std::to_string(data->steps) + " steps");
    check_words(*data);
}

// The sequences of a batch, each of which may be in it several times.
// What they hold is finite: an infinite value would leave the loss finite and make NaN of weights.
inline void check_batch(const bilstm_data& data, int64_t features, const int64_t* chosen, int64_t count) {
    int64_t steps = 0;
    for (int64_t i = 0; i < count; ++i) {
        if (chosen[i] < 0 || chosen[i] >= data.sequences)
            throw Invalid("sequence " + std::to_string(chosen[i]) + " of " + std::to_string(data.sequences));
        steps += data.offsets[chosen[i] + 1] - data.offsets[chosen[i]];
        require(steps <= kMostNumbers, "too many steps in a batch");
        const int64_t begin = data.offsets[chosen[i]], numbers = (data.offsets[chosen[i] + 1] - begin) * features;
        if (const int64_t at = bilstm_first_not_finite(data.values + begin * features, numbers); at >= 0)
            throw Invalid("a value of sequence " + std::to_string(chosen[i]) + " is not finite, in its step " +
                          std::to_string(at / features));
    }
}

inline Loss check_targets(const Network& network, const bilstm_data& data, int32_t loss) {
    require(loss >= 0 && loss < BILSTM_LOSSES, "unknown loss");
    const auto checked = static_cast<Loss>(loss);
    require((checked == BILSTM_CRF_LIKELIHOOD) == network.has_head(),
            "the likelihood is the loss of networks that end with a CRF, and their only one");
    check_rows(data.steps, network.outputs(), "steps");
    check_array(data.labels, "labels", true);
    check_array(data.targets, "targets", true);
    check_array(data.weights, "weights", true);
    require((data.labels == nullptr) != (data.targets == nullptr) || data.sequences == 0,
            "either labels or targets are needed");
    if (data.labels && !classes(checked, network.outputs()))
        throw Invalid("this loss of " + std::to_string(network.outputs()) + " outputs needs targets, not labels");
    return checked;
}

inline Optimizer check_optimizer(const bilstm_optimizer* o) {
    check_array(o, "optimizer");
    require(o->kind == Optimizer::adam || o->kind == Optimizer::sgd, "unknown optimizer");
    require(o->learning_rate >= 0 && std::isfinite(o->learning_rate),
            "the learning rate must be a number from 0 that float32 holds");
    for (const float clip : {o->clipnorm, o->global_clipnorm, o->clipvalue})
        require(clip >= 0 && std::isfinite(clip), "clipping must be at numbers from 0 that float32 holds");
    if (o->kind == Optimizer::adam) {
        for (const float beta : {o->beta_1, o->beta_2})
            require(beta >= 0 && beta < 1, "Adam's betas must be from 0 to below 1, in float32 too");
        require(o->epsilon > 0 && std::isfinite(o->epsilon), "Adam's epsilon must be above 0, in float32 too");
    }
    require(o->weight_decay >= 0 && std::isfinite(o->weight_decay),
            "weight decay must be a number from 0 that float32 holds");
    return {o->kind,     o->learning_rate,   o->beta_1,    o->beta_2,      o->epsilon,
            o->clipnorm, o->global_clipnorm, o->clipvalue, o->weight_decay};
}

inline void check_states(const Network& network, const bilstm_data& data, const float* in, const float* out) {
    check_rows(data.sequences, network.state_width(), "sequences");
    check_array(in, "states", true);
    check_array(out, "states", true);
}

inline bool check_precision(int32_t precision) {
    require(precision == BILSTM_FLOAT32 || precision == BILSTM_BFLOAT16, "unknown precision");
    return precision == BILSTM_BFLOAT16;
}

}  // namespace bilstm
