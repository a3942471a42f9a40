// The one micro-kernel: every matrix product of the engine is made of these tiles.
//
// A tile is Rows x Vectors accumulators. Each output element is one chain of fused multiply-adds over k, in order;
// lanes run over outputs, never over k. So its bits depend neither on the tile's shape nor on the vector's width.
#pragma once

#include <type_traits>
#include <utility>

#include "bfloat16.h"

namespace bilstm {

// Zeros in registers, where initialization has compilers fill memory with them first.
template <int Rows, int Vectors>
[[gnu::always_inline]] inline void clear(Vec (&sums)[Rows][Vectors]) {
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) sums[r][v] = Vec{};
}

// sums[r][v] += a[r][at] * the vector at column(v), for Count vectors from First on.
template <int First, int Count, int Rows, int Vectors, typename Column>
[[gnu::always_inline]] inline void add_products(const float* const (&a)[Rows], int64_t at, const Column& column,
                                                Vec (&sums)[Rows][Vectors]) {
    Vec columns[Count];
    load_row(column, First, columns);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
        const Vec row = broadcast(a[r][at]);
#pragma GCC unroll 8
        for (int v = 0; v < Count; ++v) sums[r][First + v] = fma(row, columns[v], sums[r][First + v]);
    }
}

// The same, reading the numbers of `a` for these vectors alone: weights that are unpacked take registers, of which
// there are too few for the numbers of all rows, too.
template <int First, int Count, int Rows, int Vectors, typename Column>
[[gnu::always_inline]] inline void add_products_apart(const float* const (&a)[Rows], int64_t at, const Column& column,
                                                      Vec (&sums)[Rows][Vectors]) {
    if constexpr (Rows > 2 && Vectors > 2) asm volatile("" : "+r"(at));  // so that compilers see another number
    add_products<First, Count>(a, at, column, sums);
}

// accumulators[r][v] += sum over k of a[r][k * AStep] * the vector at column(k, v), a float32 or bfloat16 weight a
// lane. Panel: how many of the vectors are of one panel, of which bfloat16's are read by twos.
template <int AStep, int Panel, int Rows, int Vectors, typename Column>
[[gnu::always_inline]] inline void multiply_add(const float* const (&a)[Rows], int64_t depth, const Column& column,
                                                Vec (&accumulators)[Rows][Vectors]) {
    Vec sums[Rows][Vectors];  // a copy, which compilers reliably keep in registers
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) sums[r][v] = accumulators[r][v];
    for (int64_t k = 0; k < depth; ++k) {
        const auto own = [&](int v) { return column(k, v); };
        if constexpr (!std::is_same_v<decltype(column(k, 0)), const Bfloat16*>)
            add_products<0, Vectors>(a, k * AStep, own, sums);
        else
            [&]<int... Turn>(std::integer_sequence<int, Turn...>) {
                constexpr int kTurns = (Panel + 1) / 2;
                constexpr auto first = [](int turn) { return turn / kTurns * Panel + turn % kTurns * 2; };
                constexpr auto end = [](int turn) { return std::min((turn / kTurns + 1) * Panel, Vectors); };
                (add_products_apart<first(Turn), std::min(2, end(Turn) - first(Turn))>(a, k * AStep, own, sums), ...);
            }(std::make_integer_sequence<int, Vectors / Panel*((Panel + 1) / 2) + (Vectors % Panel + 1) / 2>{});
    }
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) accumulators[r][v] = sums[r][v];
}

// The same for vectors that lie together, row k of them at b + k * b_step.
template <int AStep, int Rows, int Vectors>
[[gnu::always_inline]] inline void multiply_add(const float* const (&a)[Rows], int64_t depth, const float* b,
                                                int64_t b_step, Vec (&accumulators)[Rows][Vectors]) {
    multiply_add<AStep, Vectors>(a, depth, [&](int64_t k, int v) { return b + k * b_step + v * kLanes; }, accumulators);
}

// A function of its own, since among other code compilers run out of registers for the sums.
template <int AStep, int Rows, int Vectors>
[[gnu::noinline]] void multiply_add(const float* const (&a)[Rows], int64_t depth, const Bfloat16* b, int64_t b_step,
                                    Vec (&accumulators)[Rows][Vectors]) {
    multiply_add<AStep, Vectors>(a, depth, [=](int64_t k, int v) { return b + k * b_step + v * kLanes; }, accumulators);
}

