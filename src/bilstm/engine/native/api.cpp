// The C interface: checks what it is given, and turns exceptions into error codes.
#include "api.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <limits>
#include <new>
#include <numeric>
#include <shared_mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "checks.h"
#include "floats.h"
#include "interrupt.h"
#include "pass.h"
#include "prepared.h"
#include "threads.h"

struct bilstm_network : bilstm::Network {
    using Network::Network;
};

struct bilstm_prediction : bilstm::Prepared {
    using Prepared::Prepared;
};

struct bilstm_pass : bilstm::Pass {
    using Pass::Pass;
};

namespace {

using bilstm::check_array, bilstm::check_batch, bilstm::check_data, bilstm::check_optimizer, bilstm::check_precision,
    bilstm::check_rows, bilstm::check_states, bilstm::check_targets, bilstm::EqualSequences, bilstm::Invalid,
    bilstm::require;

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
        const bilstm::Asking asking;
        function();
        return BILSTM_OK;
    } catch (const Invalid& error) {
        return fail(BILSTM_INVALID, error.what());
    } catch (const bilstm::Interrupted& interrupted) {
        return fail(BILSTM_INTERRUPTED, interrupted.what());
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

// Weights stay as they are while one is held, rounded if need be.
std::shared_lock<bilstm::ForkedLock> lock_to_predict(bilstm::Network& network, bool rounded) {
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

int32_t bilstm_set_interrupt(const bilstm_interrupt* hooks) {
    return guarded([&] {
        check_array(hooks, "hooks", true);
        require(!hooks || (hooks->enter && hooks->pending && hooks->keep && hooks->leave), "a hook is missing");
        bilstm::set_interrupt(hooks);
    });
}

int32_t bilstm_last_interruption(bilstm_interruption* interruption) {
    return guarded([&] {
        check_array(interruption, "place for the interruption");
        *interruption = bilstm::interruption();
    });
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
            check_batch(*data, network->features(), chosen + starts[i], starts[i + 1] - starts[i]);
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
        check_batch(equal, network->features(), all.chosen(), sequences);
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
                        int32_t loss, int32_t training, uint64_t seed, const float* states_in, float* states_out,
                        bilstm_score* score) {
    return guarded([&] {
        check_data(network, data);
        const auto checked_loss = check_targets(*network, *data, loss);
        check_rows(count, 1, "chosen sequences");
        check_array(chosen, "chosen sequences", count == 0);
        check_states(*network, *data, states_in, states_out);
        check_array(score, "score");
        check_batch(*data, network->features(), chosen, count);
        const std::unique_lock lock(network->guard);
        network->gradient(*data, chosen, count, checked_loss, training != 0, seed, states_in, states_out, score);
    });
}

int32_t bilstm_divide(const bilstm_network* network, const int64_t* lengths, int64_t count, int64_t* order,
                      int64_t* bounds, int64_t* shares) {
    return guarded([&] {
        require(network, "no network");
        check_rows(count, 1, "sequences");
        check_array(lengths, "lengths", count == 0);
        check_array(order, "order", count == 0);
        check_array(bounds, "bounds");
        check_array(shares, "number of shares");
        bilstm::Division division;
        division.divide(lengths, count, network->most_shares());
        std::copy(division.order.begin(), division.order.end(), order);
        std::copy(division.bounds.begin(), division.bounds.end(), bounds);
        *shares = division.shares();
    });
}

int32_t bilstm_gradient_of_shares(bilstm_network* network, const bilstm_data* data, const int64_t* chosen,
                                  const int64_t* positions, int64_t count, const int64_t* bounds, int64_t shares,
                                  int64_t labelled, int32_t loss, int32_t training, uint64_t seed, bilstm_score* scores,
                                  float* magnitude) {
    return guarded([&] {
        check_data(network, data);
        const auto checked_loss = check_targets(*network, *data, loss);
        check_rows(count, 1, "chosen sequences");
        check_array(chosen, "chosen sequences", count == 0);
        check_array(positions, "positions", count == 0);
        check_array(bounds, "bounds of shares");
        check_array(scores, "scores", shares == 0);
        check_array(magnitude, "magnitude");
        require(shares >= 0 && shares <= bilstm::kMostShares, "a batch has at most 8 shares");
        require(bounds[0] == 0 && bounds[shares] == count, "shares must be all chosen sequences");
        for (int64_t i = 0; i < shares; ++i) require(bounds[i] < bounds[i + 1], "a share without sequences");
        for (int64_t i = 0; i < count; ++i) require(positions[i] >= 0, "a negative position");
        require(labelled >= 0, "a negative number of labelled rows");
        check_batch(*data, network->features(), chosen, count);
        const std::unique_lock lock(network->guard);
        *magnitude = network->gradient_of_shares(*data, {chosen, positions, bounds, shares}, labelled, checked_loss,
                                                 training != 0, seed, scores);
    });
}

int32_t bilstm_sum_shares(bilstm_network* network, int64_t all_shares, float magnitude, double* sums, int64_t count) {
    return guarded([&] {
        require(network, "no network");
        check_array(sums, "sums", count == 0);
        require(all_shares >= 0 && all_shares <= bilstm::kMostShares, "a batch has at most 8 shares");
        require(magnitude >= 0 && std::isfinite(magnitude), "a magnitude must be a finite number from 0");
        require(count == network->parameter_count(), "another number of weights than the network has");
        const std::unique_lock lock(network->guard);
        network->sum_shares(all_shares, magnitude, sums);
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

int32_t bilstm_forward(bilstm_network* network, const bilstm_data* data, int32_t training, uint64_t seed,
                       const float* states_in, float* states_out, float* output, bilstm_pass** out) {
    return guarded([&] {
        check_array(out, "place for the pass");
        *out = nullptr;
        check_data(network, data);
        check_rows(data->steps, network->outputs(), "steps");
        check_states(*network, *data, states_in, states_out);
        check_array(output, "output", data->steps == 0);
        std::vector<int64_t> all(static_cast<size_t>(data->sequences));
        std::iota(all.begin(), all.end(), int64_t{0});
        check_batch(*data, network->features(), all.data(), data->sequences);
        const std::shared_lock lock(network->guard);
        *out = new bilstm_pass(*network, *data, training != 0, seed, states_in, states_out, output);
    });
}

int32_t bilstm_backward(bilstm_pass* pass, const float* output_gradient, const float* states_gradient,
                        float* input_gradient, float* first_states_gradient) {
    return guarded([&] {
        require(pass, "no pass");
        check_array(output_gradient, "gradient of the outputs");
        check_array(states_gradient, "gradient of the states", true);
        check_array(input_gradient, "gradient of the inputs", true);
        check_array(first_states_gradient, "gradient of the states", true);
        const std::unique_lock lock(pass->network().guard);
        pass->backward(output_gradient, states_gradient, input_gradient, first_states_gradient);
    });
}

void bilstm_forget_pass(bilstm_pass* pass) {
    delete pass;
}

int32_t bilstm_average(bilstm_network* network, float fraction) {
    return guarded([&] {
        require(network, "no network");
        require(fraction >= 0 && fraction <= 1, "a fraction of the way must be from 0 to 1");
        const std::unique_lock lock(network->guard);
        network->average(fraction);
    });
}

int32_t bilstm_predict(bilstm_network* network, const bilstm_data* data, int32_t loss, int32_t precision,
                       const float* states_in, float* states_out, const int64_t* leave_at, float* output,
                       bilstm_score* score) {
    return guarded([&] {
        check_data(network, data);
        const bool rounded = check_precision(precision);
        require(output || score, "nothing to predict into");
        check_rows(data->steps, network->outputs(), "steps");
        check_states(*network, *data, states_in, states_out);
        check_array(leave_at, "steps to leave states at", true);
        require(!leave_at || states_out, "no states to leave");
        for (int64_t i = 0; leave_at && i < data->sequences; ++i)
            require(leave_at[i] >= 1 && leave_at[i] <= data->offsets[i + 1] - data->offsets[i],
                    "states must be left after 1 to all steps of a sequence");
        check_array(output, "output", true);
        check_array(score, "score", true);
        const auto checked_loss = score ? check_targets(*network, *data, loss) : BILSTM_NO_LOSS;
        const auto lock = lock_to_predict(*network, rounded);
        network->predict(*data, checked_loss, rounded, states_in, states_out, leave_at, output, score);
    });
}

int32_t bilstm_decode(bilstm_network* network, const bilstm_data* data, int32_t precision, int64_t paths, float* output,
                      int32_t* labels, double* log_probabilities, double* log_likelihoods) {
    return guarded([&] {
        check_data(network, data);
        require(network->has_head(), "only networks that end with a CRF have labels to decode");
        const bool rounded = check_precision(precision);
        check_rows(data->steps, network->outputs(), "steps");
        require(paths >= 0 && paths <= 1000, "the number of paths must be from 0 to 1000");
        check_rows(data->steps, std::max<int64_t>(1, paths), "labels of paths");
        check_array(output, "output", true);
        check_array(labels, "labels", paths == 0 || data->steps == 0);
        check_array(log_probabilities, "probabilities of labels", paths == 0 || data->sequences == 0);
        check_array(log_likelihoods, "likelihoods", true);
        if (log_likelihoods) check_targets(*network, *data, BILSTM_CRF_LIKELIHOOD);
        const bilstm::Decoding decoding{paths,           labels,      log_probabilities,
                                        log_likelihoods, data->steps, data->sequences};
        const auto lock = lock_to_predict(*network, rounded);
        network->predict(*data, BILSTM_CRF_LIKELIHOOD, rounded, nullptr, nullptr, nullptr, output, nullptr, &decoding);
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
        network->predict(data, BILSTM_NO_LOSS, rounded, nullptr, nullptr, nullptr, output, nullptr);
    });
}

int32_t bilstm_prepare(bilstm_network* network, const float* values, int64_t sequences, int64_t steps,
                       int32_t precision, float* output, bilstm_prediction** out) {
    return guarded([&] {
        check_array(out, "place for the prediction");
        *out = nullptr;
        const bool rounded = check_precision(precision);
        require(network, "no network");
        check_array(values, "values");
        check_array(output, "output");
        *out = new bilstm_prediction(*network, values, sequences, steps, rounded, output);
    });
}

int32_t bilstm_predict_prepared(bilstm_prediction* prediction) {
    return guarded([&] {
        require(prediction, "no prediction");
        const auto lock = lock_to_predict(prediction->network(), prediction->rounded());
        prediction->predict();
    });
}

void bilstm_forget(bilstm_prediction* prediction) {
    delete prediction;
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
