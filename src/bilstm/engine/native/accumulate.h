// Weight gradients: sums over many rows, built of the micro-kernel's tiles.
#pragma once

#include <algorithm>
#include <vector>

#include "packed.h"
#include "product.h"

namespace bilstm {

// gradient (+)= sum over rows of (1, inputs of the row)^T x (the row's output gradients), in row order, so that each
// number is one chain over all rows.
//   gather(float* to) writes the shape.rows - 1 inputs of the next row, and may write zeros after them, up to a
//   vector's width; panel_rows(panel) is a pair: the first row of its output gradients, and the floats from one row to
//   the next.
// Works on panels [first_panel, last_panel), by chunks of rows whose gradients stay in the nearest cache.
template <typename Gather, typename PanelRows>
void weight_gradient(const PackedShape& shape, float* gradient, int64_t first_panel, int64_t last_panel, int64_t rows,
                     bool add, Buffer& scratch, Gather&& gather, PanelRows&& panel_rows) {
    // Some rows are gathered before they are packed: to read what was only just written, in other pieces, is slow.
    constexpr int64_t kGroup = kTileRows, kChunk = 128, kGathered = 8;
    const int64_t groups = (shape.rows + kGroup - 1) / kGroup;
    const int64_t group_step = std::min(kChunk, rows) * kGroup + kCacheSkew;
    const int64_t features_step = groups * kGroup + 2 * kLanes;  // with what gather writes beyond a row
    float* packed = scratch.reserve(groups * group_step + kGathered * features_step);
    float* features = packed + groups * group_step;
    std::fill_n(features, kGathered * features_step, 0.0f);
    for (int64_t begin = 0; begin < rows; begin += kChunk) {
        const int64_t count = std::min(kChunk, rows - begin);
        for (int64_t row = 0; row < count; row += kGathered) {
            const int64_t gathered = std::min(kGathered, count - row);
            for (int64_t i = 0; i < gathered; ++i) {
                features[i * features_step] = 1.0f;
                gather(features + i * features_step + 1);
            }
            for (int64_t g = 0; g < groups; ++g)
                for (int64_t i = 0; i < gathered; ++i)
                    std::memcpy(packed + g * group_step + (row + i) * kGroup, features + i * features_step + g * kGroup,
                                sizeof(float) * kGroup);
        }
        const bool begun = add || begin;
        for (int64_t panel = first_panel; panel < last_panel; ++panel) {
            const int64_t width = shape.width(panel);
            const auto [first, step] = panel_rows(panel);
            const float* gradients = first + begin * step;
            with_vectors(width / kLanes, [&, step = step](auto vectors) {
                constexpr int V = decltype(vectors)::value;
                for_row_tiles<V>(0, shape.rows, [&](auto tile, int64_t k) {
                    constexpr int R = decltype(tile)::value;
                    float* out = gradient + shape.start(panel) + k * width;
                    Vec sums[R][V] = {};
                    const float* a[R];
                    for (int r = 0; r < R; ++r) {
                        a[r] = packed + (k + r) / kGroup * group_step + (k + r) % kGroup;
                        for (int v = 0; begun && v < V; ++v) sums[r][v] = load(out + r * width + v * kLanes);
                    }
                    multiply_add<kGroup>(a, count, gradients, step, sums);
                    for (int r = 0; r < R; ++r)
                        for (int v = 0; v < V; ++v) store(out + r * width + v * kLanes, sums[r][v]);
                });
            });
        }
    }
}

}  // namespace bilstm
