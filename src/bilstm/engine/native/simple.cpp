// The cell of a simple recurrent layer: h = f(x W + h U + b). A panel holds up to four blocks of units, so that tiles
// are as wide as the other cells'.
#include "cells.h"

namespace bilstm {
namespace {

struct Tangent {
    template <int N>
    [[gnu::always_inline]] static void activate(Vec (&x)[N]) {
        hyperbolic_tangents(x);
    }
    static Vec slope(Vec h) { return negated_fma(h, h, broadcast(1.0f)); }
};

struct Relu {
    template <int N>
    [[gnu::always_inline]] static void activate(Vec (&x)[N]) {
        each<N>([&](int n) { x[n] = at_least(x[n], 0.0f); });
    }
    static Vec slope(Vec h) { return h > 0.0f ? broadcast(1.0f) : Vec{}; }
};

struct AnySimple : AnyCell {
    using Common = AnySimple;
    static constexpr int kVectors = kTileVectors;
    static constexpr int64_t kUnits = kPanel;
    static constexpr bool kHasCells = false, kKeepsGates = false;
    template <int Vectors>
    static constexpr int kGateVectors = Vectors;

    static void shape(Direction& direction) {
        shape_simple(direction.weights, direction.inputs, direction.units);
        direction.gates = {1, direction.weights.shape.columns};
        direction.first_recurrent = 1 + direction.inputs;
    }
    static std::vector<GateGradient> input_gates() { return {{0, 0}}; }
    static std::vector<GateGradient> recurrent_gates() { return input_gates(); }

    template <typename Function>
    [[gnu::always_inline]] static void with_vectors(int64_t vectors, Function&& function) {
        bilstm::with_vectors(vectors, function);
    }
    template <typename Function>
    [[gnu::always_inline]] static void with_gate_vectors(int64_t, Function&& function) {
        function(Constant<1>{});
    }
};

template <typename Activation>
struct Simple : AnySimple {
    template <typename Caller, int Panels, int LastVectors, int Rows>
    [[gnu::always_inline]] static void finish(const Direction&, const CellPointers (&at)[Rows], int64_t units,
                                              const Vec (&sums)[Rows][4 * (Panels - 1) + LastVectors],
                                              const Vec (&)[Rows][Panels]) {
        constexpr int V = 4 * (Panels - 1) + LastVectors;
        for (int r = 0; r < Rows; ++r) {
            Vec h[V];
            bilstm::each<V>([&](int v) { h[v] = sums[r][v]; });
            Activation::activate(h);
            bilstm::each<V>([&](int v) {
                const int64_t unit = v * kLanes;
                store(at[r].recent + unit, h[v]);
                store_partial(at[r].hidden + unit, h[v], units - unit);
            });
        }
    }

    template <int>
    [[gnu::always_inline]] static void gradient(const Direction&, Vec dh, const GradientPointers& pointers) {
        store(pointers.gradients, without_vanishing(dh * Activation::slope(pointers.h)));
    }
};

}  // namespace

std::unique_ptr<Direction> make_simple(const DirectionPlan& plan) {
    if (plan.kind == CellKind::simple_relu) return std::make_unique<CellDirection<Simple<Relu>>>(plan);
    return std::make_unique<CellDirection<Simple<Tangent>>>(plan);
}

}  // namespace bilstm
