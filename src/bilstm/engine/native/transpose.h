// Transposes matrices in registers, a square of kLanes x kLanes numbers at a time.
#pragma once

#include <algorithm>
#include <utility>

#include "vector.h"

namespace bilstm {

// Swaps the off-diagonal halves of two rows' every 2 * Distance lanes.
template <int Distance, int... Lane>
[[gnu::always_inline]] inline void exchange(Vec& a, Vec& b, std::integer_sequence<int, Lane...>) {
    const Vec first = __builtin_shufflevector(a, b, (Lane & Distance ? kLanes + Lane - Distance : Lane)...);
    b = __builtin_shufflevector(a, b, (Lane & Distance ? kLanes + Lane : Lane + Distance)...);
    a = first;
}

template <int Distance>
[[gnu::always_inline]] inline void transpose_square(Vec (&rows)[kLanes]) {
    if constexpr (Distance < kLanes) {
#pragma GCC unroll 16
        for (int row = 0; row < kLanes; ++row)
            if (!(row & Distance))
                exchange<Distance>(rows[row], rows[row + Distance], std::make_integer_sequence<int, kLanes>{});
        transpose_square<2 * Distance>(rows);
    }
}

// to[column * to_step + row] = from[row * from_step + column], and zeros up to the next multiple of kLanes rows. Rows
// of `from` can be read in whole vectors.
inline void transpose(const float* from, int64_t from_step, int64_t rows, int64_t columns, float* to, int64_t to_step) {
    for (int64_t row = 0; row < rows; row += kLanes)
        for (int64_t column = 0; column < columns; column += kLanes) {
            Vec square[kLanes];
            for (int i = 0; i < kLanes; ++i)
                square[i] = row + i < rows ? load(from + (row + i) * from_step + column) : Vec{};
            transpose_square<1>(square);
            const int64_t last = std::min<int64_t>(kLanes, columns - column);
            for (int64_t i = 0; i < last; ++i) store(to + (column + i) * to_step + row, square[i]);
        }
}

}  // namespace bilstm
