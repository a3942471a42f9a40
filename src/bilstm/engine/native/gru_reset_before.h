// The cell of a GRU whose reset gate comes before the recurrent product: h' = tanh(x W + b + (r h) U). A step has two
// halves, each through all units: first the gates z and r, then the candidates, whose products need r of all units.
#pragma once

#include "gru.h"

namespace bilstm {

struct GruResetBefore : GruCommon {
    using Common = GruResetBefore;
    static void shape(Direction& direction) { GruCommon::shape(direction, false); }
    static std::vector<GateGradient> recurrent_gates() { return {{0, 0}, {1, 1}}; }

    // The recurrent rows of the candidate have r h of the step before for features, which follow the outputs.
    struct Parts {
        template <typename Visit>
        [[gnu::always_inline]] static void each(const PackedShape& shape, int64_t recurrent, int64_t, Visit&& visit) {
            visit(0, recurrent, 0, Constant<0>{}, Constant<3>{}, Constant<2>{});
            visit(recurrent, shape.rows, 0, Constant<0>{}, Constant<2>{}, Constant<2>{});
            visit(recurrent, shape.rows, shape.rows - recurrent, Constant<2>{}, Constant<1>{}, Constant<2>{});
        }
    };
    static int64_t more_features(const Direction& direction) { return direction.units; }
    static void gather_more(const DirectionPass& pass, int64_t row, int64_t t, float* to) {
        const GateRows gradients = pass.gradient_rows(t);
        for (int64_t unit = 0; unit < pass.direction->units; unit += kLanes)
            store(to + unit, load(gradients.row(unit / kLanes, row, kPanel) + 3 * kLanes));
    }
};

// Where a step's halves leave numbers for each other: r h of the step before, in a row, then z and the candidate's sum.
struct Between {
    float *reset, *z, *sum;
    Between(const DirectionPass& pass, int64_t row)
        : reset(pass.between + row * 3 * pass.padded()), z(reset + pass.padded()), sum(z + pass.padded()) {}
};

// previous(r): h of the step before, in a row; null at a first step.
template <typename Gates, typename Weight, int Rows, typename Previous>
[[gnu::always_inline]] inline void first_half(const DirectionPass& pass, int64_t t, int64_t row, int64_t block,
                                              const float* projected, const Previous& previous, const GateRows* gates) {
    const Direction& direction = *pass.direction;
    const int64_t start = direction.weights.shape.start(block), unit = block * kLanes;
    const Weight* panel = direction.weights.panels<Weight>() + start;
    const auto column = [&](int64_t k, int v) { return panel + (k * 3 + v) * kLanes; };
    Vec all[Rows][3], sums[Rows][2];
    input_sums<GruResetBefore, Weight, 1, 3>(pass, t, row, block, projected, column, all);
    for (int r = 0; r < Rows; ++r) {
        store(Between(pass, row + r).sum + unit, all[r][2]);
        sums[r][0] = all[r][0], sums[r][1] = all[r][1];
    }
    if (previous(0)) {
        const float* a[Rows];
        for (int r = 0; r < Rows; ++r) a[r] = previous(r);
        multiply_add<1, 2>(
            a, direction.units, [&](int64_t k, int v) { return column(direction.first_recurrent + k, v); }, sums);
    }
    for (int r = 0; r < Rows; ++r) {
        const Between to(pass, row + r);
        GruCommon::activate_gates(Gates(direction.gate_slope()), sums[r]);
        const float* before = previous(r);
        const Vec reset = before ? sums[r][1] * load_partial(before + unit, direction.units - unit) : Vec{};
        store(to.z + unit, sums[r][0]);
        store(to.reset + unit, reset);
        if (!gates) continue;
        float* kept = gates->row(block, row + r, kPanel);
        store(kept, sums[r][0]);
        store(kept + kLanes, sums[r][1]);
        store(kept + 3 * kLanes, reset);
    }
}

// The candidates. `continues`: there is a step before.
template <typename Weight, int Rows>
[[gnu::always_inline]] inline void second_half(const DirectionPass& pass, int64_t row, int64_t block, bool continues,
                                               const GateRows* gates, Vec (&candidates)[Rows]) {
    const Direction& direction = *pass.direction;
    const int64_t unit = block * kLanes, start = direction.weights.shape.start(block);
    const Weight* panel = direction.weights.panels<Weight>() + start + (direction.first_recurrent * 3 + 2) * kLanes;
    Vec sums[Rows][1];
    const float* a[Rows];
    for (int r = 0; r < Rows; ++r) {
        const Between from(pass, row + r);
        a[r] = from.reset;
        sums[r][0] = load(from.sum + unit);
    }
    if (continues) multiply_add<1, 1>(a, direction.units, [&](int64_t k, int) { return panel + k * 3 * kLanes; }, sums);
    for (int r = 0; r < Rows; ++r) candidates[r] = sums[r][0];
    hyperbolic_tangents(candidates);
    for (int r = 0; gates && r < Rows; ++r) store(gates->row(block, row + r, kPanel) + 2 * kLanes, candidates[r]);
}

// Calls tile(Constant<rows>, first row, block of units) for each tile, which is Vectors vectors wide.
template <int Vectors, bool EveryTile, typename Tile>
[[gnu::always_inline]] inline void for_blocks(const DirectionPass& pass, int64_t first, int64_t end, Tile&& tile) {
    for (int64_t block = 0; block < pass.direction->blocks(); ++block)
        for_row_tiles<Vectors, EveryTile>(first, end, [&](auto rows, int64_t row) { tile(rows, row, block); });
}

template <typename Gates, typename Weight>
void two_halves(const DirectionPass& pass, int64_t t, int64_t first, int64_t last, const Mode& mode,
                Projection* projection) {
    const int64_t end = std::min(last, pass.active(t)), units = pass.direction->units;
    if (end <= first) return;
    if (t == 0 && mode.states_in) pass.begin_from_states(first, last, mode);
    const bool continues = t > 0 || mode.states_in;
    const float* projected = projected_step<GruResetBefore, Weight>(pass, t, first, last, end, projection);
    const GateRows kept = pass.gates ? pass.gate_rows(t) : GateRows{};
    const GateRows* gates = pass.gates ? &kept : nullptr;
    for_blocks<3, Gates::kEveryTile>(pass, first, end, [&](auto rows, int64_t row, int64_t block) {
        const int64_t row_size = pass.direction->weights.shape.columns;
        const float* sums = projected ? projected + (row - first) * row_size + block * 3 * kLanes : nullptr;
        first_half<Gates, Weight, decltype(rows)::value>(
            pass, t, row, block, sums, [&](int r) { return continues ? pass.before(row + r, t) : nullptr; }, gates);
    });
    for_blocks<1, Gates::kEveryTile>(pass, first, end, [&](auto rows, int64_t row, int64_t block) {
        constexpr int R = decltype(rows)::value;
        const int64_t unit = block * kLanes;
        Vec candidates[R];
        second_half<Weight>(pass, row, block, continues, gates, candidates);
        for (int r = 0; r < R; ++r) {
            const Vec before = continues ? load(pass.before(row + r, t) + unit) : Vec{};
            const Vec h = GruCommon::output(load(Between(pass, row + r).z + unit), candidates[r], before);
            store(pass.recent_run(t) + (row + r) * pass.padded() + unit, h);
            store_partial(pass.hidden_row(row + r, t) + unit, h, units - unit);
        }
    });
    leave_ended(pass, t, first, last, mode);
}

// The gradients of z and of the candidates' sums, and a part of the gradient that flows to the step before.
template <typename Gates>
struct FirstHalf : GruCommon {
    template <int>
    [[gnu::always_inline]] static void gradient(const Direction& direction, Vec dh, const GradientPointers& pointers) {
        const Gates kind(direction.gate_slope());
        const Vec z = load(pointers.gates), candidate = load(pointers.gates + 2 * kLanes);
        const Vec before = pointers.before ? load_partial(pointers.before, pointers.before_units) : Vec{};
        if (pointers.carried) dh = dh + load(pointers.carry);
        const Vec by_candidate = dh * (1.0f - z) * negated_fma(candidate, candidate, broadcast(1.0f));
        store(pointers.gradients + 3 * kLanes, load(pointers.gates + 3 * kLanes));  // for the gradients of weights
        store(pointers.gradients, without_vanishing(dh * (before - candidate) * kind.slope(z)));
        store(pointers.gradients + 2 * kLanes, without_vanishing(by_candidate));
        store(pointers.carry, without_vanishing(dh * z));
    }
};

// The gradients of r, by those of r h, and what is left of the step before's.
template <typename Gates, int Rows, int Vectors>
[[gnu::always_inline]] inline void reset_gradients(const DirectionPass& pass, int64_t t, int64_t row, int64_t panel,
                                                   const Arriving& arriving) {
    const Direction& direction = *pass.direction;
    const GateRows gates = pass.gate_rows(t), gradients = pass.gradient_rows(t);
    const float* matrix = arriving.recurrent + direction.transposed(direction.units).start(panel);
    const Gates kind(direction.gate_slope());
    Vec sums[Rows][Vectors];
    clear(sums);
    if (pass.hidden_before(row, t)) add_from_gates(direction.to_reset, gradients, row, matrix, sums, [] {});
    for (int r = 0; r < Rows; ++r)
        for (int v = 0; v < Vectors; ++v) {
            const int64_t block = panel * kTileVectors + v, unit = block * kLanes, at = row + r;
            const Vec reset = load(gates.row(block, at, kPanel) + kLanes);
            const float* hidden = pass.hidden_before(at, t);
            const Vec before = hidden ? load_partial(hidden + unit, direction.units - unit) : Vec{};
            float* carry = arriving.carry + (block * pass.batch->sequences + at) * kLanes;
            store(gradients.row(block, at, kPanel) + kLanes,
                  without_vanishing(sums[r][v] * before * kind.slope(reset)));
            store(carry, without_vanishing(fma(sums[r][v], reset, load(carry))));
        }
}

template <typename Gates>
class GruResetBeforeDirection final : public Direction {
  public:
    explicit GruResetBeforeDirection(const DirectionPlan& plan) : Direction(plan) {
        GruResetBefore::shape(*this);
        if (!plan.biased) weights.drop_biases();
        halves = true;
        to_inputs = segments(GruResetBefore::input_gates());
        to_previous = segments(GruResetBefore::recurrent_gates());
        to_reset = segments({{2, 2}}, 2 * units);
    }
    void forward_step(const DirectionPass& pass, int64_t t, int64_t first, int64_t last, const Mode& mode,
                      Projection* projection) const override {
        mode.rounded ? two_halves<Gates, Bfloat16>(pass, t, first, last, mode, projection)
                     : two_halves<Gates, float>(pass, t, first, last, mode, projection);
    }
    void backward_step(const DirectionPass& pass, int64_t t, int64_t first, int64_t last,
                       const Arriving& arriving) const override {
        for_backward_tiles<Gates::kEveryTile>(
            pass, t, first, last, [&](auto rows, auto vectors, int64_t row, int64_t panel, bool carried) {
                backward_tile<FirstHalf<Gates>, decltype(rows)::value, decltype(vectors)::value>(pass, t, row, panel,
                                                                                                 carried, arriving);
            });
        for_backward_tiles<Gates::kEveryTile>(
            pass, t, first, last, [&](auto rows, auto vectors, int64_t row, int64_t panel, bool) {
                reset_gradients<Gates, decltype(rows)::value, decltype(vectors)::value>(pass, t, row, panel, arriving);
            });
    }
    void recompute_gates(const DirectionPass& pass, Steps steps, int64_t first, int64_t last) const override {
        for (int64_t t = steps.begin; t < steps.end; ++t) {
            const GateRows kept = pass.gate_rows(t);
            const int64_t end = std::max(first, std::min(last, pass.active(t)));
            for_blocks<3, Gates::kEveryTile>(pass, first, end, [&](auto rows, int64_t row, int64_t block) {
                first_half<Gates, float, decltype(rows)::value>(
                    pass, t, row, block, nullptr, [&](int r) { return pass.hidden_before(row + r, t); }, &kept);
            });
            for_blocks<1, Gates::kEveryTile>(pass, first, end, [&](auto rows, int64_t row, int64_t block) {
                Vec candidates[decltype(rows)::value];
                second_half<float>(pass, row, block, pass.hidden_before(row, t), &kept, candidates);
            });
        }
    }
    void weight_gradient(const DirectionPass& pass, float* gradient, int64_t first, int64_t last, Steps steps, bool add,
                         Buffer& scratch) const override {
        cell_weight_gradient<GruResetBefore>(pass, gradient, first, last, steps, add, scratch);
    }
};

}  // namespace bilstm
