// Divides a batch among threads by its sequences, which are independent of each other.
#pragma once

#include <algorithm>
#include <vector>

#include "batch.h"
#include "threads.h"

namespace bilstm {

// Cuts the sorted sequences into at most `parts` ranges of about equal numbers of steps; returns their bounds.
inline std::vector<int64_t> equal_ranges(const Batch& batch, int64_t parts) {
    std::vector<int64_t> bounds{0};
    int64_t steps = 0;
    for (int64_t row = 0; row < batch.sequences; ++row) {
        steps += batch.length[static_cast<size_t>(row)];
        const auto cut = static_cast<int64_t>(bounds.size());
        if (cut < parts && steps * parts >= batch.steps * cut && row + 1 < batch.sequences) bounds.push_back(row + 1);
    }
    bounds.push_back(batch.sequences);
    return bounds;
}

// Calls function(direction, first, last) for every direction and range of the sorted sequences.
template <typename Function>
void for_each_range(const Batch& batch, int64_t directions, int64_t work, Function&& function) {
    const auto bounds = equal_ranges(batch, std::max<int64_t>(1, threads_here() / directions));
    const auto ranges = static_cast<int64_t>(bounds.size()) - 1;
    parallel(directions * ranges, work, [&](int64_t task) {
        const auto range = static_cast<size_t>(task / directions);
        function(static_cast<size_t>(task % directions), bounds[range], bounds[range + 1]);
    });
}

}  // namespace bilstm
