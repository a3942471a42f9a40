// Which sequences are computed together, and in what order their steps are stored.
#pragma once

#include <cstdint>
#include <vector>

namespace bilstm {

// Sequences are sorted by length, longest first, so that the ones still running at a step are a prefix. `sorted`
// indexes below are positions in that order. Rows of compact buffers follow the order in which the caller named the
// sequences.
struct Batch {
    int64_t sequences = 0;
    int64_t steps = 0;                // of all sequences together
    int64_t longest = 0;              // steps of the longest
    std::vector<int64_t> order;       // sorted -> position in the batch
    std::vector<int64_t> sequence;    // sorted -> sequence of the caller's data
    std::vector<int64_t> length;      // sorted -> steps
    std::vector<int64_t> start;       // sorted -> first row in compact buffers
    std::vector<int64_t> source;      // sorted -> first row in the caller's data
    std::vector<int64_t> active;      // step -> sequences that have it
    std::vector<int64_t> step_start;  // step -> steps of all sequences before it, in step order

    // chosen: `count` sequences of data with `offsets`, which the caller has checked. Throws Invalid for one without
    // steps.
    void arrange(const int64_t* offsets, const int64_t* chosen, int64_t count);
    // Between calls: gives memory back of which little was used.
    void settle();
};

}  // namespace bilstm
