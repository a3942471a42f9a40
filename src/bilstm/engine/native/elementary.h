// exp, sigmoid and tanh, lane by lane, and log and whole powers in float64, with the same bits on every processor. C
// libraries are not asked: each rounds its own way.
//
// The polynomial is Cephes's expf (S. L. Moshier): e^r = 1 + r + r^2 P(r) for |r| <= ln(2) / 2.
#pragma once

#include "vector.h"

namespace bilstm {

// Zero for what is so small that its products would soon be subnormal: processors compute with subnormal numbers many
// times slower, and vanishing gradients end as such.
inline Vec without_vanishing(Vec x, float smallest = 0x1p-100f) {
    const Vec magnitude = (Vec)((IntVec)x & 0x7fffffff);
    return magnitude < smallest ? Vec{} : x;
}

// Writes x as n ln 2 + r; returns 2^n in `scale` and e^r - 1.
inline Vec reduced_expm1(Vec x, Vec& scale) {
    constexpr float kShift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer held in the low bits
    const Vec shifted = fma(x, broadcast(1.44269504088896341f), broadcast(kShift));
    const Vec n = shifted - kShift;
    Vec r = fma(n, broadcast(-0.693359375f), x);
    r = fma(n, broadcast(2.12194440e-4f), r);
    Vec p = broadcast(1.9875691500e-4f);
    p = fma(p, r, broadcast(1.3981999507e-3f));
    p = fma(p, r, broadcast(8.3334519073e-3f));
    p = fma(p, r, broadcast(4.1665795894e-2f));
    p = fma(p, r, broadcast(1.6666665459e-1f));
    p = fma(p, r, broadcast(5.0000001201e-1f));
    scale = (Vec)(((IntVec)shifted << 23) + 0x3f800000);
    return fma(p, r * r, r);
}

// Within 2 units in the last place on [-87, 86]; constant beyond, NaN for NaN.
inline Vec exponential(Vec x) {
    Vec scale;
    const Vec p = reduced_expm1(at_most(at_least(x, -87.0f), 86.0f), scale);
    return fma(scale, p, scale);
}

// Within 1 unit in the last place for 2^-125 < x < 2^125. Several times as fast as a division, whose throughput is low,
// and, unlike the processors' own estimates, the same everywhere: a first guess by subtracting exponents, within 13 %,
// then twice y + y (e + e^2) with e = 1 - x y, which leaves e^3.
inline Vec reciprocal(Vec x) {
    Vec y = (Vec)(0x7ef311c3 - (IntVec)x);
    for (int i = 0; i < 2; ++i) {
        const Vec e = negated_fma(x, y, broadcast(1.0f));
        y = fma(y, fma(e, e, e), y);
    }
    return y;
}

inline Vec sigmoid(Vec x) {
    return reciprocal(1.0f + exponential(-x));
}

// From e^(2x) - 1, so that small arguments keep their relative precision; exactly +-1 beyond +-10.
inline Vec hyperbolic_tangent(Vec x) {
    Vec scale;
    const Vec p = reduced_expm1(2.0f * at_most(at_least(x, -10.0f), 10.0f), scale);
    const Vec e = fma(scale, p, scale - 1.0f);
    return e * reciprocal(e + 2.0f);
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
    double series = 0;
    for (int k = 23; k > 1; k -= 2) series = (series + 2.0 / k) * z;
    // log m = 2 s + s series, and 2 s = f - s f exactly but for s's rounding, which counts less there.
    const double correction = s * (f - series) - static_cast<double>(n) * kLn2Low;
    return static_cast<double>(n) * kLn2High + (f - correction);
}

// base^exponent by squaring, for an exponent of at least 0.
inline double whole_power(double base, int64_t exponent) {
    double result = 1;
    for (; exponent > 0; exponent >>= 1, base *= base)
        if (exponent & 1) result *= base;
    return result;
}

}  // namespace bilstm
