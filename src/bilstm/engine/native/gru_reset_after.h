// The cell of a GRU whose reset gate comes after the recurrent product: h' = tanh(x W + b + r (h U + c)).
#pragma once

#include "gru.h"

namespace bilstm {

struct AnyGru : GruCommon {
    using Common = AnyGru;
    static void shape(Direction& direction) { GruCommon::shape(direction, true); }
    static std::vector<GateGradient> recurrent_gates() { return {{0, 0}, {1, 1}, {2, 3}}; }

    // The candidate's two sums are apart, of the inputs and of the recurrent part, which begins with its own bias.
    template <int Vectors, int Panels>
    [[gnu::always_inline]] static void turn(const float* panel, int64_t panel_step, int64_t inputs,
                                            Vec (&sums)[Vectors], Vec (&aside)[Panels]) {
        for (int p = 0; p < Panels; ++p) {
            const float* biases = panel + p * panel_step + (1 + inputs) * (kVectors * kLanes);
            Vec* own = sums + p * kVectors;
            aside[p] = own[2];
            own[0] = own[0] + load(biases);
            own[1] = own[1] + load(biases + kLanes);
            own[2] = load(biases + 2 * kLanes);
        }
    }

    struct Parts {
        template <typename Visit>
        [[gnu::always_inline]] static void each(const PackedShape& shape, int64_t recurrent, int64_t, Visit&& visit) {
            visit(0, recurrent - 1, 0, Constant<0>{}, Constant<3>{}, Constant<2>{});
            visit(recurrent - 1, shape.rows, 0, Constant<0>{}, Constant<3>{}, Constant<3>{});
        }
    };
};

template <typename Gates>
struct Gru : AnyGru {
    static constexpr bool kEveryTile = Gates::kEveryTile;
    static Gates gates_of(const Direction& direction) { return Gates(direction.gate_slope()); }

    // Cell n is that of row n / Panels and panel n % Panels; keeps its gates where place(n) says, unless it is null.
    template <int Panels, int Rows, typename Place>
    [[gnu::always_inline]] static void activate(const Direction& direction, const Vec (&sums)[Rows][3 * Panels],
                                                const Vec (&aside)[Rows][Panels], const Place& place,
                                                Vec (&z)[Rows * Panels], Vec (&candidates)[Rows * Panels]) {
        constexpr int kCells = Rows * Panels;
        bilstm::each<kCells>([&](int n) {
            const Vec* own = sums[n / Panels] + n % Panels * 3;
            Vec gates[2] = {own[0], own[1]};
            activate_gates(gates_of(direction), gates);
            z[n] = gates[0];
            candidates[n] = fma(gates[1], own[2], aside[n / Panels][n % Panels]);
            if (float* to = place(n)) {
                store(to, gates[0]);
                store(to + kLanes, gates[1]);
                store(to + 3 * kLanes, own[2]);
            }
        });
        hyperbolic_tangents(candidates);
        bilstm::each<kCells>([&](int n) {
            if (float* to = place(n)) store(to + 2 * kLanes, candidates[n]);
        });
    }

    template <typename Caller, int Panels, int LastVectors, int Rows>
    [[gnu::always_inline]] static void finish(const Direction& direction, const CellPointers (&at)[Rows], int64_t units,
                                              const Vec (&sums)[Rows][3 * Panels], const Vec (&aside)[Rows][Panels]) {
        constexpr int kCells = Rows * Panels;
        Vec z[kCells], candidates[kCells];
        const auto place = [&](int n) -> float* {
            const CellPointers& own = at[n / Panels];
            return own.gates ? own.gates + n % Panels * own.gate_step : nullptr;
        };
        activate<Panels>(direction, sums, aside, place, z, candidates);
        bilstm::each<kCells>([&](int n) {
            const CellPointers& own = at[n / Panels];
            const int64_t unit = n % Panels * kLanes;
            const Vec h = output(z[n], candidates[n], own.before ? load(own.before + unit) : Vec{});
            store(own.recent + unit, h);
            store_partial(own.hidden + unit, h, units - unit);
        });
    }

    template <int Vectors, int Rows, typename Place>
    [[gnu::always_inline]] static void keep(const Direction& direction, const Vec (&sums)[Rows][3],
                                            const Vec (&aside)[Rows][1], const Place& place) {
        Vec z[Rows], candidates[Rows];
        activate<1>(direction, sums, aside, place, z, candidates);
    }

    // Gradients of the sums of z and r, of the candidate's inputs, and of its recurrent part.
    template <int>
    [[gnu::always_inline]] static void gradient(const Direction& direction, Vec dh, const GradientPointers& pointers) {
        const Gates kind = gates_of(direction);
        const Vec z = load(pointers.gates), r = load(pointers.gates + kLanes),
                  candidate = load(pointers.gates + 2 * kLanes);
        const Vec recurrent = load(pointers.gates + 3 * kLanes);
        const Vec before = pointers.before ? load_partial(pointers.before, pointers.before_units) : Vec{};
        if (pointers.carried) dh = dh + load(pointers.carry);
        const Vec by_candidate = dh * (1.0f - z) * negated_fma(candidate, candidate, broadcast(1.0f));
        store(pointers.gradients, without_vanishing(dh * (before - candidate) * kind.slope(z)));
        store(pointers.gradients + kLanes, without_vanishing(by_candidate * recurrent * kind.slope(r)));
        store(pointers.gradients + 2 * kLanes, without_vanishing(by_candidate));
        store(pointers.gradients + 3 * kLanes, without_vanishing(by_candidate * r));
        store(pointers.carry, without_vanishing(dh * z));
    }
};

}  // namespace bilstm
