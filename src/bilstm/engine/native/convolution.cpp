#include "convolution.h"

#include <algorithm>
#include <utility>

#include "accumulate.h"
#include "threads.h"
#include "transpose.h"

namespace bilstm {
namespace {

constexpr int64_t kChunk = 64 * kTileRows;  // rows a task takes

// The rows of one sequence, with zeros beyond its ends.
struct Padded {
    const float* rows;
    int64_t steps, width;
    const float* zeros;

    const float* operator[](int64_t step) const { return step >= 0 && step < steps ? rows + step * width : zeros; }
};

// Which steps a window of `count` rows takes, from its first on.
struct Taps {
    int64_t count, dilation;

    // Whether all rows of these windows lie in the sequence, each window's one after the other.
    bool together(const Padded& from, int64_t first, int64_t windows) const {
        return dilation == 1 && first >= 0 && first + windows - 1 + count <= from.steps;
    }
};

// sums[r] += the window that begins at step first + r times the matrix: one chain over its taps and their numbers, in
// order. Zeros beyond the ends take part, so that the bits do not depend on which windows share a tile.
template <int Rows, int Vectors, typename Weight>
[[gnu::always_inline]] inline void add_windows(const Padded& from, int64_t first, const Taps& taps,
                                               const Weight* matrix, Vec (&sums)[Rows][Vectors]) {
    constexpr int64_t kStep = Vectors * kLanes;
    const bool together = taps.together(from, first, Rows);
    const int64_t runs = together ? 1 : taps.count, depth = together ? taps.count * from.width : from.width;
    for (int64_t run = 0; run < runs; ++run) {
        const float* a[Rows];
        for (int r = 0; r < Rows; ++r) a[r] = from[first + r + run * taps.dilation];
        multiply_add<1>(a, depth, matrix + run * depth * kStep, kStep, sums);
    }
}

// Writes `width` numbers for each step of a sequence: biases, if any, plus the product of the window that begins
// `before` steps earlier and a packed matrix. Calls finish(first step, last) for steps that are written.
template <typename Weight, typename Finish>
void convolve(const Padded& from, const Taps& taps, int64_t before, const PackedShape& shape, const float* biases,
              const Weight* matrix, int64_t width, float* to, const Finish& finish) {
    const int64_t work = saturated_product(from.steps, shape.size());
    parallel((from.steps + kChunk - 1) / kChunk, work, [&](int64_t chunk) {
        const int64_t begin = chunk * kChunk, end = std::min(begin + kChunk, from.steps);
        for (int64_t panel = 0; panel < shape.panels(); ++panel) {
            const float* bias = biases ? biases + shape.start(panel) : nullptr;
            const Weight* rows = matrix + shape.start(panel) + (bias ? shape.width(panel) : 0);
            with_vectors(shape.width(panel) / kLanes, [&](auto vectors) {
                constexpr int V = decltype(vectors)::value;
                for_row_tiles<V>(begin, end, [&](auto tile, int64_t step) {
                    constexpr int R = decltype(tile)::value;
                    Vec sums[R][V];
                    for (int r = 0; r < R; ++r)
                        for (int v = 0; v < V; ++v) sums[r][v] = bias ? load(bias + v * kLanes) : Vec{};
                    add_windows(from, step - before, taps, rows, sums);
                    for (int r = 0; r < R; ++r)
                        for (int v = 0; v < V; ++v) {
                            const int64_t column = panel * kPanel + v * kLanes;
                            store_partial(to + (step + r) * width + column, sums[r][v], width - column);
                        }
                });
            });
        }
        finish(begin, end);
    });
}

// Writes one window.
void copy_window(const Padded& from, int64_t first, const Taps& taps, float* to) {
    if (taps.together(from, first, 1)) {
        std::copy_n(from[first], taps.count * from.width, to);
        return;
    }
    for (int64_t tap = 0; tap < taps.count; ++tap, to += from.width)
        std::copy_n(from[first + tap * taps.dilation], from.width, to);
}

}  // namespace

Convolution::Convolution(int64_t inputs, int64_t units, int64_t taps, int64_t dilation, bool causal,
                         Activation activation, bool biased)
    : taps_(taps), dilation_(dilation), activation_(activation) {
    input_width = inputs;
    output_width = units;
    takes_gaps = true;
    reads_around = taps > 1;
    const int64_t others = (taps - 1) * dilation;
    before_ = causal ? others : others / 2;
    after_ = others - before_;
    shape_dense(weights_, checked_product(taps, inputs), units);
    if (!biased) weights_.drop_biases();
    zeros_.reserve_zeroed(std::max(inputs, units));
}

void Convolution::forward(const Batch& batch, const Input& input, float* output, Scratch&, const Mode& mode) const {
    mode.rounded ? multiply<Bfloat16>(batch, input, output) : multiply<float>(batch, input, output);
}

template <typename Weight>
void Convolution::multiply(const Batch& batch, const Input& input, float* output) const {
    const int64_t inputs = input_width, units = output_width;
    parallel(batch.sequences, saturated_product(batch.steps, weights_.shape.size()), [&](int64_t sorted) {
        const auto i = static_cast<size_t>(sorted);
        const Padded from{input.data + input.starts[i] * inputs, batch.length[i], inputs, zeros_.data()};
        float* to = output + batch.start[i] * units;
        convolve(from, {taps_, dilation_}, before_, weights_.shape, weights_.value.data(), weights_.panels<Weight>(),
                 units, to,
                 [&](int64_t begin, int64_t end) { activate(activation_, to + begin * units, end - begin, units); });
    });
}

// The weights by which a window of gradients gives an input's: its rows are the units of each tap, the latest tap
// first.
void Convolution::transpose(const PackedShape& shape, float* to) const {
    for (int64_t tap = 0; tap < taps_; ++tap)
        for (int64_t panel = 0; panel < shape.panels(); ++panel)
            for (int64_t unit = 0; unit < output_width; unit += kPanel) {
                const int64_t first = panel * kPanel, width = shape.width(panel);
                const int64_t row = (taps_ - 1 - tap) * output_width + unit;
                const float* from =
                    weights_.value.data() + weights_.shape.position(1 + tap * input_width + first, unit);
                bilstm::transpose(from, weights_.shape.width(unit / kPanel), std::min(width, input_width - first),
                                  std::min(kPanel, output_width - unit), to + shape.start(panel) + row * width, width);
            }
}

// `rows`: the gradients of all steps, padded to whole vectors, sequence by sequence in the batch's sorted order.
void Convolution::weights_gradient(const Batch& batch, const Input& input, const float* rows, Scratch& scratch) {
    const int64_t padded = weights_.shape.columns;
    size_t i = 0;
    int64_t step = 0;
    const auto next_window = [&](float* to) {
        const float* first = input.data + input.starts[i] * input_width;
        const Padded from{first, batch.length[i], input_width, zeros_.data()};
        copy_window(from, step - before_, {taps_, dilation_}, to);
        if (++step == batch.length[i]) ++i, step = 0;
    };
    weight_gradient<AllWeights>(
        weights_.shape, 0, scratch.gradients[0], 0, weights_.shape.panels(), batch.steps, false, scratch[kPack],
        weights_.shape.rows, weights_.bias_feature(), next_window,
        [&](int64_t panel) { return std::pair<const float*, int64_t>(rows + panel * kPanel, padded); });
}

void Convolution::backward(const Batch& batch, const Input& input, const float* output, float* output_gradient,
                           float* input_gradient, Scratch& scratch) {
    const int64_t inputs = input_width, units = output_width, padded = weights_.shape.columns;
    float* rows = scratch[kRows].reserve(checked_product(batch.steps, padded));
    float* to = rows;
    for (size_t i = 0; i < batch.start.size(); ++i)
        for (int64_t row = batch.start[i]; row < batch.start[i] + batch.length[i]; ++row, to += padded) {
            activation_gradient(activation_, output + row * units, output_gradient + row * units, units);
            copy_padded(output_gradient + row * units, units, to);
        }
    weights_gradient(batch, input, rows, scratch);
    if (!input_gradient) return;

    // An input's gradient is a convolution, too: of the gradients of the steps whose windows it is in.
    const PackedShape shape{taps_ * units, round_up(inputs, kLanes)};
    float* transposed = scratch[kTransposed].reserve(shape.size());
    transpose(shape, transposed);
    parallel(batch.sequences, saturated_product(batch.steps, shape.size()), [&](int64_t sorted) {
        const int64_t start = batch.start[static_cast<size_t>(sorted)];
        const Padded from{output_gradient + start * units, batch.length[static_cast<size_t>(sorted)], units,
                          zeros_.data()};
        convolve(from, {taps_, dilation_}, after_, shape, nullptr, static_cast<const float*>(transposed), inputs,
                 input_gradient + start * inputs, [](int64_t, int64_t) {});
    });
}

}  // namespace bilstm
