// The backward pass of a cell: gradients of its gates, and of its weights. What it needs of a policy:
//   with_gate_vectors(n, f)  calls f(Constant<n>) for a block's number of vectors of gates;
//   gradient<V>(dh, pointers)  the gate gradients of a sequence's step and block of units, whose gates are V vectors;
//   Parts                    which of the weights' gradients are made of which features; see weight_gradient.
#pragma once

#include <algorithm>
#include <cstring>
#include <utility>

#include "accumulate.h"
#include "direction.h"
#include "elementary.h"
#include "fetches.h"

namespace bilstm {

// What most cells have in common.
struct AnyCell {
    static constexpr bool kEveryTile = true;
    using Parts = AllWeights;
    static int64_t lanes(int64_t, int64_t) { return kLanes; }
    // Features besides those that gather_features writes.
    static int64_t more_features(const Direction&) { return 0; }
    static void gather_more(const DirectionPass&, int64_t, int64_t, float*) {}
    template <int Vectors, int Panels>
    [[gnu::always_inline]] static void turn(const float*, int64_t, int64_t, Vec (&)[Vectors], Vec (&)[Panels]) {}
};

// What the backward step of one sequence and block of units reads and writes.
struct GradientPointers {
    const float* gates;   // activated
    float* gradients;     // of the gates' inputs; may be the same place
    Vec h;                // the output
    const float* before;  // of the step before, or null: c, or h of a cell without
    int64_t before_units;
    float* carry;  // gradient of the state, from the step after or of the last state; replaced by this step's
    bool carried;  // whether there is one
};

// sums += the part of a state's gradient that comes by some gates' gradients, of rows from `row` on.
template <int Rows, int Vectors, typename Also>
[[gnu::always_inline]] inline void add_from_gates(const std::vector<GateSegment>& segments, const GateRows& gradients,
                                                  int64_t row, const float* matrix, Vec (&sums)[Rows][Vectors],
                                                  const Also& also) {
    multiply_add_runs<1>(
        static_cast<int64_t>(segments.size()),
        [&](int64_t i, const float*(&a)[Rows]) {
            const GateSegment& segment = segments[static_cast<size_t>(i)];
            for (int r = 0; r < Rows; ++r) a[r] = gradients.row(segment.panel, row + r, segment.width) + segment.lane;
            return Run{segment.count, matrix + segment.row * (Vectors * kLanes), Vectors * kLanes};
        },
        sums, also);
}

// What reaches the outputs of step t from outside; of last steps, `ends`, also from the states that they leave.
template <int Rows, int Vectors>
[[gnu::always_inline]] inline void outside_gradients(const DirectionPass& pass, int64_t t, int64_t row, int64_t panel,
                                                     bool ends, const Arriving& arriving, Vec (&sums)[Rows][Vectors]) {
    const int64_t units = pass.direction->units;
    for (int r = 0; r < Rows; ++r) {
        const float* from = arriving.row(pass, row + r, t);
        for (int v = 0; v < Vectors; ++v) {
            const int64_t unit = panel * kPanel + v * kLanes;
            sums[r][v] = from ? load_partial(from + unit, units - unit) : Vec{};
            if (ends && pass.goes_on())
                sums[r][v] += load_partial(pass.state_row(pass.states->after, row + r) + unit, units - unit);
        }
    }
}

// Where c of the step before is, [block][sequence][lanes], or null.
template <typename Cell>
[[gnu::always_inline]] inline const float* cells_before(const DirectionPass& pass, int64_t t) {
    return Cell::kHasCells ? (t ? pass.cell_run(t - 1) : pass.first_cells) : nullptr;
}
inline int64_t sequences_before(const DirectionPass& pass, int64_t t) {
    return t ? pass.active(t - 1) : pass.batch->sequences;
}

// From the gradients of a tile's outputs to those of its gates.
template <typename Cell, int Rows, int Vectors>
[[gnu::always_inline]] inline void gate_gradients(const DirectionPass& pass, int64_t t, int64_t row, int64_t panel,
                                                  bool carried, const Arriving& arriving,
                                                  const Vec (&sums)[Rows][Vectors]) {
    constexpr int64_t kBlocks = Cell::kUnits / kLanes;  // of a panel of gates
    const Direction& direction = *pass.direction;
    const GateRows gates_now = Cell::kKeepsGates ? pass.gate_rows(t) : GateRows{}, gradients = pass.gradient_rows(t);
    const float* cells = cells_before<Cell>(pass, t);
    const int64_t sequences = sequences_before(pass, t);
    for (int r = 0; r < Rows; ++r) {
        const int64_t at = row + r;
        const float* hidden_now = pass.hidden_row(at, t);
        const float* hidden_before = Cell::kHasCells ? nullptr : pass.hidden_before(at, t);
        for (int v = 0; v < Vectors; ++v) {
            const int64_t block = panel * kTileVectors + v, unit = block * kLanes, own = block / kBlocks;
            const int64_t width = std::min(kPanel, direction.gates.columns - own * kPanel);
            Cell::with_gate_vectors(width / kLanes, [&](auto vectors) {
                GradientPointers pointers;
                pointers.gates = Cell::kKeepsGates ? gates_now.row(own, at, width) : nullptr;
                pointers.gradients = gradients.row(own, at, width) + block % kBlocks * kLanes;
                pointers.h = load_partial(hidden_now + unit, direction.units - unit);
                pointers.before = cells           ? cells + (block * sequences + at) * kLanes
                                  : hidden_before ? hidden_before + unit
                                                  : nullptr;
                pointers.before_units = direction.units - unit;
                pointers.carry = arriving.carry + (block * pass.batch->sequences + at) * kLanes;
                pointers.carried = carried || pass.goes_on();
                Cell::template gradient<decltype(vectors)::value>(direction, sums[r][v], pointers);
            });
        }
    }
}

// carried: there is a step after, whose gate gradients are known.
template <typename Cell, int Rows, int Vectors>
[[gnu::always_inline]] inline void backward_tile(const DirectionPass& pass, int64_t t, int64_t row, int64_t panel,
                                                 bool carried, const Arriving& arriving) {
    const Direction& direction = *pass.direction;
    Fetches<2 * (Rows + Vectors)> fetches;  // for after the product, and what arrives at the step before
    if (Cell::kKeepsGates && carried && pass.fetches_ahead) {
        const GateRows gates = pass.gate_rows(t);
        const float* cells = cells_before<Cell>(pass, t);
        for (int v = 0; v < Vectors; ++v) {
            const int64_t block = panel * kTileVectors + v, width = direction.gates.width(block);
            fetches.add(gates.row(block, row, width), Rows * width);
            if (cells) fetches.add(cells + (block * sequences_before(pass, t) + row) * kLanes, Rows * kLanes);
        }
        for (int r = 0; r < Rows; ++r) {
            fetches.add(pass.hidden_row(row + r, t) + panel * kPanel, Vectors * kLanes);
            if (t > 0)
                if (const float* from = arriving.row(pass, row + r, t - 1))
                    fetches.add(from + panel * kPanel, Vectors * kLanes);
        }
        fetches.divide(direction.weights.variables[0].columns / kTurn);
    }
    Vec sums[Rows][Vectors];
    outside_gradients(pass, t, row, panel, !carried, arriving, sums);
    if (carried)
        add_from_gates(direction.to_previous, pass.gradient_rows(t + 1), row,
                       arriving.recurrent + direction.transposed(direction.units).start(panel), sums,
                       [&] { fetches.turn(); });
    gate_gradients<Cell>(pass, t, row, panel, carried, arriving, sums);
}

// A step of a single sequence in two directions of the same size: their products hide each other's latency.
template <typename Cell>
void backward_both(const DirectionPass* const (&passes)[2], int64_t t, const Arriving* const (&arriving)[2]) {
    const Direction& direction = *passes[0]->direction;
    const PackedShape shape = direction.transposed(direction.units);
    const bool carried = t + 1 < passes[0]->batch->longest;
    for (int64_t panel = 0; panel < shape.panels(); ++panel)
        with_vectors(shape.width(panel) / kLanes, [&](auto vectors) {
            constexpr int V = decltype(vectors)::value;
            Vec sums[2][1][V];
            for (int d = 0; d < 2; ++d) outside_gradients(*passes[d], t, 0, panel, !carried, *arriving[d], sums[d]);
            for (size_t i = 0; carried && i < direction.to_previous.size(); ++i) {
                const GateSegment& segment = direction.to_previous[i];
                const float *a[2], *matrices[2];
                for (int d = 0; d < 2; ++d) {
                    a[d] = passes[d]->gradient_rows(t + 1).row(segment.panel, 0, segment.width) + segment.lane;
                    matrices[d] = arriving[d]->recurrent + shape.start(panel) + segment.row * (V * kLanes);
                }
                Vec both[2][V];
                std::memcpy(both, sums, sizeof both);
                multiply_add_apart(
                    a, segment.count, [&](int64_t k, int d, int v) { return matrices[d] + (k * V + v) * kLanes; },
                    both);
                std::memcpy(sums, both, sizeof both);
            }
            for (int d = 0; d < 2; ++d) gate_gradients<Cell>(*passes[d], t, 0, panel, carried, *arriving[d], sums[d]);
        });
}

// Calls tile(Constant<rows>, Constant<vectors>, first row, panel of transposed weights, whether there is a step after)
// for the sequences of a step.
template <bool EveryTile, typename Tile>
[[gnu::always_inline]] inline void for_backward_tiles(const DirectionPass& pass, int64_t t, int64_t first, int64_t last,
                                                      Tile&& tile) {
    const int64_t end = std::min(last, pass.active(t));
    if (end <= first) return;
    const int64_t going_on = t + 1 < pass.batch->longest ? std::max(first, std::min(last, pass.active(t + 1))) : first;
    const PackedShape shape = pass.direction->transposed(pass.direction->units);
    for (int64_t panel = 0; panel < shape.panels(); ++panel)
        with_vectors(shape.width(panel) / kLanes, [&](auto vectors) {
            constexpr int V = decltype(vectors)::value;
            for_row_tiles<V, EveryTile>(first, going_on,
                                        [&](auto rows, int64_t row) { tile(rows, vectors, row, panel, true); });
            for_row_tiles<V, EveryTile>(going_on, end,
                                        [&](auto rows, int64_t row) { tile(rows, vectors, row, panel, false); });
        });
}

// What a row of weights was multiplied by: a bias's 1, the inputs, a 1 for a second bias, the outputs of the step
// before.
inline void gather_features(const DirectionPass& pass, int64_t row, int64_t t, float* after_bias) {
    const int64_t inputs = pass.direction->inputs, units = pass.direction->units;
    copy_padded(pass.input_row(row, t), inputs, after_bias);
    if (pass.direction->first_recurrent == inputs + 2) after_bias[inputs] = pass.direction->weights.bias_feature();
    float* outputs = after_bias + pass.direction->first_recurrent - 1;
    if (const float* before = pass.hidden_before(row, t))
        copy_padded(before, units, outputs);
    else
        std::fill_n(outputs, units, 0.0f);
}

template <typename Cell>
void cell_weight_gradient(const DirectionPass& pass, float* gradient, int64_t first, int64_t last, Steps steps,
                          bool add, Buffer& scratch) {
    const Direction& direction = *pass.direction;
    // Rows as the chunk has them: from the last step to the first.
    int64_t t = steps.end - 1, row = 0;
    const auto gather = [&](float* to) {
        gather_features(pass, row, t, to);
        Cell::gather_more(pass, row, t, to + direction.weights.shape.rows - 1);
        if (++row == pass.active(t)) --t, row = 0;
    };
    weight_gradient<typename Cell::Parts>(
        direction.weights.shape, direction.first_recurrent, gradient, first, last, pass.chunk_rows(), add, scratch,
        direction.weights.shape.rows + Cell::more_features(direction), direction.weights.bias_feature(), gather,
        [&](int64_t panel) {
            return std::pair<const float*, int64_t>(
                pass.chunk + panel * DirectionPass::chunk_panel_step(pass.chunk_rows()), direction.gates.width(panel));
        });
}

}  // namespace bilstm
