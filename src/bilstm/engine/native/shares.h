// How a training step is divided: the shares of a batch, whose gradients are computed apart, and their sum.
//
// The shares depend on the lengths of the batch's sequences alone, and no order of additions changes the sum. So the
// gradients have the same bits, whichever threads, or processes, compute which shares.
#pragma once

#include <cstdint>
#include <vector>

namespace bilstm {

// Sequences that are worth a share of their own, and into how many shares a batch is divided at most.
inline constexpr int64_t kShareSequences = 16, kMostShares = 8;

// Positions in a batch, share by share: share i is order[bounds[i]] … order[bounds[i + 1] - 1].
class Division {
  public:
    std::vector<int64_t> order, bounds;

    int64_t shares() const { return static_cast<int64_t>(bounds.size()) - 1; }
    // At most this number of shares, of about equal numbers of sequences and steps. One share keeps the batch's order.
    void divide(const int64_t* lengths, int64_t count, int64_t most = kMostShares);

  private:
    std::vector<int64_t> sorted_;  // kept between calls
};

// Adds gradients of shares. The sum of two float32 numbers in float64 is the same in any order, and so is that of more
// once each is rounded to a multiple of one quantum, about 2^-50 of the largest magnitude among all: then no addition
// rounds.
class ExactSum {
  public:
    // `magnitude`: see `largest`; it is not read for at most two shares.
    ExactSum(int64_t shares, float magnitude);
    // The number as it is to be added.
    double term(float number) const { return (static_cast<double>(number) + shift_) - shift_; }
    // sums += numbers
    void add(const float* numbers, int64_t count, double* sums) const;

  private:
    double shift_;  // so large that float64 has no digits below the quantum when added to it
};

// The largest finite magnitude among numbers, or 0.
float largest(const float* numbers, int64_t count);

}  // namespace bilstm
