#include "dense.h"

#include <algorithm>
#include <utility>

#include "accumulate.h"
#include "threads.h"
#include "transpose.h"

namespace bilstm {
namespace {

constexpr int64_t kChunk = 64 * kTileRows;  // rows a task takes
constexpr int64_t kFewUnits = 2;

}  // namespace

Dense::Dense(int64_t inputs, int64_t units, Activation activation, bool biased) : activation_(activation) {
    input_width = inputs;
    output_width = units;
    shape_dense(weights_, inputs, units);
    if (!biased) weights_.drop_biases();
}

void Dense::forward(const Batch&, const Input& input, float* output, Scratch&, const Mode& mode) const {
    mode.rounded ? multiply<Bfloat16>(input, output) : multiply<float>(input, output);
}

template <typename Weight>
void Dense::multiply(const Input& input, float* output) const {
    const PackedShape& shape = weights_.shape;
    const int64_t inputs = input_width, units = output_width;
    parallel((input.rows + kChunk - 1) / kChunk, saturated_product(input.rows, inputs, units), [&](int64_t chunk) {
        const int64_t begin = chunk * kChunk, end = std::min(begin + kChunk, input.rows);
        for (int64_t panel = 0; panel < shape.panels(); ++panel) {
            const int64_t width = shape.width(panel);
            const float* biases = weights_.value.data() + shape.start(panel);
            const Weight* matrix = weights_.panels<Weight>() + shape.start(panel);
            with_vectors(width / kLanes, [&](auto vectors) {
                constexpr int V = decltype(vectors)::value;
                for_row_tiles<V>(begin, end, [&](auto rows, int64_t row) {
                    constexpr int R = decltype(rows)::value;
                    Vec sums[R][V];
                    const float* a[R];
                    for (int r = 0; r < R; ++r) {
                        a[r] = input.data + (row + r) * inputs;
                        for (int v = 0; v < V; ++v) sums[r][v] = load(biases + v * kLanes);
                    }
                    multiply_add<1>(a, inputs, matrix + V * kLanes, V * kLanes, sums);
                    for (int r = 0; r < R; ++r)
                        for (int v = 0; v < V; ++v) {
                            const int64_t column = panel * kPanel + v * kLanes;
                            store_partial(output + (row + r) * units + column, sums[r][v], units - column);
                        }
                });
            });
        }
        activate(activation_, output + begin * units, end - begin, units);
    });
}

void Dense::transpose(float* to) const {
    const PackedShape shape{output_width, round_up(input_width, kLanes)};
    for (int64_t panel = 0; panel < shape.panels(); ++panel)
        for (int64_t unit = 0; unit < output_width; unit += kPanel) {
            const int64_t first = panel * kPanel, width = shape.width(panel);
            const float* from = weights_.value.data() + weights_.shape.position(1 + first, unit);
            bilstm::transpose(from, weights_.shape.width(unit / kPanel), std::min(width, input_width - first),
                              std::min(kPanel, output_width - unit), to + shape.start(panel) + unit * width, width);
        }
}

// For few units, lanes run over the inputs: each number is the same chain over the rows.
void Dense::gradient_of_few_units(const Input& input, const float* rows, float* gradient) const {
    constexpr int V = 4;
    const int64_t inputs = input_width, padded = weights_.shape.columns;
    for (int64_t unit = 0; unit < output_width; ++unit) {
        float bias = 0;
        for (int64_t row = 0; row < input.rows; ++row) bias += rows[row * padded + unit];
        gradient[unit] = weights_.biased ? bias : 0.0f;
        for (int64_t first = 0; first < inputs; first += V * kLanes)
            with_vectors(std::min<int64_t>(V, (inputs - first + kLanes - 1) / kLanes), [&](auto vectors) {
                constexpr int kVectors = decltype(vectors)::value;
                Vec sums[1][kVectors] = {};
                const float* a[1] = {rows + unit};
                // The lanes beyond a row's end are the next row's, and are left out.
                for (int64_t row = 0; row < input.rows; ++row, a[0] += padded)
                    multiply_add<1>(a, 1, input.data + row * inputs + first, 0, sums);
                for (int64_t i = 0; i < std::min<int64_t>(kVectors * kLanes, inputs - first); ++i)
                    gradient[(1 + first + i) * padded + unit] = sums[0][i / kLanes][i % kLanes];
            });
    }
}

void Dense::backward(const Batch&, const Input& input, const float* output, float* output_gradient,
                     float* input_gradient, Scratch& scratch) {
    const int64_t inputs = input_width, units = output_width, padded = weights_.shape.columns;
    const int64_t work = saturated_product(input.rows, inputs, units);
    // Rows of gradients, padded with zeros to whole vectors.
    float* rows = scratch[kRows].reserve(checked_product(input.rows, padded));
    for (int64_t row = 0; row < input.rows; ++row) {
        float* gradient = output_gradient + row * units;
        if (!skip_activation_gradient_) activation_gradient(activation_, output + row * units, gradient, units);
        copy_padded(gradient, units, rows + row * padded);
    }
    if (units <= kFewUnits)
        gradient_of_few_units(input, rows, scratch.gradients[0]);
    else
        weight_gradient<AllWeights>(
            weights_.shape, 0, scratch.gradients[0], 0, weights_.shape.panels(), input.rows, false, scratch[kPack],
            weights_.shape.rows, weights_.bias_feature(),
            [&, row = input.data](float* to) mutable {
                copy_padded(row, inputs, to);
                row += inputs;
            },
            [&](int64_t panel) { return std::pair<const float*, int64_t>(rows + panel * kPanel, padded); });
    if (!input_gradient) return;

    const PackedShape shape{units, round_up(inputs, kLanes)};
    float* transposed = scratch[kTransposed].reserve(shape.size());
    transpose(transposed);
    parallel((input.rows + kChunk - 1) / kChunk, work, [&](int64_t chunk) {
        const int64_t begin = chunk * kChunk, end = std::min(begin + kChunk, input.rows);
        for (int64_t panel = 0; panel < shape.panels(); ++panel)
            with_vectors(shape.width(panel) / kLanes, [&](auto vectors) {
                constexpr int V = decltype(vectors)::value;
                for_row_tiles<V>(begin, end, [&](auto tile, int64_t row) {
                    constexpr int R = decltype(tile)::value;
                    Vec sums[R][V];
                    clear(sums);
                    const float* a[R];
                    for (int r = 0; r < R; ++r) a[r] = rows + (row + r) * padded;
                    multiply_add<1>(a, units, transposed + shape.start(panel), V * kLanes, sums);
                    for (int r = 0; r < R; ++r)
                        for (int v = 0; v < V; ++v) {
                            const int64_t column = panel * kPanel + v * kLanes;
                            store_partial(input_gradient + (row + r) * inputs + column, sums[r][v], inputs - column);
                        }
                });
            });
    });
}

}  // namespace bilstm
