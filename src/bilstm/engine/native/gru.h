// What both kinds of GRU cells have in common: gates z, r, h, and what the backward pass needs of a step, four vectors
// a block of units: z, r, the candidate, and what the reset gate multiplied or made.
#pragma once

#include "cells.h"
#include "gate_activation.h"

namespace bilstm {

struct GruCommon : AnyCell {
    static constexpr int kVectors = 3;
    static constexpr int64_t kUnits = kLanes;
    static constexpr bool kHasCells = false, kKeepsGates = true;
    template <int Vectors>
    static constexpr int kGateVectors = 4;

    static void shape(Direction& direction, bool reset_after) {
        shape_gru(direction.weights, direction.inputs, direction.units, reset_after);
        direction.gates = {1, direction.blocks() * kPanel};
        direction.first_recurrent = direction.inputs + (reset_after ? 2 : 1);
    }
    static std::vector<GateGradient> input_gates() { return {{0, 0}, {1, 1}, {2, 2}}; }

    template <typename Function>
    [[gnu::always_inline]] static void with_vectors(int64_t, Function&& function) {
        function(Constant<3>{});
    }
    template <typename Function>
    [[gnu::always_inline]] static void with_gate_vectors(int64_t, Function&& function) {
        function(Constant<4>{});
    }
    // The gates of a row.
    template <typename Gates>
    [[gnu::always_inline]] static void activate_gates(const Gates& kind, Vec (&gates)[2]) {
        kind.activate(gates, [](int) { return kNoLanes; });
    }
    [[gnu::always_inline]] static Vec output(Vec z, Vec candidate, Vec before) {
        return fma(z, before - candidate, candidate);
    }
};

}  // namespace bilstm
