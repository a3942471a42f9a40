// exp, sigmoid and tanh, lane by lane, and log and whole powers in float64, with the same bits on every processor. C
// libraries are not asked: each rounds its own way.
//
// e^r = 1 + r + r^2 P(r) for |r| <= ln(2) / 2, where P is the polynomial of degree 4 for which the largest relative
// error of e^r is least, 4e-9: a twentieth of a unit in the last place.
#pragma once

#include <cmath>

#include "vector.h"

namespace bilstm {

// Zero for what is so small that its products would soon be subnormal: processors compute with subnormal numbers many
// times slower, and vanishing gradients end as such.
inline Vec without_vanishing(Vec x, float smallest = 0x1p-100f) {
    const Vec magnitude = (Vec)((IntVec)x & 0x7fffffff);
    return magnitude < smallest ? Vec{} : x;
}

// Calls function(0), …, function(N - 1). The functions below take N vectors through each of their operations together:
// an operation must wait for the one before, but not for those of the other vectors.
template <int N, typename Function>
[[gnu::always_inline]] inline void each(Function&& function) {
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) function(n);
}

// Writes x, or -x where negated(n), as m ln 2 + r; returns 2^m in `scale` and e^r - 1 in x.
template <int N, typename Negated>
[[gnu::always_inline]] inline void reduce_expm1(Vec (&x)[N], Vec (&scale)[N], const Negated& negated) {
    constexpr float kShift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer held in the low bits
    constexpr float kLog2E = 1.44269504088896341f, kLn2 = 0.693147180559945309f;
    Vec r[N], p[N], q[N], squares[N];
    each<N>([&](int n) { scale[n] = fma(x[n], broadcast(negated(n) ? -kLog2E : kLog2E), broadcast(kShift)); });
    each<N>([&](int n) { p[n] = scale[n] - kShift; });
    each<N>([&](int n) { r[n] = negated_fma(p[n], broadcast(kLn2), negated(n) ? -x[n] : x[n]); });
    // By pairs of terms, which do not wait for each other.
    each<N>([&](int n) { squares[n] = r[n] * r[n]; });
    each<N>([&](int n) { p[n] = fma(broadcast(1.666651964e-1f), r[n], broadcast(4.999999404e-1f)); });
    each<N>([&](int n) { q[n] = fma(broadcast(8.368856274e-3f), r[n], broadcast(4.166840017e-2f)); });
    each<N>([&](int n) { q[n] = fma(broadcast(1.381430891e-3f), squares[n], q[n]); });
    each<N>([&](int n) { p[n] = fma(q[n], squares[n], p[n]); });
    each<N>([&](int n) { scale[n] = (Vec)(((UnsignedVec)scale[n] << 23) + 0x3f800000); });
    each<N>([&](int n) { x[n] = fma(p[n], squares[n], r[n]); });
}

// Within 2 units in the last place on [-20, 20], 5 on [-87, 86]; constant beyond, NaN for NaN.
inline Vec exponential(Vec value) {
    Vec x[1] = {at_most(at_least(value, -87.0f), 86.0f)}, scale[1];
    reduce_expm1(x, scale, [](int) { return false; });
    return fma(scale[0], x[0], scale[0]);
}

// 1 / x within 1 unit in the last place for 2^-125 < x < 2^125, where a processor's divider is busy with something
// else; unlike the processors' own estimates, the same everywhere. A first guess by subtracting exponents, within 13 %,
// then twice y + y (e + e^2) with e = 1 - x y, which leaves e^3.
inline Vec reciprocal(Vec x) {
    Vec y = (Vec)(0x7ef311c3 - (UnsignedVec)x);
    for (int i = 0; i < 2; ++i) {
        Vec e = negated_fma(x, y, broadcast(1.0f));
        e = fma(e, e, e);
        y = fma(y, e, y);
    }
    return y;
}

// Some consecutive lanes of a vector.
struct Lanes {
    int begin, end;
    constexpr bool none() const { return begin == end; }
    constexpr bool all() const { return begin == 0 && end == kLanes; }
    Vec choose(Vec inside, Vec outside) const {
        IntVec lane;
        for (int i = 0; i < kLanes; ++i) lane[i] = i;
        return ((lane >= begin) & (lane < end)) ? inside : outside;
    }
    Vec choose(float inside, float outside) const { return choose(broadcast(inside), broadcast(outside)); }
};
inline constexpr Lanes kNoLanes{0, 0}, kAllLanes{0, kLanes};

