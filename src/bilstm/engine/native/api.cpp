// The C interface: checks what it is given, and turns exceptions into error codes.
#include "api.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <limits>
#include <new>
#include <string>
#include <vector>

#include "network.h"
#include "threads.h"

struct bilstm_network : bilstm::Network {
    using Network::Network;
};

namespace {

using bilstm::Invalid;

thread_local std::string last_error;

template <typename Function>
int32_t guarded(Function&& function) {
    try {
        function();
        return BILSTM_OK;
    } catch (const Invalid& error) {
        last_error = error.what();
        return BILSTM_INVALID;
    } catch (const std::bad_alloc&) {
        last_error = "not enough memory";
        return BILSTM_OUT_OF_MEMORY;
    } catch (const std::exception& error) {
        last_error = error.what();
        return BILSTM_FAILED;
    }
}

void require(bool condition, const char* otherwise) {
    if (!condition) throw Invalid(otherwise);
}

void check_data(const bilstm_data* data) {
    require(data, "no data");
    require(data->sequences >= 0 && data->steps >= 0, "negative sizes");
    require(data->sequences < std::numeric_limits<int64_t>::max() / 16, "too many sequences");
    require(data->offsets || data->sequences == 0, "no offsets");
    require(data->values || data->steps == 0, "no values");
}

bilstm::Loss check_targets(const bilstm::Network& network, const bilstm_data& data, int32_t loss) {
    require(loss >= 0 && loss <= static_cast<int32_t>(bilstm::Loss::mean_squared_error), "unknown loss");
    require((data.labels == nullptr) != (data.targets == nullptr) || data.sequences == 0,
            "either labels or targets are needed");
    require(!data.labels || loss != static_cast<int32_t>(bilstm::Loss::mean_squared_error),
            "a squared error needs targets, not labels");
    require(!data.labels || loss != static_cast<int32_t>(bilstm::Loss::binary_crossentropy) || network.outputs() == 1,
            "binary cross-entropy of several outputs needs targets, not labels");
    return static_cast<bilstm::Loss>(loss);
}

bilstm::Optimizer check_optimizer(const bilstm_optimizer* o) {
    require(o, "no optimizer");
    require(o->kind == bilstm::Optimizer::adam || o->kind == bilstm::Optimizer::sgd, "unknown optimizer");
    return {o->kind, o->learning_rate, o->beta_1, o->beta_2, o->epsilon, o->clipnorm, o->global_clipnorm, o->clipvalue};
}

}  // namespace

const char* bilstm_last_error(void) {
    return last_error.c_str();
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
        require(layers && out, "no layers");
        *out = nullptr;
        *out = new bilstm_network(layers, count, features);
    });
}

void bilstm_destroy(bilstm_network* network) {
    delete network;
}

int32_t bilstm_describe(const bilstm_network* network, int64_t* parameters, int64_t* outputs, int32_t* one_row_each,
                        int64_t* state_width) {
    return guarded([&] {
        require(network && parameters && outputs && one_row_each && state_width, "no network");
        *parameters = network->parameter_count();
        *outputs = network->outputs();
        *one_row_each = network->one_row_each();
        *state_width = network->state_width();
    });
}

int32_t bilstm_read(bilstm_network* network, int32_t which, float* to, int64_t count) {
    return guarded([&] {
        require(network && to, "no network");
        require(which >= 0 && which <= bilstm::Network::kSecondMoments, "unknown array");
        require(count == network->parameter_count(), "another number of weights than the network has");
        const std::shared_lock lock(network->guard);
        network->read(static_cast<bilstm::Network::Which>(which), to);
    });
}

int32_t bilstm_write(bilstm_network* network, int32_t which, const float* from, int64_t count) {
    return guarded([&] {
        require(network && from, "no network");
        require(which >= 0 && which <= bilstm::Network::kSecondMoments, "unknown array");
        require(count == network->parameter_count(), "another number of weights than the network has");
        const std::unique_lock lock(network->guard);
        network->write(static_cast<bilstm::Network::Which>(which), from);
    });
}

