// Weight gradients: sums over many rows, built of the micro-kernel's tiles.
#pragma once

#include <algorithm>
#include <vector>

#include "packed.h"
#include "product.h"

namespace bilstm {

// Which gradients make which weights. Parts::each calls visit(begin, end, shift, First, Count, Third): rows [begin,
// end) of the weights, whose features lie `shift` further on, and Count of a panel's vectors from First on; their
// gradients are the vectors of the same numbers, but for vector 2, which has those of vector Third.
struct AllWeights {
    template <typename Visit>
    [[gnu::always_inline]] static void each(const PackedShape& shape, int64_t, int64_t panel, Visit&& visit) {
        with_vectors(shape.width(panel) / kLanes,
                     [&](auto vectors) { visit(0, shape.rows, 0, Constant<0>{}, vectors, Constant<2>{}); });
    }
};

// gradient (+)= sum over rows of (bias, inputs of the row)^T x (the row's output gradients), in row order, so that each
// number is one chain over all rows.
//   bias is a Parameter's bias_feature;
//   gather(float* to) writes the `features` - 1 inputs of the next row, and may write zeros after them, up to a
//   vector's width; panel_rows(panel) is a pair: the first row of its output gradients, and the floats from one row to
//   the next. `split` is for Parts::each.
// Works on panels [first_panel, last_panel), by chunks of rows whose gradients stay in the nearest cache.
template <typename Parts, typename Gather, typename PanelRows>
void weight_gradient(const PackedShape& shape, int64_t split, float* gradient, int64_t first_panel, int64_t last_panel,
                     int64_t rows, bool add, Buffer& scratch, int64_t features, float bias, Gather&& gather,
                     PanelRows&& panel_rows) {
    // Some rows are gathered before they are packed: to read what was only just written, in other pieces, is slow.
    constexpr int64_t kGroup = kTileRows, kChunk = 128, kGathered = 8;
    const int64_t groups = (features + kGroup - 1) / kGroup;
    const int64_t group_step = std::min(kChunk, rows) * kGroup + kCacheSkew;
    const int64_t features_step = groups * kGroup + 2 * kLanes;  // with what gather writes beyond a row
    float* packed = scratch.reserve(groups * group_step + kGathered * features_step);
    float* gathered_rows = packed + groups * group_step;
    std::fill_n(gathered_rows, kGathered * features_step, 0.0f);
    for (int64_t begin = 0; begin < rows; begin += kChunk) {
        const int64_t count = std::min(kChunk, rows - begin);
        for (int64_t row = 0; row < count; row += kGathered) {
            const int64_t gathered = std::min(kGathered, count - row);
            for (int64_t i = 0; i < gathered; ++i) {
                gathered_rows[i * features_step] = bias;
                gather(gathered_rows + i * features_step + 1);
            }
            for (int64_t g = 0; g < groups; ++g)
                for (int64_t i = 0; i < gathered; ++i)
                    std::memcpy(packed + g * group_step + (row + i) * kGroup,
                                gathered_rows + i * features_step + g * kGroup, sizeof(float) * kGroup);
        }
        const bool begun = add || begin;
        for (int64_t panel = first_panel; panel < last_panel; ++panel) {
            const int64_t width = shape.width(panel);
            const auto [first, step] = panel_rows(panel);
            const float* gradients = first + begin * step;
            Parts::each(
                shape, split, panel,
                [&, step = step](int64_t top, int64_t bottom, int64_t shift, auto from, auto vectors, auto third) {
                    constexpr int V = decltype(vectors)::value, kFrom = decltype(from)::value;
                    constexpr auto source = [](int v) { return kFrom + v == 2 ? decltype(third)::value : kFrom + v; };
                    for_row_tiles<V>(top, bottom, [&](auto tile, int64_t k) {
                        constexpr int R = decltype(tile)::value;
                        float* out = gradient + shape.start(panel) + k * width + kFrom * kLanes;
                        Vec sums[R][V];
                        clear(sums);
                        const float* a[R];
                        for (int r = 0; r < R; ++r) {
                            const int64_t feature = k + r + shift;
                            a[r] = packed + feature / kGroup * group_step + feature % kGroup;
                            for (int v = 0; begun && v < V; ++v) sums[r][v] = load(out + r * width + v * kLanes);
                        }
                        multiply_add<kGroup, V>(
                            a, count, [&](int64_t i, int v) { return gradients + i * step + source(v) * kLanes; },
                            sums);
                        for (int r = 0; r < R; ++r)
                            for (int v = 0; v < V; ++v) store(out + r * width + v * kLanes, sums[r][v]);
                    });
                });
        }
    }
}

}  // namespace bilstm
