// exp, sigmoid and tanh, lane by lane, with the same bits on every instruction set.
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

}  // namespace bilstm