int32_t bilstm_iteration(bilstm_network* network, int64_t* iteration, int32_t set) {
    return guarded([&] {
        require(network && iteration, "no network");
        const std::unique_lock lock(network->guard);
        require(!set || *iteration >= 0, "a negative iteration");
        (set ? network->iteration : *iteration) = set ? *iteration : network->iteration;
    });
}

int32_t bilstm_set_recompute(bilstm_network* network, int32_t recompute) {
    return guarded([&] {
        require(network, "no network");
        const std::unique_lock lock(network->guard);
        network->set_recompute(recompute != 0);
    });
}

int32_t bilstm_train(bilstm_network* network, const bilstm_data* data, const int64_t* chosen, const int64_t* starts,
                     int64_t batches, int32_t loss, const bilstm_optimizer* optimizer, uint64_t seed,
                     bilstm_score* scores) {
    return guarded([&] {
        require(network && batches >= 0 && (batches == 0 || (chosen && starts && scores)), "no batches");
        check_data(data);
        const auto checked_loss = check_targets(*network, *data, loss);
        for (int64_t i = 0; i < batches; ++i)
            require(starts[i] >= 0 && starts[i + 1] >= starts[i], "decreasing batches");
        const std::unique_lock lock(network->guard);
        network->train(*data, chosen, starts, batches, checked_loss, check_optimizer(optimizer), seed, scores);
    });
}

int32_t bilstm_gradient(bilstm_network* network, const bilstm_data* data, const int64_t* chosen, int64_t count,
                        int32_t loss, int32_t training, uint64_t seed, bilstm_score* score) {
    return guarded([&] {
        require(network && chosen && count >= 0 && score, "no batch");
        check_data(data);
        const auto checked_loss = check_targets(*network, *data, loss);
        const std::unique_lock lock(network->guard);
        network->gradient(*data, chosen, count, checked_loss, training != 0, seed, score);
    });
}

int32_t bilstm_update(bilstm_network* network, const bilstm_optimizer* optimizer) {
    return guarded([&] {
        require(network, "no network");
        const std::unique_lock lock(network->guard);
        network->update(check_optimizer(optimizer));
    });
}

int32_t bilstm_predict(bilstm_network* network, const bilstm_data* data, int32_t loss, const float* states_in,
                       float* states_out, float* output, bilstm_score* score) {
    return guarded([&] {
        require(network && (output || score), "nothing to predict into");
        check_data(data);
        const auto checked_loss = score ? check_targets(*network, *data, loss) : bilstm::Loss::mean_squared_error;
        const std::shared_lock lock(network->guard);
        network->predict(*data, checked_loss, states_in, states_out, output, score);
    });
}

int32_t bilstm_predict_equal(bilstm_network* network, const float* values, int64_t sequences, int64_t steps,
                             float* output) {
    return guarded([&] {
        require(network && values && output, "nothing to predict into");
        require(sequences >= 0 && steps >= 1, "sequences must have steps");
        static thread_local std::vector<int64_t> offsets;
        offsets.resize(static_cast<size_t>(bilstm::checked_product(sequences, 1)) + 1);
        const int64_t total = bilstm::checked_product(sequences, steps);
        for (size_t i = 0; i < offsets.size(); ++i) offsets[i] = static_cast<int64_t>(i) * steps;
        const bilstm_data data{values, offsets.data(), total, sequences, nullptr, nullptr, nullptr};
        const std::shared_lock lock(network->guard);
        network->predict(data, bilstm::Loss::mean_squared_error, nullptr, nullptr, output, nullptr);
    });
}

int64_t bilstm_first_not_finite(const float* values, int64_t count) {
    constexpr int64_t kBlock = 256;
    for (int64_t begin = 0; begin < count; begin += kBlock) {
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
    for (int64_t i = count - 1; i >= 0; --i) {
        if (targets[i] == -1.0f) targets[i] = std::numeric_limits<float>::quiet_NaN();
        if (targets[i] < 0.0f || targets[i] > 1.0f) wrong = i;
    }
    return wrong;
}
