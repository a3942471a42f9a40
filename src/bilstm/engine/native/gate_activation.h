// What squashes the sums of gates, of each kind a policy:
//   activate(x, tangents)  as `squash` does: the lanes tangents(n) of vector n become tangents, the others gates;
//   slope(gate)            the derivative of a gate by its sum, from its value;
//   kEveryTile             whether there is code for tiles of every number of rows, which is what takes most of the
//                          library's room, and for what hides latency; a kind that is seldom used does with less.
#pragma once

#include "elementary.h"

namespace bilstm {

struct Sigmoid {
    static constexpr bool kEveryTile = true;

    explicit Sigmoid(float) {}
    template <int N, typename Choice>
    [[gnu::always_inline]] void activate(Vec (&x)[N], const Choice& tangents) const {
        squash(x, tangents);
    }
    [[gnu::always_inline]] Vec slope(Vec gate) const { return gate * (1.0f - gate); }
};

// A line of some slope through 1/2, cut off at 0 and 1.
class HardSigmoid {
  public:
    static constexpr bool kEveryTile = false;

    explicit HardSigmoid(float slope) : slope_(slope) {}
    template <int N, typename Choice>
    [[gnu::always_inline]] void activate(Vec (&x)[N], const Choice& tangents) const {
        each<N>([&](int n) {
            const Lanes lanes = tangents(n);
            const Vec gate = at_most(at_least(fma(x[n], broadcast(slope_), broadcast(0.5f)), 0.0f), 1.0f);
            x[n] = lanes.none()  ? gate
                   : lanes.all() ? hyperbolic_tangent(x[n])
                                 : lanes.choose(hyperbolic_tangent(x[n]), gate);
        });
    }
    [[gnu::always_inline]] Vec slope(Vec gate) const {
        return ((gate > 0.0f) & (gate < 1.0f)) ? broadcast(slope_) : Vec{};
    }

  private:
    float slope_;
};

}  // namespace bilstm
