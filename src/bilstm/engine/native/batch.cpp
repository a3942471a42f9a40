#include "batch.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "memory.h"

namespace bilstm {

void Batch::arrange(const int64_t* offsets, const int64_t* chosen, int64_t count) {
    const auto n = static_cast<size_t>(count);
    const auto steps_of = [&](int64_t i) { return offsets[chosen[i] + 1] - offsets[chosen[i]]; };
    sequences = count;
    for (auto* index : {&order, &sequence, &length, &start, &source}) index->resize(n);
    steps = 0;
    for (size_t i = 0; i < n; ++i) {
        const int64_t own = steps_of(static_cast<int64_t>(i));
        if (own == 0) throw Invalid("sequence " + std::to_string(chosen[i]) + " has no steps");
        order[i] = static_cast<int64_t>(i);
        steps += own;
    }
    const auto longer = [&](int64_t a, int64_t b) { return steps_of(a) > steps_of(b); };
    if (!std::is_sorted(order.begin(), order.end(), longer))  // to sort takes memory
        std::stable_sort(order.begin(), order.end(), longer);
    std::vector<int64_t>& first_row = active;  // borrowed until it gets its own contents
    first_row.resize(n);
    int64_t row = 0;
    for (size_t i = 0; i < n; ++i) {
        first_row[i] = row;
        row += steps_of(static_cast<int64_t>(i));
    }
    for (size_t sorted = 0; sorted < n; ++sorted) {
        const int64_t position = order[sorted];
        sequence[sorted] = chosen[position];
        length[sorted] = steps_of(position);
        start[sorted] = first_row[static_cast<size_t>(position)];
        source[sorted] = offsets[chosen[position]];
    }
    longest = count ? length[0] : 0;
    active.resize(static_cast<size_t>(longest));
    step_start.resize(static_cast<size_t>(longest));
    int64_t running = count, total = 0;
    for (int64_t t = 0; t < longest; ++t) {
        while (length[static_cast<size_t>(running - 1)] <= t) --running;
        active[static_cast<size_t>(t)] = running;
        step_start[static_cast<size_t>(t)] = total;
        total += running;
    }
}

void Batch::settle() {
    for (auto* numbers : {&order, &sequence, &length, &start, &source, &active, &step_start}) bilstm::settle(*numbers);
}

}  // namespace bilstm
