// The cell of an LSTM, by what its gates are: see gate_activation.h.
#pragma once

#include "cells.h"
#include "gates.h"

namespace bilstm {

struct AnyLstm : AnyCell {
    using Common = AnyLstm;
    static constexpr int kVectors = 4;
    static constexpr int64_t kUnits = kLanes;
    static constexpr bool kHasCells = true, kKeepsGates = true;
    template <int Vectors>
    static constexpr int kGateVectors = Vectors;

    static void shape(Direction& direction) {
        shape_lstm(direction.weights, direction.inputs, direction.units);
        direction.gates = {1, direction.weights.shape.columns};
        direction.first_recurrent = 1 + direction.inputs;
    }
    static int64_t lanes(int64_t units, int64_t unit) { return gate_lanes(units, unit - unit % kLanes); }
    static std::vector<GateGradient> input_gates() { return {{0, 0}, {1, 1}, {2, 2}, {3, 3}}; }
    static std::vector<GateGradient> recurrent_gates() { return input_gates(); }

    template <typename Function>
    [[gnu::always_inline]] static void with_vectors(int64_t vectors, Function&& function) {
        with_gate_vectors(vectors, function);
    }
    template <typename Function>
    [[gnu::always_inline]] static void with_gate_vectors(int64_t vectors, Function&& function) {
        bilstm::with_gate_vectors(vectors, function);
    }

    // Of the last panel, where they are LastVectors vectors, or of another.
    template <int LastVectors>
    [[gnu::always_inline]] static void keep_gates(float* to, bool last, const Vec* activated) {
        bilstm::each<4>([&](int v) {
            if (v < (last ? LastVectors : 4)) store(to + v * kLanes, activated[v]);
        });
    }
};

template <typename Gates>
struct Lstm : AnyLstm {
    static constexpr bool kEveryTile = Gates::kEveryTile;
    static Gates gates_of(const Direction& direction) { return Gates(direction.gate_slope()); }

    // Rows whose places are known; `units` are those from the first panel on. Caller: for a copy of its own in each,
    // since compilers inline what is called once.
    template <typename Caller, int Panels, int LastVectors, int Rows>
    [[gnu::always_inline]] static void finish(const Direction& direction, const CellPointers (&at)[Rows], int64_t units,
                                              const Vec (&sums)[Rows][4 * (Panels - 1) + LastVectors],
                                              const Vec (&)[Rows][Panels]) {
        constexpr int kCells = Rows * Panels;
        Vec c[kCells], h[kCells], o[kCells];
        for_activated_gates<Panels, LastVectors>(gates_of(direction), sums, [&](int n, const Vec* activated) {
            const CellPointers& own = at[n / Panels];
            const int64_t block = n % Panels;
            const bool last = block == Panels - 1;
            const Vec before = own.before ? load(own.before + block * own.before_step) : Vec{};
            Vec gate[4];
            last ? split_gates<LastVectors>(activated, gate) : split_gates<4>(activated, gate);
            h[n] = c[n] = fma(gate[1], before, gate[0] * gate[2]);
            o[n] = gate[3];
            if (own.gates) keep_gates<LastVectors>(own.gates + block * own.gate_step, last, activated);
        });
        hyperbolic_tangents(h);
        bilstm::each<kCells>([&](int n) {
            const CellPointers& own = at[n / Panels];
            const int64_t block = n % Panels, unit = block * kLanes;
            h[n] = o[n] * h[n];
            store(own.cell + block * own.cell_step, c[n]);
            store(own.recent + unit, h[n]);
            store_partial(own.hidden + unit, h[n], units - unit);
        });
    }

    template <int Vectors, int Rows, typename Place>
    [[gnu::always_inline]] static void keep(const Direction& direction, const Vec (&sums)[Rows][Vectors],
                                            const Vec (&)[Rows][1], const Place& place) {
        for_activated_gates<1, Vectors>(gates_of(direction), sums, [&](int n, const Vec* activated) {
            keep_gates<Vectors>(place(n), true, activated);
        });
    }

    template <int Vectors>
    [[gnu::always_inline]] static void gradient(const Direction& direction, Vec dh, const GradientPointers& pointers) {
        const Gates kind = gates_of(direction);
        Vec gates[4], gradients[4];
        load_gates<Vectors>(pointers.gates, gates);
        const auto& [i, f, g, o] = gates;
        // The tangent of the cell's state: cheaper from the output than from the state.
        const Vec squashed = pointers.h / at_least(o, 0x1p-124f);
        Vec dc = dh * o * negated_fma(squashed, squashed, broadcast(1.0f));
        if (pointers.carried) dc = dc + load(pointers.carry);
        const Vec before = pointers.before ? load(pointers.before) : Vec{};
        gradients[0] = without_vanishing(dc * g * kind.slope(i));
        gradients[1] = without_vanishing(dc * before * kind.slope(f));
        gradients[2] = without_vanishing(dc * i * negated_fma(g, g, broadcast(1.0f)));
        gradients[3] = without_vanishing(dh * squashed * kind.slope(o));
        store_gates<Vectors>(gradients, pointers.gradients);
        store(pointers.carry, without_vanishing(dc * f));
    }
};

}  // namespace bilstm
