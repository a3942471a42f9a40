// Weight gradients: sums over many rows, built of the micro-kernel's tiles.
#pragma once

#include <algorithm>
#include <vector>

#include "packed.h"
#include "product.h"

namespace bilstm {

// gradient (+)= sum over rows of (1, inputs of the row)^T x (the row's output gradients), in row order, so that each
// number is one chain over all rows. Rows come in runs; within a run the rows of one panel follow each other.
//   gather(run, row in run, float* to) writes the shape.rows - 1 inputs of a row, and may write zeros after them, up to
//   a vector's width;
//   run_rows(run) is the number of its rows;
//   run_panel(run, panel) is a pair: its first row of output gradients, and the floats from one row to the next.
// Works on panels [first_panel, last_panel), by chunks of rows that stay in cache.
template <typename Gather, typename RunRows, typename RunPanel>
void weight_gradient(const PackedShape& shape, float* gradient, int64_t first_panel, int64_t last_panel, int64_t runs,
                     int64_t total_rows, bool add, Buffer& scratch, Gather&& gather, RunRows&& run_rows,
                     RunPanel&& run_panel) {
    constexpr int64_t kGroup = kTileRows;
    const int64_t chunk = std::min<int64_t>(1024, total_rows);
    const int64_t groups = (shape.rows + kGroup - 1) / kGroup;
    float* packed = scratch.reserve(groups * (chunk + 1) * kGroup + 2 * kLanes);
    float* features = packed + groups * chunk * kGroup;  // and what gather writes beyond a row
    std::fill_n(features, groups * kGroup + 2 * kLanes, 0.0f);
    features[0] = 1.0f;
    struct Segment {
        int64_t run, begin, count;
    };
    static thread_local std::vector<Segment> segments;

    int64_t run = 0, row = 0;
    for (bool begun = add; run < runs; begun = true) {
        segments.clear();
        for (int64_t filled = 0; run < runs && filled < chunk;) {
            const int64_t count = std::min(run_rows(run) - row, chunk - filled);
            segments.push_back({run, row, count});
            for (int64_t i = 0; i < count; ++i, ++filled) {
                gather(run, row + i, features + 1);
                for (int64_t g = 0; g < groups; ++g)
                    std::memcpy(packed + (g * chunk + filled) * kGroup, features + g * kGroup, sizeof(float) * kGroup);
            }
            row += count;
            if (row == run_rows(run)) ++run, row = 0;
        }
        for (int64_t panel = first_panel; panel < last_panel; ++panel) {
            const int64_t width = shape.width(panel);
            with_vectors(width / kLanes, [&](auto vectors) {
                for (int64_t k = 0; k < shape.rows; k += kGroup)
                    with_rows(std::min(kGroup, shape.rows - k), [&](auto rows) {
                        constexpr int R = decltype(rows)::value, V = decltype(vectors)::value;
                        float* out = gradient + shape.start(panel) + k * width;
                        Vec sums[R][V] = {};
                        for (int r = 0; begun && r < R; ++r)
                            for (int v = 0; v < V; ++v) sums[r][v] = load(out + r * width + v * kLanes);
                        const float* feature = packed + k * chunk;
                        multiply_add_runs<kTileRows>(
                            static_cast<int64_t>(segments.size()),
                            [&](int64_t i, const float*(&a)[R]) {
                                const Segment& segment = segments[static_cast<size_t>(i)];
                                for (int r = 0; r < R; ++r) a[r] = feature + r;
                                feature += segment.count * kGroup;
                                const auto [first, step] = run_panel(segment.run, panel);
                                return Run{segment.count, first + segment.begin * step, step};
                            },
                            sums);
                        for (int r = 0; r < R; ++r)
                            for (int v = 0; v < V; ++v) store(out + r * width + v * kLanes, sums[r][v]);
                    });
            });
        }
    }
}

}  // namespace bilstm
