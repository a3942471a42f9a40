// The C interface: checks what it is given, and turns exceptions into error codes.
#include "api.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <limits>
#include <new>
#include <shared_mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "floats.h"
#include "network.h"
#include "threads.h"

struct bilstm_network : bilstm::Network {
    using Network::Network;
};

namespace {

using bilstm::Invalid;

constexpr int64_t kMostIterations = int64_t{1} << 53;  // what float64 counts

thread_local char last_error[512];  // of a fixed size: when memory runs out, saying so needs none

int32_t fail(int32_t code, const char* message) {
    std::snprintf(last_error, sizeof last_error, "%s", message);
    return code;
}

template <typename Function>
int32_t guarded(Function&& function) {
    try {
        const bilstm::StandardFloats floats;
        function();
        return BILSTM_OK;
    } catch (const Invalid& error) {
        return fail(BILSTM_INVALID, error.what());
    } catch (const std::bad_alloc&) {
        return fail(BILSTM_OUT_OF_MEMORY, "not enough memory");
    } catch (const std::length_error&) {  // of a standard container
        return fail(BILSTM_OUT_OF_MEMORY, "not enough memory");
    } catch (const std::exception& error) {
        return fail(BILSTM_FAILED, error.what());
    } catch (...) {
        return fail(BILSTM_FAILED, "failed for a reason unknown");
    }
}

void require(bool condition, const char* otherwise) {
    if (!condition) throw Invalid(otherwise);
}

// An array that is passed in: there unless it may be left out, and where items of its type can be.
template <typename Item>
void check_array(const Item* array, const char* name, bool optional = false) {
    if (!array && !optional) throw Invalid(std::string("no ") + name);
    if (reinterpret_cast<uintptr_t>(array) % alignof(Item)) throw Invalid(std::string("misaligned ") + name);
}

// A number of rows that arrays of `width` numbers a row can have on a machine there is.
void check_rows(int64_t rows, int64_t width, const char* name) {
    int64_t numbers = 0;
    if (rows < 0 || __builtin_mul_overflow(rows, width, &numbers) || numbers > bilstm::kMostNumbers)
        throw Invalid("impossible number of " + std::string(name) + ": " + std::to_string(rows));
}

void check_data(const bilstm_network* network, const bilstm_data* data) {
    require(network, "no network");
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
}

// The sequences of a batch, each of which may be in it several times.
void check_batch(const bilstm_data& data, const int64_t* chosen, int64_t count) {
    int64_t steps = 0;
    for (int64_t i = 0; i < count; ++i) {
        if (chosen[i] < 0 || chosen[i] >= data.sequences)
            throw Invalid("sequence " + std::to_string(chosen[i]) + " of " + std::to_string(data.sequences));
        steps += data.offsets[chosen[i] + 1] - data.offsets[chosen[i]];
        require(steps <= bilstm::kMostNumbers, "too many steps in a batch");
    }
}

bilstm::Loss check_targets(const bilstm::Network& network, const bilstm_data& data, int32_t loss) {
    require(loss >= 0 && loss <= static_cast<int32_t>(bilstm::Loss::mean_squared_error), "unknown loss");
    check_rows(data.steps, network.outputs(), "steps");
    check_array(data.labels, "labels", true);
    check_array(data.targets, "targets", true);
    check_array(data.weights, "weights", true);
    require((data.labels == nullptr) != (data.targets == nullptr) || data.sequences == 0,
            "either labels or targets are needed");
    require(!data.labels || loss != static_cast<int32_t>(bilstm::Loss::mean_squared_error),
            "a squared error needs targets, not labels");
    require(!data.labels || loss != static_cast<int32_t>(bilstm::Loss::binary_crossentropy) || network.outputs() == 1,
            "binary cross-entropy of several outputs needs targets, not labels");
    return static_cast<bilstm::Loss>(loss);
}

// Offsets and numbers of sequences that all have the same number of steps. Kept between calls.
class EqualSequences {
  public:
    bilstm_data of(const bilstm_network* network, const float* values, int64_t sequences, int64_t steps) {
        require(network, "no network");
        require(steps >= 1, "sequences must have steps");
        check_rows(sequences, 1, "sequences");
        const int64_t total = bilstm::checked_product(sequences, steps);
        check_rows(total, network->features(), "steps");
        check_rows(total, network->outputs(), "steps");
        check_array(values, "values", total == 0);
        offsets_.resize(static_cast<size_t>(sequences) + 1);
        for (size_t i = 0; i < offsets_.size(); ++i) offsets_[i] = static_cast<int64_t>(i) * steps;
        return {values, offsets_.data(), total, sequences, nullptr, nullptr, nullptr};
    }
    const int64_t* chosen() {
        while (chosen_.size() < offsets_.size()) chosen_.push_back(static_cast<int64_t>(chosen_.size()));
        return chosen_.data();
    }

