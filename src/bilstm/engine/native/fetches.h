// Lines of cache that are needed soon, asked for a few at a time while something else is computed: a processor that
// has asked for some twenty waits for the first.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "vector.h"

namespace bilstm {

// Most: of the runs of numbers that are added.
template <int Most>
class Fetches {
  public:
    // Numbers that lie together.
    void add(const float* from, int64_t count) {
        runs_[static_cast<size_t>(count_++)] = {from, from + count};
        lines_ += (count + kLine - 1) / kLine;
    }
    // All are then asked for in this number of turns.
    void divide(int64_t turns) { each_ = (lines_ + turns - 1) / std::max<int64_t>(turns, 1); }
    [[gnu::always_inline]] void turn() {
        for (int64_t n = 0; n < each_ && at_ < count_; ++n) {
            auto& [from, end] = runs_[static_cast<size_t>(at_)];
            __builtin_prefetch(from);
            from += kLine;
            if (from >= end) ++at_;
        }
    }

  private:
    struct Run {
        const float *from, *end;
    };
    std::array<Run, Most> runs_;
    int count_ = 0, at_ = 0;
    int64_t lines_ = 0, each_ = 0;
};

}  // namespace bilstm