// A stretch of k whose rows of vectors lie b_step apart.
struct Run {
    int64_t depth;
    const float* b;
    int64_t b_step;
};

// The same, one run after the other: begin(i, a) gives the i-th and where its a begin. The accumulators stay in
// registers from run to run, which counts where runs are short. also() is called before every kTurn products or fewer.
inline constexpr int64_t kTurn = 8;

template <int AStep, int Rows, int Vectors, typename Begin, typename Also>
[[gnu::always_inline]] inline void multiply_add_runs(int64_t runs, const Begin& begin,
                                                     Vec (&accumulators)[Rows][Vectors], const Also& also) {
    Vec sums[Rows][Vectors];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) sums[r][v] = accumulators[r][v];
    for (int64_t i = 0; i < runs; ++i) {
        const float* a[Rows];
        const Run run = begin(i, a);
        const float* b = run.b;
        for (int64_t k = 0; k < run.depth;) {
            also();
            for (const int64_t end = std::min(run.depth, k + kTurn); k < end; ++k, b += run.b_step) {
                Vec columns[Vectors];
#pragma GCC unroll 8
                for (int v = 0; v < Vectors; ++v) columns[v] = load(b + v * kLanes);
#pragma GCC unroll 8
                for (int r = 0; r < Rows; ++r) {
                    const Vec row = broadcast(a[r][k * AStep]);
#pragma GCC unroll 8
                    for (int v = 0; v < Vectors; ++v) sums[r][v] = fma(row, columns[v], sums[r][v]);
                }
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) accumulators[r][v] = sums[r][v];
}

// accumulators[r][v] += sum over k of a[r][k] * the vector at column(k, r, v): rows with columns of their own.
template <int Rows, int Vectors, typename Column>
[[gnu::always_inline]] inline void multiply_add_apart(const float* const (&a)[Rows], int64_t depth,
                                                      const Column& column, Vec (&accumulators)[Rows][Vectors]) {
    Vec sums[Rows][Vectors];
    std::memcpy(sums, accumulators, sizeof sums);
    for (int64_t k = 0; k < depth; ++k)
#pragma GCC unroll 2
        for (int r = 0; r < Rows; ++r) {
            const Vec row = broadcast(a[r][k]);
#pragma GCC unroll 8
            for (int v = 0; v < Vectors; ++v) sums[r][v] = fma(row, load(column(k, r, v)), sums[r][v]);
        }
    std::memcpy(accumulators, sums, sizeof sums);
}

template <int N>
using Constant = std::integral_constant<int, N>;

// Calls function(Constant<n>) for the n in First..Most given at run time.
template <int Most, int First = 1, typename Function>
[[gnu::always_inline]] inline void with_constant(int64_t n, Function&& function) {
    if (n == First) return function(Constant<First>{});
    if constexpr (First < Most) with_constant<Most, First + 1>(n, function);
}

template <typename Function>
[[gnu::always_inline]] inline void with_vectors(int64_t vectors, Function&& function) {
    with_constant<kTileVectors>(vectors, function);
}

// Divides [begin, end) into tiles of Vectors vectors and at most tile_rows rows, of sizes as equal as can be, and calls
// function(Constant<rows>, first row) for each. Without EveryTile there are three sizes of tiles only.
template <int Vectors, bool EveryTile = true, typename Function>
[[gnu::always_inline]] inline void for_row_tiles(int64_t begin, int64_t end, Function&& function) {
    constexpr int kMost = tile_rows(Vectors), kHalf = std::max(1, kMost / 2);
    if constexpr (EveryTile) {
        int64_t tiles = (end - begin + kMost - 1) / kMost;
        for (int64_t row = begin; tiles > 0; --tiles) {
            const int64_t rows = (end - row + tiles - 1) / tiles;
            with_constant<kMost>(rows, [&](auto constant) { function(constant, row); });
            row += rows;
        }
    } else {
        for (; end - begin >= kMost; begin += kMost) function(Constant<kMost>{}, begin);
        for (; end - begin >= kHalf; begin += kHalf) function(Constant<kHalf>{}, begin);
        for (; begin < end; ++begin) function(Constant<1>{}, begin);
    }
}

}  // namespace bilstm