  private:
    std::vector<int64_t> offsets_, chosen_;
};

bilstm::Optimizer check_optimizer(const bilstm_optimizer* o) {
    check_array(o, "optimizer");
    require(o->kind == bilstm::Optimizer::adam || o->kind == bilstm::Optimizer::sgd, "unknown optimizer");
    require(o->learning_rate >= 0 && std::isfinite(o->learning_rate),
            "the learning rate must be a number from 0 that float32 holds");
    for (const float clip : {o->clipnorm, o->global_clipnorm, o->clipvalue})
        require(clip >= 0 && std::isfinite(clip), "clipping must be at numbers from 0 that float32 holds");
    if (o->kind == bilstm::Optimizer::adam) {
        for (const float beta : {o->beta_1, o->beta_2})
            require(beta >= 0 && beta < 1, "Adam's betas must be from 0 to below 1, in float32 too");
        require(o->epsilon > 0 && std::isfinite(o->epsilon), "Adam's epsilon must be above 0, in float32 too");
    }
    require(o->weight_decay >= 0 && std::isfinite(o->weight_decay),
            "weight decay must be a number from 0 that float32 holds");
    return {o->kind,     o->learning_rate,   o->beta_1,    o->beta_2,      o->epsilon,
            o->clipnorm, o->global_clipnorm, o->clipvalue, o->weight_decay};
}

bool check_precision(int32_t precision) {
    require(precision == BILSTM_FLOAT32 || precision == BILSTM_BFLOAT16, "unknown precision");
    return precision == BILSTM_BFLOAT16;
}

// Weights stay as they are while one is held, rounded if need be.
std::shared_lock<bilstm::ForkedLock> lock_to_predict(bilstm_network& network, bool rounded) {
    std::shared_lock lock(network.guard);
    while (rounded && !network.weights_rounded()) {  // another thread may train in between
        lock.unlock();
        {
            const std::unique_lock alone(network.guard);
            if (!network.weights_rounded()) network.round_weights();
        }
        lock.lock();
    }
    return lock;
}

}  // namespace

const char* bilstm_last_error(void) {
    return last_error;
}

int32_t bilstm_set_threads(int32_t threads) {
    return guarded([&] {
        require(threads >= 0 && threads <= 1024, "the number of threads must be from 0 to 1024");
        bilstm::set_thread_count(threads);
    });
}

int32_t bilstm_threads(void) {
    return bilstm::thread_count();
}

int32_t bilstm_create(const bilstm_layer* layers, int32_t count, int64_t features, bilstm_network** out) {
    return guarded([&] {
        check_array(out, "place for the network");
        *out = nullptr;
        check_array(layers, "layers");
        *out = new bilstm_network(layers, count, features);
    });
}

void bilstm_destroy(bilstm_network* network) {
    if (network && !network->guard.torn()) delete network;  // what is half changed cannot be taken apart either
}

int32_t bilstm_describe(const bilstm_network* network, int64_t* parameters, int64_t* outputs, int32_t* one_row_each,
                        int64_t* state_width) {
    return guarded([&] {
        require(network, "no network");
        require(parameters && outputs && one_row_each && state_width, "nothing to describe into");
        *parameters = network->parameter_count();
        *outputs = network->outputs();
        *one_row_each = network->one_row_each();
        *state_width = network->state_width();
    });
}

