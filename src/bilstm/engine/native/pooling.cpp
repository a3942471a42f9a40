#include "pooling.h"

#include <algorithm>

#include "threads.h"

namespace bilstm {
namespace {

// Rows are taken first to last, each column by itself. A NaN stays, as in Keras.
void take_largest(const float* row, float* most, int64_t width) {
    for (int64_t i = 0; i < width; ++i) most[i] = row[i] > most[i] || row[i] != row[i] ? row[i] : most[i];
}

void add(const float* row, float* sums, int64_t width) {
    for (int64_t i = 0; i < width; ++i) sums[i] += row[i];
}

void divide(float* values, float divisor, int64_t width) {
    for (int64_t i = 0; i < width; ++i) values[i] /= divisor;
}

}  // namespace

Pooling::Pooling(int64_t width, Pool pool) : pool_(pool) {
    input_width = output_width = width;
    takes_gaps = true;
    one_row_each = true;
}

void Pooling::forward(const Batch& batch, const Input& input, float* output, Scratch&, const Mode&) const {
    const int64_t width = input_width;
    parallel(batch.sequences, input.rows * width, [&](int64_t sorted) {
        const auto i = static_cast<size_t>(sorted);
        const float* rows = input.data + input.starts[i] * width;
        float* to = output + batch.order[i] * width;
        std::copy_n(rows, width, to);
        for (int64_t step = 1; step < batch.length[i]; ++step) {
            if (pool_ == Pool::average)
                add(rows + step * width, to, width);
            else
                take_largest(rows + step * width, to, width);
        }
        if (pool_ == Pool::average) divide(to, static_cast<float>(batch.length[i]), width);
    });
}

void Pooling::backward(const Batch& batch, const Input& input, const float* output, float* output_gradient,
                       float* input_gradient, Scratch& scratch) {
    if (!input_gradient) return;
    const int64_t width = input_width;
    float* parts = scratch[kParts].reserve(checked_product(batch.sequences, width));
    parallel(batch.sequences, input.rows * width, [&](int64_t sorted) {
        const auto i = static_cast<size_t>(sorted);
        const int64_t steps = batch.length[i];
        const float* gradient = output_gradient + batch.order[i] * width;
        float* part = parts + batch.order[i] * width;
        float* to = input_gradient + batch.start[i] * width;
        if (pool_ == Pool::average) {
            std::copy_n(gradient, width, part);
            divide(part, static_cast<float>(steps), width);
            for (int64_t step = 0; step < steps; ++step) std::copy_n(part, width, to + step * width);
            return;
        }
        // Equal maxima divide the gradient, as in Keras.
        const float* rows = input.data + input.starts[i] * width;
        const float* most = output + batch.order[i] * width;
        std::fill_n(part, width, 0.0f);
        for (int64_t step = 0; step < steps; ++step)
            for (int64_t k = 0; k < width; ++k) part[k] += rows[step * width + k] == most[k] ? 1.0f : 0.0f;
        for (int64_t k = 0; k < width; ++k) part[k] = gradient[k] / std::max(part[k], 1.0f);
        for (int64_t step = 0; step < steps; ++step)
            for (int64_t k = 0; k < width; ++k)
                to[step * width + k] = rows[step * width + k] == most[k] ? part[k] : 0.0f;
    });
}

}  // namespace bilstm
