// The few vector operations the engine is written in, for each instruction set.
//
// Arithmetic operators come from the compiler's vector types. Everything here is exact IEEE arithmetic lane by
// lane, so that results do not depend on how many lanes a vector has.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace bilstm {

#if defined(__AVX512F__)
inline constexpr int kLanes = 16;
inline constexpr int kTileRows = 6;           // 6 x 4 accumulators of 32 registers
inline constexpr bool kManyRegisters = true;  // for 16 accumulators
#elif defined(__AVX2__) && defined(__FMA__)
inline constexpr int kLanes = 8;
inline constexpr int kTileRows = 3;  // 3 x 4 accumulators of 16 registers
inline constexpr bool kManyRegisters = false;
#elif defined(__ARM_NEON) && defined(__aarch64__)
inline constexpr int kLanes = 4;
inline constexpr int kTileRows = 6;
inline constexpr bool kManyRegisters = true;
#else
#error "The engine needs AVX2 with FMA, AVX-512 or 64-bit NEON: exactness rests on fused multiply-add."
#endif

inline constexpr int kTileVectors = 4;  // the four gates of a block of units

// Rows of a tile with this number of vectors: narrow ones are taller, to hide an addition's latency too.
constexpr int tile_rows(int vectors) {
    return vectors == kTileVectors ? kTileRows : kManyRegisters ? 8 : vectors == 3 ? 4 : vectors == 2 ? 6 : 8;
}
inline constexpr int64_t kPanel = kTileVectors * kLanes;

typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef int32_t IntVec __attribute__((vector_size(kLanes * 4)));
typedef uint32_t UnsignedVec __attribute__((vector_size(kLanes * 4)));  // its sums may overflow

inline Vec load(const float* from) {
    Vec value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

inline void store(float* to, Vec value) {
    std::memcpy(to, &value, sizeof value);
}

inline Vec broadcast(float value) {
    return value - Vec{};
}

#if defined(__AVX512F__)
inline constexpr __mmask16 kAll = 0xffff;  // GCC 12 has false warnings for the unmasked forms
inline Vec fma(Vec a, Vec b, Vec c) {
    return (Vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
inline Vec negated_fma(Vec a, Vec b, Vec c) {
    return (Vec)_mm512_fnmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
// The larger and the smaller; NaN for a NaN value.
inline Vec at_least(Vec value, Vec bound) {
    return (Vec)_mm512_maskz_max_ps(kAll, (__m512)bound, (__m512)value);
}
inline Vec at_most(Vec value, Vec bound) {
    return (Vec)_mm512_maskz_min_ps(kAll, (__m512)bound, (__m512)value);
}
inline Vec square_root(Vec x) {
    return (Vec)_mm512_maskz_sqrt_ps(kAll, (__m512)x);
}
inline __mmask16 first_lanes(int64_t count) {
    return static_cast<__mmask16>((1u << count) - 1);
}
inline Vec load_partial(const float* from, int64_t count) {
    return count >= kLanes ? load(from) : (Vec)_mm512_maskz_loadu_ps(first_lanes(count), from);
}
inline void store_partial(float* to, Vec value, int64_t count) {
    if (count >= kLanes) return store(to, value);
    _mm512_mask_storeu_ps(to, first_lanes(count), (__m512)value);
}
#else
#if defined(__AVX2__)
inline Vec fma(Vec a, Vec b, Vec c) {
    return (Vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
inline Vec negated_fma(Vec a, Vec b, Vec c) {
    return (Vec)_mm256_fnmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
inline Vec at_least(Vec value, Vec bound) {
    return (Vec)_mm256_max_ps((__m256)bound, (__m256)value);
}
inline Vec at_most(Vec value, Vec bound) {
    return (Vec)_mm256_min_ps((__m256)bound, (__m256)value);
}
inline Vec square_root(Vec x) {
    return (Vec)_mm256_sqrt_ps((__m256)x);
}
#else
inline Vec fma(Vec a, Vec b, Vec c) {
    return (Vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
inline Vec negated_fma(Vec a, Vec b, Vec c) {
    return (Vec)vfmsq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
inline Vec at_least(Vec value, Vec bound) {
    return (Vec)vmaxq_f32((float32x4_t)value, (float32x4_t)bound);
}
inline Vec at_most(Vec value, Vec bound) {
    return (Vec)vminq_f32((float32x4_t)value, (float32x4_t)bound);
}
inline Vec square_root(Vec x) {
    return (Vec)vsqrtq_f32((float32x4_t)x);
}
#endif
#if defined(__AVX2__) && !defined(__SANITIZE_ADDRESS__)  // sanitizers do not see masked accesses
// Without calls of memcpy, which take longer than what they copy.
inline Vec load_partial(const float* from, int64_t count) {
    if (count >= kLanes) return load(from);
    static constexpr int32_t kMasks[2 * kLanes] = {-1, -1, -1, -1, -1, -1, -1, -1};
    IntVec mask;
    std::memcpy(&mask, kMasks + kLanes - count, sizeof mask);
    return (Vec)_mm256_maskload_ps(from, (__m256i)mask);
}
inline void store_partial(float* to, Vec value, int64_t count) {
    if (count >= kLanes) return store(to, value);
    __m128 part = _mm256_castps256_ps128((__m256)value);
    if (count & 4) {
        _mm_storeu_ps(to, part);
        part = _mm256_extractf128_ps((__m256)value, 1);
        to += 4;
    }
    if (count & 2) {
        _mm_storel_pi(reinterpret_cast<__m64*>(to), part);
        part = _mm_movehl_ps(part, part);
        to += 2;
    }
    if (count & 1) _mm_store_ss(to, part);
}
#else
inline Vec load_partial(const float* from, int64_t count) {
    if (count >= kLanes) return load(from);
    Vec value{};
    std::memcpy(&value, from, static_cast<size_t>(count) * sizeof(float));
    return value;
}
inline void store_partial(float* to, Vec value, int64_t count) {
    if (count >= kLanes) return store(to, value);
    std::memcpy(to, &value, static_cast<size_t>(count) * sizeof(float));
}
#endif
#endif

inline Vec at_least(Vec value, float bound) {
    return at_least(value, broadcast(bound));
}
inline Vec at_most(Vec value, float bound) {
    return at_most(value, broadcast(bound));
}

// Copies numbers, and zeros up to the next multiple of kLanes, for which there is room: for rows too short to be worth
// a call of memcpy.
inline void copy_padded(const float* from, int64_t count, float* to) {
    for (int64_t i = 0; i < count; i += kLanes) store(to + i, load_partial(from + i, count - i));
}

inline constexpr int64_t kLine = 16;  // floats of a line of cache

// Asks for the cache lines of some numbers that are needed soon. Never fails.
[[gnu::always_inline]] inline void prefetch(const float* from, int64_t count) {
    for (int64_t i = 0; i < count; i += kLine) __builtin_prefetch(from + i);
}

inline int64_t round_up(int64_t value, int64_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

}  // namespace bilstm