int32_t bilstm_read(bilstm_network* network, int32_t which, float* to, int64_t count) {
    return guarded([&] {
        require(network, "no network");
        check_array(to, "numbers", count == 0);
        require(which >= 0 && which <= bilstm::Network::kAverages, "unknown array");
        require(count == network->parameter_count(), "another number of weights than the network has");
        const auto array = static_cast<bilstm::Network::Which>(which);
        if (array != bilstm::Network::kWeights) {  // it may have to be made first
            const std::unique_lock alone(network->guard);
            return network->read(array, to);
        }
        const std::shared_lock lock(network->guard);
        network->read(array, to);
    });
}

int32_t bilstm_write(bilstm_network* network, int32_t which, const float* from, int64_t count) {
    return guarded([&] {
        require(network, "no network");
        check_array(from, "numbers", count == 0);
        require(which >= 0 && which <= bilstm::Network::kAverages, "unknown array");
        require(count == network->parameter_count(), "another number of weights than the network has");
        const std::unique_lock lock(network->guard);
        network->write(static_cast<bilstm::Network::Which>(which), from);
    });
}

int32_t bilstm_iteration(bilstm_network* network, int64_t* iteration, int32_t set) {
    return guarded([&] {
        require(network, "no network");
        check_array(iteration, "iteration");
        const std::unique_lock lock(network->guard);
        if (!set) {
            *iteration = network->iteration;
            return;
        }
        require(*iteration >= 0, "a negative iteration");
        require(*iteration <= kMostIterations, "an iteration above 2^53");
        network->iteration = *iteration;
    });
}

int32_t bilstm_set_recompute(bilstm_network* network, int32_t recompute) {
    return guarded([&] {
        require(network, "no network");
        const std::unique_lock lock(network->guard);
        network->set_recompute(recompute != 0);
    });
}

int32_t bilstm_train(bilstm_network* network, const bilstm_data* data, const int64_t* chosen, int64_t count,
                     const int64_t* starts, int64_t batches, int32_t loss, const bilstm_optimizer* optimizer,
                     uint64_t seed, bilstm_score* scores) {
    return guarded([&] {
        check_data(network, data);
        const auto checked_loss = check_targets(*network, *data, loss);
        const auto checked_optimizer = check_optimizer(optimizer);
        check_rows(count, 1, "chosen sequences");
        check_rows(batches, 1, "batches");
        check_array(chosen, "chosen sequences", count == 0);
        check_array(starts, "starts of batches", batches == 0);
        check_array(scores, "scores", batches == 0);
        for (int64_t i = 0; i < batches; ++i) {
            require(starts[i] >= 0 && starts[i + 1] >= starts[i], "decreasing batches");
            require(starts[i + 1] <= count, "a batch ends after the last chosen sequence");
            check_batch(*data, chosen + starts[i], starts[i + 1] - starts[i]);
        }
        const std::unique_lock lock(network->guard);
        require(network->iteration <= kMostIterations - batches, "an iteration above 2^53");
        network->train(*data, chosen, starts, batches, checked_loss, checked_optimizer, seed, scores);
    });
}

int32_t bilstm_train_equal(bilstm_network* network, const float* values, const float* targets, int64_t sequences,
                           int64_t steps, int32_t loss, const bilstm_optimizer* optimizer, uint64_t seed,
                           bilstm_score* score) {
    return guarded([&] {
        static thread_local EqualSequences all;
        static thread_local std::vector<float> marked;
        const bilstm_data equal = all.of(network, values, sequences, steps);
        const int64_t rows = network->one_row_each() ? sequences : equal.steps;
        check_rows(rows, network->outputs(), "rows");
        check_array(targets, "targets", rows == 0);
        check_array(score, "score");
        require(bilstm_first_not_finite(values, equal.steps * network->features()) < 0, "a value is not finite");
        marked.assign(targets, targets + rows * network->outputs());
        require(bilstm_mark_unlabelled(marked.data(), static_cast<int64_t>(marked.size())) < 0,
                "targets must be from 0 to 1");
        bilstm_data data = equal;
        data.targets = marked.data();
        const auto checked_loss = check_targets(*network, data, loss);
        const auto checked_optimizer = check_optimizer(optimizer);
        const int64_t starts[] = {0, sequences};
        const std::unique_lock lock(network->guard);
        require(network->iteration < kMostIterations, "an iteration above 2^53");
        network->train(data, all.chosen(), starts, 1, checked_loss, checked_optimizer, seed, score);
    });
}

