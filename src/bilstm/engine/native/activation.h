// Activations of whole rows, forward and backward.
#pragma once

#include <cstdint>

namespace bilstm {

enum class Activation : int32_t { linear = 0, sigmoid = 1, softmax = 2, tanh = 3, relu = 4 };

// In place, of rows of `units` numbers one after the other.
void activate(Activation activation, float* values, int64_t rows, int64_t units);
// The gradient of the activation's output -> of its input, in place, for one row.
void activation_gradient(Activation activation, const float* output, float* gradient, int64_t units);

}  // namespace bilstm
