#include "activation.h"

#include <algorithm>

#include "elementary.h"

namespace bilstm {
namespace {

// In four interleaved chains, whatever the vector's width.
float ordered_sum(const float* values, int64_t count) {
    float sums[4] = {};
    for (int64_t i = 0; i < count; ++i) sums[i % 4] += values[i];
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

void softmax(float* row, int64_t units) {
    float most = row[0];
    for (int64_t i = 1; i < units; ++i) most = row[i] > most ? row[i] : most;
    for (int64_t i = 0; i < units; i += kLanes)
        store_partial(row + i, exponential(load_partial(row + i, units - i) - most), units - i);
    const float total = ordered_sum(row, units);
    for (int64_t i = 0; i < units; ++i) row[i] /= total;
}

}  // namespace

void activate(Activation activation, float* values, int64_t rows, int64_t units) {
    const int64_t count = rows * units;
    switch (activation) {
        case Activation::linear:
            break;
        case Activation::softmax:
            for (int64_t row = 0; row < rows; ++row) softmax(values + row * units, units);
            break;
        case Activation::sigmoid:
            for (int64_t i = 0; i < count; i += kLanes)
                store_partial(values + i, sigmoid(load_partial(values + i, count - i)), count - i);
            break;
        case Activation::tanh:
            for (int64_t i = 0; i < count; i += kLanes)
                store_partial(values + i, hyperbolic_tangent(load_partial(values + i, count - i)), count - i);
            break;
        case Activation::relu:
            for (int64_t i = 0; i < count; ++i) values[i] = values[i] < 0.0f ? 0.0f : values[i];
            break;
    }
}

void activation_gradient(Activation activation, const float* output, float* gradient, int64_t units) {
    switch (activation) {
        case Activation::linear:
            break;
        case Activation::sigmoid:
            for (int64_t i = 0; i < units; ++i) gradient[i] *= output[i] * (1.0f - output[i]);
            break;
        case Activation::tanh:
            for (int64_t i = 0; i < units; ++i) gradient[i] *= 1.0f - output[i] * output[i];
            break;
        case Activation::relu:
            for (int64_t i = 0; i < units; ++i) gradient[i] = output[i] > 0.0f ? gradient[i] : 0.0f;
            break;
        case Activation::softmax: {
            // Relative to the gradient of the largest output, with which, near 1, the sum would else nearly cancel.
            const float reference = gradient[std::max_element(output, output + units) - output];
            float dot = 0.0f;
            for (int64_t i = 0; i < units; ++i) dot += (gradient[i] - reference) * output[i];
            for (int64_t i = 0; i < units; ++i) gradient[i] = output[i] * ((gradient[i] - reference) - dot);
            break;
        }
    }
}

}  // namespace bilstm
