#include "shares.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

namespace bilstm {

void Division::divide(const int64_t* lengths, int64_t count, int64_t most) {
    const int64_t shares = std::clamp<int64_t>(count / kShareSequences, 1, most);
    order.resize(static_cast<size_t>(count));
    bounds.assign(1, 0);
    if (shares == 1) {
        std::iota(order.begin(), order.end(), int64_t{0});
        bounds.push_back(count);
        return;
    }
    sorted_.resize(static_cast<size_t>(count));
    std::iota(sorted_.begin(), sorted_.end(), int64_t{0});
    const auto longer = [&](int64_t a, int64_t b) { return lengths[a] > lengths[b]; };
    if (!std::is_sorted(sorted_.begin(), sorted_.end(), longer))  // to sort takes memory
        std::stable_sort(sorted_.begin(), sorted_.end(), longer);
    auto next = order.begin();
    for (int64_t share = 0; share < shares; ++share) {
        for (int64_t i = share; i < count; i += shares) *next++ = sorted_[static_cast<size_t>(i)];
        bounds.push_back(next - order.begin());
    }
}

ExactSum::ExactSum(int64_t shares, float magnitude) : shift_(0) {
    if (shares <= 2) return;
    static_assert(kMostShares == 8);  // numbers of at most 2^50 quanta make sums of at most 2^53
    int exponent = 0;
    std::frexp(magnitude, &exponent);
    shift_ = std::ldexp(1.5, exponent - 50 + 52);
}

void ExactSum::add(const float* numbers, int64_t count, double* sums) const {
    for (int64_t i = 0; i < count; ++i) sums[i] += term(numbers[i]);
}

// Of float32 numbers without a sign, the greater has the greater bits.
float largest(const float* numbers, int64_t count) {
    constexpr int32_t kWithoutSign = 0x7fffffff, kInfinity = 0x7f800000;
    int32_t most = 0;
    for (int64_t i = 0; i < count; ++i) {
        const int32_t bits = std::bit_cast<int32_t>(numbers[i]) & kWithoutSign;
        most = std::max(most, bits < kInfinity ? bits : 0);
    }
    return std::bit_cast<float>(most);
}

}  // namespace bilstm
