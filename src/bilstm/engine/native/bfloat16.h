// Weights of 16 bits, for predictions that wait for memory: the upper half of a float32, rounded to nearest, ties to
// even (Google's bfloat16; Kalamkar et al. 2019, "A Study of BFLOAT16 for Deep Learning Training"). Only storage is of
// 16 bits: a vector is widened, exactly, as it is read, and what follows is float32 arithmetic in the same order. So
// no processor needs instructions for it, and all give the same bits.
#pragma once

#include <cstdint>
#include <type_traits>

#include "vector.h"

namespace bilstm {

// Two vectors that follow each other lie in one vector of words: the first in their lower halves, the second in the
// upper ones, where a shift and a mask find them. A last vector without another follows as it is.
struct Bfloat16 {
    uint16_t bits;
};
static_assert(sizeof(Bfloat16) == 2);

typedef uint32_t Words __attribute__((vector_size(kLanes * 4)));
typedef uint16_t HalfWords __attribute__((vector_size(kLanes * 2)));

inline constexpr uint32_t kUpperHalf = 0xffff0000;

// To bfloat16's numbers. Beyond the largest lies infinity; a NaN stays one.
inline Words rounded_words(Vec value) {
    const Words bits = (Words)value;
    const Words nearest = bits + 0x7fff + (bits >> 16 & 1);
    return ((bits & 0x7fffffff) > 0x7f800000 ? bits | 0x400000 : nearest) & kUpperHalf;
}

// Rounds a row of some vectors.
inline void round_row(const float* from, int64_t vectors, Bfloat16* to) {
    int64_t v = 0;
    for (; v + 2 <= vectors; v += 2) {
        const Words pair = rounded_words(load(from + v * kLanes)) >> 16 | rounded_words(load(from + (v + 1) * kLanes));
        std::memcpy(static_cast<void*>(to + v * kLanes), &pair, sizeof pair);
    }
    if (v < vectors) {
        const auto last = __builtin_convertvector(rounded_words(load(from + v * kLanes)) >> 16, HalfWords);
        std::memcpy(static_cast<void*>(to + v * kLanes), &last, sizeof last);
    }
}

// vectors[v] = the one at column(first + v); bfloat16's by twos, but a row's last one.
template <int Count, typename Column>
[[gnu::always_inline]] inline void load_row(const Column& column, int first, Vec (&vectors)[Count]) {
    if constexpr (!std::is_same_v<decltype(column(0)), const Bfloat16*>) {
#pragma GCC unroll 8
        for (int v = 0; v < Count; ++v) vectors[v] = load(column(first + v));
    } else if constexpr (Count == 2) {
        Words pair;
        std::memcpy(&pair, column(first), sizeof pair);
        vectors[0] = (Vec)(pair << 16);
        vectors[1] = (Vec)(pair & kUpperHalf);
    } else {
        static_assert(Count == 1);
        HalfWords last;
        std::memcpy(&last, column(first), sizeof last);
        vectors[0] = (Vec)(__builtin_convertvector(last, Words) << 16);
    }
}

}  // namespace bilstm
