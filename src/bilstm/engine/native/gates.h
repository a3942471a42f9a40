// The gates i, f, c, o of a block of units: a vector each, or in a last panel of few units two or all four of them
// share one (see gate_lanes).
#pragma once

#include <utility>

#include "gate_activation.h"
#include "product.h"

namespace bilstm {

// The lanes of vector v of a block's Vectors that hold gate c, which is activated by a tangent.
template <int Vectors>
constexpr Lanes candidate_lanes(int v) {
    if (Vectors == 4) return v == 2 ? kAllLanes : kNoLanes;
    if (Vectors == 2) return v == 1 ? Lanes{0, kLanes / 2} : kNoLanes;
    return {kLanes / 2, kLanes / 4 * 3};
}

// Calls function(Constant<n>) for a block's number of vectors.
template <typename Function>
[[gnu::always_inline]] inline void with_gate_vectors(int64_t vectors, Function&& function) {
    if (vectors == 4) return function(Constant<4>{});
    if (vectors == 2) return function(Constant<2>{});
    return function(Constant<1>{});
}

namespace detail {

// Lanes [First, First + Count) of a vector, then zeros.
template <int First, int Count, int... Lane>
inline Vec part(Vec from, std::integer_sequence<int, Lane...>) {
    return __builtin_shufflevector(from, Vec{}, (Lane < Count ? First + Lane : kLanes)...);
}

// The first Count lanes of one vector, then those of another.
template <int Count, int... Lane>
inline Vec joined(Vec first, Vec second, std::integer_sequence<int, Lane...>) {
    return __builtin_shufflevector(first, second, (Lane < Count ? Lane : kLanes + (Lane - Count) % kLanes)...);
}

using EachLane = std::make_integer_sequence<int, kLanes>;

}  // namespace detail

// From a block's vectors to a vector for each gate, with zeros in the lanes of units that there are not.
template <int Vectors>
[[gnu::always_inline]] inline void split_gates(const Vec* block, Vec (&gates)[4]) {
    using detail::EachLane, detail::part;
    constexpr int kQuarter = kLanes / 4, kHalf = kLanes / 2;
    if constexpr (Vectors == 4) {
        for (int gate = 0; gate < 4; ++gate) gates[gate] = block[gate];
    } else if constexpr (Vectors == 2) {
        gates[0] = part<0, kHalf>(block[0], EachLane{}), gates[1] = part<kHalf, kHalf>(block[0], EachLane{});
        gates[2] = part<0, kHalf>(block[1], EachLane{}), gates[3] = part<kHalf, kHalf>(block[1], EachLane{});
    } else {
        gates[0] = part<0, kQuarter>(block[0], EachLane{}), gates[1] = part<kQuarter, kQuarter>(block[0], EachLane{});
        gates[2] = part<kHalf, kQuarter>(block[0], EachLane{});
        gates[3] = part<kHalf + kQuarter, kQuarter>(block[0], EachLane{});
    }
}

template <int Vectors>
[[gnu::always_inline]] inline void join_gates(const Vec (&gates)[4], Vec* block) {
    using detail::EachLane, detail::joined;
    constexpr int kQuarter = kLanes / 4, kHalf = kLanes / 2;
    if constexpr (Vectors == 4) {
        for (int gate = 0; gate < 4; ++gate) block[gate] = gates[gate];
    } else if constexpr (Vectors == 2) {
        block[0] = joined<kHalf>(gates[0], gates[1], EachLane{});
        block[1] = joined<kHalf>(gates[2], gates[3], EachLane{});
    } else {
        const Vec low = joined<kQuarter>(gates[0], gates[1], EachLane{});
        const Vec high = joined<kQuarter>(gates[2], gates[3], EachLane{});
        block[0] = joined<kHalf>(low, high, EachLane{});
    }
}

template <int Vectors>
[[gnu::always_inline]] inline void load_gates(const float* from, Vec (&gates)[4]) {
    Vec block[Vectors];
    for (int v = 0; v < Vectors; ++v) block[v] = load(from + v * kLanes);
    split_gates<Vectors>(block, gates);
}

template <int Vectors>
[[gnu::always_inline]] inline void store_gates(const Vec (&gates)[4], float* to) {
    Vec block[Vectors];
    join_gates<Vectors>(gates, block);
    for (int v = 0; v < Vectors; ++v) store(to + v * kLanes, block[v]);
}

inline constexpr int kTogether = kManyRegisters ? 2 : 1;  // blocks, where there are registers for them

// Activates rows of gate sums by `gates`, a kind of gate_activation.h, and calls function(n, its gates) for the n-th
// block, row by row. A row is of `Blocks` blocks, the last of LastVectors vectors, the others of four.
template <int Blocks, int LastVectors, typename Gates, int Rows, int Vectors, typename Function>
[[gnu::always_inline]] inline void for_activated_gates(const Gates& gates, const Vec (&sums)[Rows][Vectors],
                                                       Function&& function) {
    static_assert(Vectors == 4 * (Blocks - 1) + LastVectors);
    constexpr int kBlocks = Rows * Blocks, kMost = Blocks == 1 ? std::max(1, kTogether * 4 / LastVectors) : 1;
    constexpr auto width = [](int n) { return n % Blocks == Blocks - 1 ? LastVectors : 4; };
    const auto together = [&]<int First, int Count>(std::integer_sequence<int, First, Count>) {
        constexpr int kVectors = [&] {
            int sum = 0;
            for (int n = First; n < First + Count; ++n) sum += width(n);
            return sum;
        }();
        constexpr int kStart = First / Blocks * Vectors + First % Blocks * 4;
        Vec activated[kVectors];
        each<kVectors>([&](int v) { activated[v] = sums[(kStart + v) / Vectors][(kStart + v) % Vectors]; });
        gates.activate(activated, [&](int v) {
            const int within = (kStart + v) % Vectors - 4 * (Blocks - 1);
            return within < 0 ? candidate_lanes<4>((within + 8) % 4) : candidate_lanes<LastVectors>(within);
        });
        const Vec* block = activated;
        each<Count>([&](int n) {
            function(First + n, block);
            block += width(First + n);
        });
    };
    [&]<int... Group>(std::integer_sequence<int, Group...>) {
        (together(std::integer_sequence<int, Group * kMost, std::min(kMost, kBlocks - Group * kMost)>{}), ...);
    }(std::make_integer_sequence<int, (kBlocks + kMost - 1) / kMost>{});
}

}  // namespace bilstm