int32_t bilstm_gradient(bilstm_network* network, const bilstm_data* data, const int64_t* chosen, int64_t count,
                        int32_t loss, int32_t training, uint64_t seed, bilstm_score* score) {
    return guarded([&] {
        check_data(network, data);
        const auto checked_loss = check_targets(*network, *data, loss);
        check_rows(count, 1, "chosen sequences");
        check_array(chosen, "chosen sequences", count == 0);
        check_array(score, "score");
        check_batch(*data, chosen, count);
        const std::unique_lock lock(network->guard);
        network->gradient(*data, chosen, count, checked_loss, training != 0, seed, score);
    });
}

int32_t bilstm_update(bilstm_network* network, const bilstm_optimizer* optimizer) {
    return guarded([&] {
        require(network, "no network");
        const auto checked_optimizer = check_optimizer(optimizer);
        const std::unique_lock lock(network->guard);
        require(network->iteration < kMostIterations, "an iteration above 2^53");
        network->update(checked_optimizer);
    });
}

int32_t bilstm_average(bilstm_network* network, float share) {
    return guarded([&] {
        require(network, "no network");
        require(share >= 0 && share <= 1, "a share of the way must be from 0 to 1");
        const std::unique_lock lock(network->guard);
        network->average(share);
    });
}

int32_t bilstm_predict(bilstm_network* network, const bilstm_data* data, int32_t loss, int32_t precision,
                       const float* states_in, float* states_out, float* output, bilstm_score* score) {
    return guarded([&] {
        check_data(network, data);
        const bool rounded = check_precision(precision);
        require(output || score, "nothing to predict into");
        check_rows(data->steps, network->outputs(), "steps");
        check_rows(data->sequences, network->state_width(), "sequences");
        check_array(states_in, "states", true);
        check_array(states_out, "states", true);
        check_array(output, "output", true);
        check_array(score, "score", true);
        const auto checked_loss = score ? check_targets(*network, *data, loss) : bilstm::Loss::mean_squared_error;
        const auto lock = lock_to_predict(*network, rounded);
        network->predict(*data, checked_loss, rounded, states_in, states_out, output, score);
    });
}

int32_t bilstm_predict_equal(bilstm_network* network, const float* values, int64_t sequences, int64_t steps,
                             int32_t precision, float* output) {
    return guarded([&] {
        static thread_local EqualSequences all;
        const bool rounded = check_precision(precision);
        const bilstm_data data = all.of(network, values, sequences, steps);
        check_array(output, "output", data.steps == 0);
        const auto lock = lock_to_predict(*network, rounded);
        network->predict(data, bilstm::Loss::mean_squared_error, rounded, nullptr, nullptr, output, nullptr);
    });
}

int64_t bilstm_first_not_finite(const float* values, int64_t count) {
    constexpr int64_t kBlock = 256;
    for (int64_t begin = 0; values && begin < count; begin += kBlock) {
        const int64_t end = std::min(count, begin + kBlock);
        bool all = true;
        for (int64_t i = begin; i < end; ++i) all &= std::fabs(values[i]) <= std::numeric_limits<float>::max();
        for (int64_t i = begin; !all && i < end; ++i)
            if (!std::isfinite(values[i])) return i;
    }
    return -1;
}

int64_t bilstm_mark_unlabelled(float* targets, int64_t count) {
    int64_t wrong = -1;
    for (int64_t i = targets ? count - 1 : -1; i >= 0; --i) {
        if (targets[i] == -1.0f) targets[i] = std::numeric_limits<float>::quiet_NaN();
        if (targets[i] < 0.0f || targets[i] > 1.0f) wrong = i;
    }
    return wrong;
}
