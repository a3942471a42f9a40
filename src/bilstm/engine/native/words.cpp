#include "words.h"

#include <algorithm>
#include <string>

#include "api.h"

namespace bilstm {
namespace {

// The position of a word among those chosen so far, to which it is added if it is new. Slots are a hash table: each -1
// or such a position.
int64_t position_of(int64_t word, std::vector<int64_t>& slots, std::vector<int64_t>& chosen) {
    const uint64_t last = slots.size() - 1;  // there are a power of two of them, and some are free
    uint64_t slot = (static_cast<uint64_t>(word) * 0x9E3779B97F4A7C15u >> 32) & last;
    while (slots[slot] >= 0) {
        if (chosen[static_cast<size_t>(slots[slot])] == word) return slots[slot];
        slot = (slot + 1) & last;
    }
    slots[slot] = static_cast<int64_t>(chosen.size());
    chosen.push_back(word);
    return slots[slot];
}

}  // namespace

WordEncoder::WordEncoder(std::vector<std::unique_ptr<Layer>> encoder, int64_t width)
    : encoder_(std::move(encoder)), encoding_(encoder_.back()->output_width) {
    input_width = width;
    output_width = encoding_ + width - 1;
}

std::vector<Parameter*> WordEncoder::parameters() {
    std::vector<Parameter*> all;
    for (auto& layer : encoder_)
        for (Parameter* parameter : layer->parameters()) all.push_back(parameter);
    return all;
}

void WordEncoder::collect(const Input& input, const WordTable& table, DistinctWords& words) const {
    if (!table.count && input.rows)
        throw Invalid(
            "the network reads words, such as their characters, but the sequences come without a table of "
            "words");
    if (table.count && table.features != encoder_.front()->input_width)
        throw Invalid("words have " + std::to_string(table.features) + " feature(s), but the network takes " +
                      std::to_string(encoder_.front()->input_width));
    size_t size = 16;
    while (static_cast<int64_t>(size) < 2 * input.rows) size *= 2;
    words.slots.assign(size, -1);
    words.chosen.clear();
    words.row_words.clear();
    for (int64_t row = 0; row < input.rows; ++row) {
        const float word = input.data[(row + 1) * input_width - 1];
        // NaN fails the first comparison.
        if (!(word >= 0.0f && word < static_cast<float>(table.count)) ||
            static_cast<float>(static_cast<int64_t>(word)) != word)
            throw Invalid("a word's index must be a whole number from 0 to " + std::to_string(table.count - 1) +
                          ", not " + std::to_string(word));
        words.row_words.push_back(position_of(static_cast<int64_t>(word), words.slots, words.chosen));
    }
}

Input WordEncoder::input_of(const DistinctWords& words, size_t layer, int64_t rows) const {
    const float* data = layer ? words.outputs[layer - 1].data() : words.gathered.data();
    return {data, words.batch.start.data(), rows};
}

const float* WordEncoder::encode(DistinctWords& words, const WordTable& table, const Mode& mode) const {
    const auto count = static_cast<int64_t>(words.chosen.size());
    words.batch.arrange(table.offsets, words.chosen.data(), count);
    const int64_t features = encoder_.front()->input_width;
    float* to = words.gathered.reserve(checked_product(words.batch.steps, features));
    for (const int64_t word : words.chosen)
        to = std::copy(table.values + table.offsets[word] * features, table.values + table.offsets[word + 1] * features,
                       to);
    if (mode.training && bilstm_first_not_finite(words.gathered.data(), words.batch.steps * features) >= 0)
        throw Invalid("a value of a word is not finite");
    Mode own;
    own.training = mode.training;
    own.rounded = mode.rounded;
    int64_t rows = words.batch.steps;
    for (size_t i = 0; i < encoder_.size(); ++i) {
        const Layer& layer = *encoder_[i];
        const Input input = input_of(words, i, rows);
        if (layer.one_row_each) rows = count, own.one_row_each = true;
        float* output = words.outputs[i].reserve(checked_product(rows, layer.output_width));
        layer.forward(words.batch, input, output, words.scratch[i], own);
    }
    return words.outputs.back().data();
}

void WordEncoder::forward(const Batch&, const Input& input, float* output, Scratch& scratch, const Mode& mode) const {
    if (!scratch.words) scratch.words = std::make_shared<DistinctWords>(encoder_.size());
    DistinctWords& words = *scratch.words;
    collect(input, mode.words, words);
    const float* encodings = encode(words, mode.words, mode);
    for (int64_t row = 0; row < input.rows; ++row) {
        const int64_t word = words.row_words[static_cast<size_t>(row)];
        float* to = std::copy_n(encodings + word * encoding_, encoding_, output + row * output_width);
        std::copy_n(input.data + row * input_width, input_width - 1, to);
    }
}

void WordEncoder::backward(const Batch&, const Input& input, const float*, float* output_gradient,
                           float* input_gradient, Scratch& scratch) {
    DistinctWords& words = *scratch.words;
    const auto count = static_cast<int64_t>(words.chosen.size());
    float* gradient = words.gradients[0].reserve_zeroed(checked_product(count, encoding_));
    for (int64_t row = 0; row < input.rows; ++row) {
        const float* from = output_gradient + row * output_width;
        float* sums = gradient + words.row_words[static_cast<size_t>(row)] * encoding_;
        for (int64_t k = 0; k < encoding_; ++k) sums[k] += from[k];
        if (!input_gradient) continue;
        float* to = std::copy_n(from + encoding_, input_width - 1, input_gradient + row * input_width);
        *to = 0.0f;  // an index has no gradient
    }
    size_t parameter = 0;
    for (size_t i = 0; i < encoder_.size(); ++i) {
        const size_t own = encoder_[i]->parameters().size();
        const auto first = scratch.gradients.begin() + static_cast<std::ptrdiff_t>(parameter);
        words.scratch[i].gradients.assign(first, first + static_cast<std::ptrdiff_t>(own));
        parameter += own;
    }
    int64_t rows = count;
    for (size_t i = encoder_.size(), next = 1; i-- > 0; next = 1 - next) {
        Layer& layer = *encoder_[i];
        if (layer.one_row_each) rows = words.batch.steps;
        float* before = i ? words.gradients[next].reserve(checked_product(rows, layer.input_width)) : nullptr;
        layer.backward(words.batch, input_of(words, i, rows), words.outputs[i].data(), gradient, before,
                       words.scratch[i]);
        gradient = before;
    }
}

}  // namespace bilstm
