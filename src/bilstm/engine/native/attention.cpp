#include "attention.h"

#include <algorithm>

#include "elementary.h"
#include "product.h"
#include "threads.h"

namespace bilstm {
namespace {

constexpr int64_t kChunk = 512;          // rows that stay in cache
constexpr int64_t kPiece = 32 * kChunk;  // rows of which a prediction holds the hidden numbers at a time

// In 16 interleaved chains, whatever the vector's width.
float dot(const float* a, const float* b, int64_t count) {
    constexpr int kChains = 16;
    float sums[kChains] = {};
    int64_t i = 0;
    for (; i + kChains <= count; i += kChains)
        for (int chain = 0; chain < kChains; ++chain) sums[chain] += a[i + chain] * b[i + chain];
    for (int chain = 0; i < count; ++i, ++chain) sums[chain] += a[i] * b[i];
    for (int half = kChains / 2; half > 0; half /= 2)
        for (int chain = 0; chain < half; ++chain) sums[chain] += sums[chain + half];
    return sums[0];
}

// to = sum over rows of weight * row, first to last: a chain for each chunk of rows, and one of the chunks. Reads less
// than a vector's width beyond the last row, which buffers have room for.
void weighted_sum(const float* weights, const float* rows, int64_t count, int64_t width, float* to) {
    for (int64_t begin = 0; begin < count; begin += kChunk)
        for (int64_t column = 0; column < width; column += kPanel)
            with_vectors((std::min(kPanel, width - column) + kLanes - 1) / kLanes, [&](auto vectors) {
                constexpr int V = decltype(vectors)::value;
                const float* a[1] = {weights + begin};
                Vec sums[1][V] = {};
                multiply_add<1>(a, std::min(kChunk, count - begin), rows + begin * width + column, width, sums);
                for (int v = 0; v < V; ++v) {
                    const int64_t at = column + v * kLanes;
                    const Vec before = begin ? load_partial(to + at, width - at) : Vec{};
                    store_partial(to + at, before + sums[0][v], width - at);
                }
            });
}

// A sequence's scores -> their softmax, in place. A NaN makes all of them NaN.
void softmax(float* scores, int64_t steps) {
    float most = scores[0];
    for (int64_t i = 1; i < steps; ++i) most = scores[i] > most || scores[i] != scores[i] ? scores[i] : most;
    for (int64_t i = 0; i < steps; i += kLanes)
        store_partial(scores + i, exponential(load_partial(scores + i, steps - i) - most), steps - i);
    double total = 0;
    for (int64_t i = 0; i < steps; ++i) total += scores[i];
    const float divisor = static_cast<float>(total);
    for (int64_t i = 0; i < steps; i += kLanes)
        store_partial(scores + i, without_vanishing(load_partial(scores + i, steps - i) / divisor), steps - i);
}

// Gradients of the softmax's outputs -> of its inputs, in place.
void softmax_gradient(const float* weights, float* gradients, int64_t steps) {
    double mean = 0;
    for (int64_t i = 0; i < steps; ++i) mean += static_cast<double>(weights[i]) * gradients[i];
    const float shift = static_cast<float>(mean);
    for (int64_t i = 0; i < steps; i += kLanes) {
        const Vec gradient = load_partial(weights + i, steps - i) * (load_partial(gradients + i, steps - i) - shift);
        store_partial(gradients + i, without_vanishing(gradient), steps - i);
    }
}

}  // namespace

AttentionPooling::AttentionPooling(int64_t width, int64_t units) : hidden_(width, units, Activation::tanh) {
    input_width = output_width = width;
    one_row_each = true;
    query_.shape = {1, units};
    query_.variables = {{1, units, 0}};
    for (int64_t unit = 0; unit < units; ++unit) query_.columns.push_back(unit);
    query_.plain = true;
    query_.allocate();
}

std::vector<Parameter*> AttentionPooling::parameters() {
    auto all = hidden_.parameters();
    all.push_back(&query_);
    return all;
}

// In training keeps tanh(W x + b) of all rows.
void AttentionPooling::score_rows(const Batch& batch, const Input& input, float* scores, Scratch& scratch,
                                  const Mode& mode) const {
    const int64_t units = hidden_.output_width, piece = mode.training ? input.rows : std::min(kPiece, input.rows);
    float* hidden = scratch[kHidden].reserve(checked_product(piece, units));
    for (int64_t first = 0; first < input.rows; first += piece) {
        const int64_t rows = std::min(piece, input.rows - first);
        hidden_.forward(batch, {input.data + first * input_width, nullptr, rows}, hidden, scratch, mode);
        parallel((rows + kChunk - 1) / kChunk, rows * units, [&](int64_t chunk) {
            for (int64_t row = chunk * kChunk; row < std::min(rows, (chunk + 1) * kChunk); ++row)
                scores[first + row] = dot(hidden + row * units, query_.value.data(), units);
        });
    }
}

void AttentionPooling::forward(const Batch& batch, const Input& input, float* output, Scratch& scratch,
                               const Mode& mode) const {
    const int64_t width = input_width;
    float* weights = scratch[kWeights].reserve(input.rows);
    score_rows(batch, input, weights, scratch, mode);
    parallel(batch.sequences, input.rows * width, [&](int64_t sorted) {
        const auto i = static_cast<size_t>(sorted);
        float* own = weights + batch.start[i];
        softmax(own, batch.length[i]);
        weighted_sum(own, input.data + batch.start[i] * width, batch.length[i], width, output + batch.order[i] * width);
    });
}

void AttentionPooling::backward(const Batch& batch, const Input& input, const float*, float* output_gradient,
                                float* input_gradient, Scratch& scratch) {
    const int64_t width = input_width, units = hidden_.output_width;
    const float* hidden = scratch[kHidden].data();
    const float* weights = scratch[kWeights].data();
    float* by_score = scratch[kWeightGradients].reserve(input.rows);
    float* by_hidden = scratch[kHiddenGradients].reserve(checked_product(input.rows, units));
    parallel(batch.sequences, input.rows * (width + units), [&](int64_t sorted) {
        const auto i = static_cast<size_t>(sorted);
        const int64_t begin = batch.start[i], end = begin + batch.length[i];
        const float* gradient = output_gradient + batch.order[i] * width;
        for (int64_t row = begin; row < end; ++row) by_score[row] = dot(gradient, input.data + row * width, width);
        softmax_gradient(weights + begin, by_score + begin, end - begin);
        const float* query = query_.value.data();
        for (int64_t row = begin; row < end; ++row)
            for (int64_t k = 0; k < units; ++k) by_hidden[row * units + k] = by_score[row] * query[k];
    });
    weighted_sum(by_score, hidden, input.rows, units, scratch.gradients[1]);
    hidden_.backward(batch, input, hidden, by_hidden, input_gradient, scratch);
    if (!input_gradient) return;
    parallel(batch.sequences, input.rows * width, [&](int64_t sorted) {
        const auto i = static_cast<size_t>(sorted);
        const float* gradient = output_gradient + batch.order[i] * width;
        for (int64_t row = batch.start[i]; row < batch.start[i] + batch.length[i]; ++row)
            for (int64_t k = 0; k < width; ++k) input_gradient[row * width + k] += weights[row] * gradient[k];
    });
}

}  // namespace bilstm