// The lanes tangents(n) of vector n become their hyperbolic tangents, the others their sigmoids. Tangents are made of
// e^(2x) - 1, so that small arguments keep their relative precision; exactly +-1 beyond +-10.
template <int N, typename Choice>
[[gnu::always_inline]] inline void squash(Vec (&x)[N], const Choice& tangents) {
    Vec scale[N], divisor[N];
    each<N>([&](int n) {
        const Lanes lanes = tangents(n);
        if (lanes.none())
            x[n] = at_least(at_most(x[n], 87.0f), -86.0f);
        else if (lanes.all())
            x[n] = at_most(at_least(2.0f * x[n], -20.0f), 20.0f);
        else
            x[n] = at_most(at_least(x[n] * lanes.choose(2.0f, -1.0f), lanes.choose(-20.0f, -87.0f)),
                           lanes.choose(20.0f, 86.0f));
    });
    reduce_expm1(x, scale, [&](int n) { return tangents(n).none(); });
    each<N>([&](int n) {
        const Lanes lanes = tangents(n);
        if (lanes.none()) {
            divisor[n] = 1.0f + fma(scale[n], x[n], scale[n]);
        } else if (lanes.all()) {
            x[n] = fma(scale[n], x[n], scale[n] - 1.0f);
            divisor[n] = x[n] + 2.0f;
        } else {
            x[n] = fma(scale[n], x[n], scale[n] - lanes.choose(1.0f, 0.0f));
            divisor[n] = x[n] + lanes.choose(2.0f, 1.0f);
        }
    });
    // The divider works in parallel with the multipliers, which have enough to do.
    each<N>([&](int n) {
        const Lanes lanes = tangents(n);
        const Vec ones = broadcast(1.0f);
        x[n] = (lanes.none() ? ones : lanes.all() ? x[n] : lanes.choose(x[n], ones)) / divisor[n];
    });
}

template <int N>
[[gnu::always_inline]] inline void hyperbolic_tangents(Vec (&x)[N]) {
    squash(x, [](int) { return kAllLanes; });
}

inline Vec hyperbolic_tangent(Vec value) {
    Vec x[1] = {value};
    hyperbolic_tangents(x);
    return x[0];
}

inline Vec sigmoid(Vec value) {
    Vec x[1] = {value};
    squash(x, [](int) { return kNoLanes; });
    return x[0];
}

// Within 1 unit in the last place, for a normal number above 0; NaN for NaN. x = 2^n m with m about 1, and
// log m = 2 artanh((m - 1) / (m + 1)), whose series falls by 34 a term.
inline double natural_logarithm(double x) {
    if (x != x) return x;
    constexpr double kLn2High = 0x1.62e42feep-1, kLn2Low = 0x1.a39ef35793c76p-33;  // n times the first is exact
    uint64_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    const uint64_t from_root_half = bits - 0x3fe6a09e667f3bcd;
    const int64_t n = static_cast<int64_t>(from_root_half) >> 52;
    bits -= static_cast<uint64_t>(n) << 52;
    double m;
    std::memcpy(&m, &bits, sizeof m);
    const double f = m - 1, s = f / (m + 1), z = s * s;
    double series = 2.0 / 23;
#pragma GCC unroll 10
    for (const double term :
         {2.0 / 21, 2.0 / 19, 2.0 / 17, 2.0 / 15, 2.0 / 13, 2.0 / 11, 2.0 / 9, 2.0 / 7, 2.0 / 5, 2.0 / 3})
        series = std::fma(series, z, term);
    series *= z;
    // log m = 2 s + s series, and 2 s = f - s f exactly but for s's rounding, which counts less there.
    const double correction = s * (f - series) - static_cast<double>(n) * kLn2Low;
    return static_cast<double>(n) * kLn2High + (f - correction);
}

// e^x within 1 unit in the last place on [-700, 700]: 0 below, constant above, NaN for NaN. x = n ln 2 + r, and the
// series of e^r ends where its terms no longer count.
inline double natural_exponential(double x) {
    constexpr double kLn2High = 0x1.62e42feep-1, kLn2Low = 0x1.a39ef35793c76p-33, kShift = 0x1.8p52;
    constexpr double kMost = 700, kLog2E = 0x1.71547652b82fep+0;
    const double most = x > kMost ? kMost : x;
    const double bounded = most < -kMost ? -kMost : most;
    const double n = std::fma(bounded, kLog2E, kShift) - kShift;
    const double r = std::fma(-n, kLn2Low, std::fma(-n, kLn2High, bounded));
    double series = 1.0 / 6227020800;
#pragma GCC unroll 13
    for (const double term : {1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040,
                              1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1.0, 1.0})
        series = std::fma(series, r, term);
    const double shifted = n + (kShift + 1023);  // its low bits are n + 1023
    uint64_t bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits <<= 52;
    double scale;
    std::memcpy(&scale, &bits, sizeof scale);
    return x != x ? x : x < -kMost ? 0 : series * scale;
}

// base^exponent by squaring, for an exponent of at least 0.
inline double whole_power(double base, int64_t exponent) {
    double result = 1;
    for (; exponent > 0; exponent >>= 1, base *= base)
        if (exponent & 1) result *= base;
    return result;
}

}  // namespace bilstm
