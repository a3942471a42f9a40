#include "batch_normalization.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "threads.h"

namespace bilstm {
namespace {

constexpr int64_t kChunk = 256;  // rows that are summed, or normalized, together

double* doubles(Buffer& buffer, int64_t count) {
    return reinterpret_cast<double*>(buffer.reserve(checked_product(count, 2)));
}

// Calls work(first row, rows) for chunks of all rows.
template <typename Work>
void in_chunks(int64_t rows, int64_t width, Work&& work) {
    parallel((rows + kChunk - 1) / kChunk, saturated_product(rows, width, 4),
             [&](int64_t chunk) { work(chunk * kChunk, std::min(kChunk, rows - chunk * kChunk)); });
}

// What add(row, sums) adds for all rows, row by row in each chunk, then chunk by chunk: threads do not change it.
template <typename Add>
void sum_rows(int64_t rows, int64_t count, Buffer& buffer, double* sums, Add&& add) {
    const int64_t chunks = (rows + kChunk - 1) / kChunk;
    double* each = doubles(buffer, checked_product(chunks, count));
    in_chunks(rows, count, [&](int64_t first, int64_t own) {
        double* to = each + first / kChunk * count;
        std::fill_n(to, count, 0.0);
        for (int64_t row = first; row < first + own; ++row) add(row, to);
    });
    std::fill_n(sums, count, 0.0);
    for (int64_t chunk = 0; chunk < chunks; ++chunk)
        for (int64_t i = 0; i < count; ++i) sums[i] += each[chunk * count + i];
}

// Squares of finite numbers may be more than float32 holds.
float clamped(double number) {
    constexpr double kMost = std::numeric_limits<float>::max();
    return static_cast<float>(std::clamp(number, -kMost, kMost));
}

// Rows of numbers for each column.
void shape_rows(Parameter& parameter, int64_t rows, int64_t width) {
    parameter.shape = {rows, width};
    for (int64_t row = 0; row < rows; ++row) parameter.variables.push_back({1, width, row});
    for (int64_t column = 0; column < width; ++column) parameter.columns.push_back(column);
    parameter.plain = true;
    parameter.allocate();
}

}  // namespace

// A number for each column, but for the first.
struct BatchNormalization::Statistics {
    double& per_row;  // what a row is of the mean: 0 where that does not depend on it
    double *mean, *variance, *inverse /* of the deviation */, *sums /* two */;
};

BatchNormalization::BatchNormalization(int64_t width, float fraction, float epsilon, bool center, bool scale)
    : epsilon_(epsilon), center_(center), scale_(scale) {
    input_width = output_width = width;
    needs_whole_batch = true;
    shape_rows(learnt_, center + scale, width);
    shape_rows(moving_, 2, width);
    moving_.moves = fraction;
    if (scale) std::fill_n(learnt_.value.data(), width, 1.0f);
    std::fill_n(moving_.value.data() + width, width, 1.0f);
}

std::vector<Parameter*> BatchNormalization::parameters() {
    if (learnt_.variables.empty()) return {&moving_};
    return {&learnt_, &moving_};
}

BatchNormalization::Statistics BatchNormalization::statistics(Scratch& scratch) const {
    double* all = doubles(scratch[kStatistics], 1 + checked_product(5, input_width));
    return {*all, all + 1, all + 1 + input_width, all + 1 + 2 * input_width, all + 1 + 3 * input_width};
}

// Of the batch's rows. The variance is the mean of squares, not an unbiased estimate, as in Keras.
void BatchNormalization::measure(const Input& input, Scratch& scratch, Statistics& s) const {
    const int64_t width = input_width;
    const auto rows = static_cast<double>(input.rows);
    s.per_row = 1.0 / rows;
    sum_rows(input.rows, width, scratch[kSums], s.mean, [&](int64_t row, double* to) {
        const float* from = input.data + row * width;
        for (int64_t i = 0; i < width; ++i) to[i] += from[i];
    });
    for (int64_t i = 0; i < width; ++i) s.mean[i] /= rows;
    sum_rows(input.rows, width, scratch[kSums], s.variance, [&](int64_t row, double* to) {
        const float* from = input.data + row * width;
        for (int64_t i = 0; i < width; ++i) to[i] += (from[i] - s.mean[i]) * (from[i] - s.mean[i]);
    });
    for (int64_t i = 0; i < width; ++i) s.variance[i] /= rows;
}

void BatchNormalization::forward(const Batch&, const Input& input, float* output, Scratch& scratch,
                                 const Mode& mode) const {
    const int64_t width = input_width;
    Statistics s = statistics(scratch);
    if (mode.dropping) {
        measure(input, scratch, s);
    } else {
        s.per_row = 0;
        std::copy_n(moving_.value.data(), width, s.mean);
        std::copy_n(moving_.value.data() + width, width, s.variance);
    }
    double *factors = s.sums, *offsets = s.sums + width;
    for (int64_t i = 0; i < width; ++i) {
        s.inverse[i] = 1.0 / std::sqrt(s.variance[i] + epsilon_);
        factors[i] = s.inverse[i] * gamma(i);
        offsets[i] = center_ ? learnt_.value.data()[(scale_ ? width : 0) + i] : 0.0f;
    }
    in_chunks(input.rows, width, [&](int64_t first, int64_t own) {
        const float* from = input.data + first * width;
        float* to = output + first * width;
        for (int64_t row = 0; row < own; ++row, from += width, to += width)
            for (int64_t i = 0; i < width; ++i)
                to[i] = static_cast<float>((from[i] - s.mean[i]) * factors[i] + offsets[i]);
    });
}

void BatchNormalization::backward(const Batch&, const Input& input, const float*, float* output_gradient,
                                  float* input_gradient, Scratch& scratch) {
    const int64_t width = input_width;
    const Statistics s = statistics(scratch);
    const double *sums = s.sums, *products = s.sums + width;  // of gradients, and of these and the normalized numbers
    sum_rows(input.rows, 2 * width, scratch[kSums], s.sums, [&](int64_t row, double* to) {
        const float *from = input.data + row * width, *gradient = output_gradient + row * width;
        for (int64_t i = 0; i < width; ++i) {
            to[i] += gradient[i];
            to[width + i] += gradient[i] * ((from[i] - s.mean[i]) * s.inverse[i]);
        }
    });
    for (int64_t i = 0; i < width; ++i) {
        if (scale_) scratch.gradients[0][i] = static_cast<float>(products[i]);
        if (center_) scratch.gradients[0][(scale_ ? width : 0) + i] = static_cast<float>(sums[i]);
        // They are the batch's, or the moving ones themselves.
        scratch.gradients.back()[i] = clamped(moving_.value.data()[i] - s.mean[i]);
        scratch.gradients.back()[width + i] = clamped(moving_.value.data()[width + i] - s.variance[i]);
    }
    if (!input_gradient) return;
    in_chunks(input.rows, width, [&](int64_t first, int64_t own) {
        const float *from = input.data + first * width, *gradient = output_gradient + first * width;
        float* to = input_gradient + first * width;
        for (int64_t row = 0; row < own; ++row, from += width, gradient += width, to += width)
            for (int64_t i = 0; i < width; ++i) {
                const double normal = (from[i] - s.mean[i]) * s.inverse[i];
                const double shared = (sums[i] + normal * products[i]) * s.per_row;
                to[i] = static_cast<float>((gradient[i] - shared) * (gamma(i) * s.inverse[i]));
            }
    });
}

}  // namespace bilstm
