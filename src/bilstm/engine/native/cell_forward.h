// The forward pass of a cell, for each kind of cell a policy:
//   Common               what it has in common with cells that differ in their activations only;
//   kEveryTile           see gate_activation.h;
//   kVectors             vectors of weights in a full panel;
//   kUnits               units of a panel, kLanes or kPanel;
//   with_vectors(n, f)   calls f(Constant<n>) for a panel's number of vectors;
//   turn(...)            between the inputs' part of the sums and the recurrent part;
//   finish(...)          from sums to states and outputs;
//   keep(...)            from sums to gates, as `finish` keeps them for the backward pass.
#pragma once

#include "direction.h"
#include "elementary.h"
#include "product.h"

namespace bilstm {

// Where the numbers of one sequence, step and panel are; those of the next panel a step further.
struct CellPointers {
    const float* before;  // of the step before, or null: c, or h of a cell without
    float *cell, *gates;  // gates: null where they are not kept
    float *recent, *hidden;
    int64_t before_step, cell_step, gate_step;
};

// By a number of panels, each of which is a step for a single sequence.
template <typename Cell>
[[gnu::always_inline]] inline void advance(CellPointers& at, int64_t panels) {
    if (at.before) at.before += panels * at.before_step;
    if (at.gates) at.gates += panels * kPanel;
    if constexpr (Cell::kHasCells) at.cell += panels * at.cell_step;
    at.recent += panels * Cell::kUnits, at.hidden += panels * Cell::kUnits;
}

template <typename Cell, int Panels, int LastVectors>
inline constexpr int kSumsOf = Cell::kVectors * (Panels - 1) + LastVectors;

// Where a tile from `panel` on, of whose Panels panels the last has LastVectors vectors, has the numbers of a row.
template <typename Cell, int Panels, int LastVectors>
[[gnu::always_inline]] inline CellPointers cell_pointers(const DirectionPass& pass, int64_t row, int64_t t,
                                                         int64_t panel, bool continues) {
    const int64_t unit = panel * Cell::kUnits;
    CellPointers at;
    at.gates = nullptr;
    at.gate_step = 0;
    if constexpr (Cell::kHasCells) {
        at.before_step = pass.cell_rows(t ? t - 1 : 0) * kLanes;
        at.before = continues ? pass.cell_run(t ? t - 1 : 0) + panel * at.before_step + row * kLanes : nullptr;
        at.cell_step = pass.cell_rows(t) * kLanes;
        at.cell = pass.cell_run(t) + panel * at.cell_step + row * kLanes;
    } else {
        at.before_step = Cell::kUnits;
        at.before = continues ? pass.before(row, t) + unit : nullptr;
    }
    if (pass.gates) {
        constexpr int64_t kWidth = Cell::template kGateVectors<LastVectors> * kLanes;
        const GateRows all = pass.gate_rows(t);
        at.gates = all.row(panel, row, Panels == 1 ? kWidth : kPanel);
        if (Panels == 2) at.gate_step = all.row(panel + 1, row, kWidth) - at.gates;
    }
    at.recent = pass.recent_run(t) + row * pass.padded() + unit;
    at.hidden = pass.hidden_row(row, t) + unit;
    return at;
}

// As many steps from t on as make a batch of rows; tiles run across steps.
template <typename Cell, typename Weight>
void project(const DirectionPass& pass, int64_t t, int64_t first, int64_t last, Projection& projection) {
    constexpr int64_t kRows = 8 * kTileRows;
    const Parameter& weights = pass.direction->weights;
    const int64_t row_size = weights.shape.columns;
    const float* rows[kRows];
    int64_t count = 0;
    projection.begin = t;
    projection.at.clear();
    for (; t < pass.batch->longest; ++t) {
        const int64_t end = std::min(last, pass.active(t));
        if (end <= first || count + end - first > kRows) break;
        projection.at.push_back(count * row_size);
        for (int64_t row = first; row < end; ++row) rows[count++] = pass.input_row(row, t);
    }
    projection.end = t;
    float* to = projection.sums.reserve(kRows * row_size);
    for (int64_t number = 0; number < weights.shape.panels(); ++number) {
        const float* biases = weights.value.data() + weights.shape.start(number);
        const Weight* panel = weights.panels<Weight>() + weights.shape.start(number);
        Cell::with_vectors(weights.shape.width(number) / kLanes, [&](auto vectors) {
            constexpr int V = decltype(vectors)::value;
            for_row_tiles<V>(0, count, [&](auto tile, int64_t row) {
                constexpr int R = decltype(tile)::value;
                Vec sums[R][V];
                const float* a[R];
                for (int r = 0; r < R; ++r) {
                    a[r] = rows[row + r];
                    for (int v = 0; v < V; ++v) sums[r][v] = load(biases + v * kLanes);
                }
                multiply_add<1>(a, pass.direction->inputs, panel + V * kLanes, V * kLanes, sums);
                float* own = to + row * row_size + number * Cell::kVectors * kLanes;
                for (int r = 0; r < R; ++r)
                    for (int v = 0; v < V; ++v) store(own + r * row_size + v * kLanes, sums[r][v]);
            });
        });
    }
}

// The inputs' part of the sums, of Rows sequences from `row` on and Panels panels from `panel` on, the last of them of
// LastVectors vectors. `projected`: that part, if known.
template <typename Cell, typename Weight, int Panels, int LastVectors, int Rows, typename Column>
[[gnu::always_inline]] inline void input_sums(const DirectionPass& pass, int64_t t, int64_t row, int64_t panel,
                                              const float* projected, const Column& column,
                                              Vec (&sums)[Rows][kSumsOf<Cell, Panels, LastVectors>]) {
    constexpr int P = Cell::kVectors, kVectors = kSumsOf<Cell, Panels, LastVectors>;
    const Parameter& weights = pass.direction->weights;
    if (projected) {
        for (int r = 0; r < Rows; ++r)
            for (int v = 0; v < kVectors; ++v) sums[r][v] = load(projected + r * weights.shape.columns + v * kLanes);
        return;
    }
    const int64_t panel_step = weights.shape.start(1);
    const float* biases = weights.value.data() + panel * panel_step;
    const float* a[Rows];
    for (int r = 0; r < Rows; ++r) {
        a[r] = pass.input_row(row + r, t);
        for (int v = 0; v < kVectors; ++v) sums[r][v] = load(biases + v / P * panel_step + v % P * kLanes);
    }
    multiply_add<1, Panels == 1 ? kVectors : P>(
        a, pass.direction->inputs, [&](int64_t k, int v) { return column(1 + k, v); }, sums);
}

// What enters a step's gates; previous(r) is h of the step before, or null. What Cell::turn sets aside goes no further.
template <typename Cell, typename Weight, int Panels, int LastVectors, int Rows, typename Previous>
[[gnu::always_inline]] inline void gate_sums(const DirectionPass& pass, int64_t t, int64_t row, int64_t panel,
                                             const float* projected, const Previous& previous,
                                             Vec (&sums)[Rows][kSumsOf<Cell, Panels, LastVectors>],
                                             Vec (&aside)[Rows][Panels]) {
    constexpr int P = Cell::kVectors, kVectors = kSumsOf<Cell, Panels, LastVectors>;
    const Direction& direction = *pass.direction;
    const int64_t panel_step = direction.weights.shape.start(1);
    const Weight* first = direction.weights.panels<Weight>() + panel * panel_step;
    const auto column = [&](int64_t k, int v) {
        const int64_t width = v / P == Panels - 1 ? LastVectors * kLanes : P * kLanes;
        return first + v / P * panel_step + k * width + v % P * kLanes;
    };
    input_sums<Cell, Weight, Panels, LastVectors>(pass, t, row, panel, projected, column, sums);
    for (int r = 0; r < Rows; ++r)
        Cell::turn(direction.weights.value.data() + panel * panel_step, panel_step, direction.inputs, sums[r],
                   aside[r]);
    if (!previous(0)) return;
    const float* a[Rows];
    for (int r = 0; r < Rows; ++r) a[r] = previous(r);
    multiply_add<1, Panels == 1 ? kVectors : P>(
        a, direction.units, [&](int64_t k, int v) { return column(direction.first_recurrent + k, v); }, sums);
}

template <typename Cell, typename Weight, int Rows, int Panels, int LastVectors>
[[gnu::always_inline]] inline void forward_tile(const DirectionPass& pass, int64_t t, int64_t row, int64_t panel,
                                                const float* projected, const Mode& mode) {
    const bool continues = t > 0 || mode.states_in;
    if (pass.gates && pass.fetches_ahead) {  // while the tile computes what goes there
        const int64_t width = Panels == 1 ? Cell::template kGateVectors<LastVectors> * kLanes : kPanel;
        prefetch(pass.gate_rows(t).row(panel, row, width), Rows * width);
        if constexpr (Cell::kHasCells)
            prefetch(pass.cell_run(t) + (panel * pass.cell_rows(t) + row) * kLanes, Rows * kLanes);
    }
    Vec sums[Rows][kSumsOf<Cell, Panels, LastVectors>], aside[Rows][Panels];
    gate_sums<Cell, Weight, Panels, LastVectors>(
        pass, t, row, panel, projected, [&](int r) { return continues ? pass.before(row + r, t) : nullptr; }, sums,
        aside);
    CellPointers at[Rows];
    for (int r = 0; r < Rows; ++r) at[r] = cell_pointers<Cell, Panels, LastVectors>(pass, row + r, t, panel, continues);
    Cell::template finish<Weight, Panels, LastVectors>(*pass.direction, at,
                                                       pass.direction->units - panel * Cell::kUnits, sums, aside);
}

// The inputs' part of a step from its first sequence on, or null where the step is to compute it.
template <typename Cell, typename Weight>
const float* projected_step(const DirectionPass& pass, int64_t t, int64_t first, int64_t last, int64_t end,
                            Projection* projection) {
    constexpr int64_t kFewRows = 3, kManyInputs = 8;
    if (!projection || end - first > kFewRows || pass.direction->inputs < kManyInputs) return nullptr;
    if (t >= projection->end) project<typename Cell::Common, Weight>(pass, t, first, last, *projection);
    return projection->sums.data() + projection->at[static_cast<size_t>(t - projection->begin)];
}

inline void leave_ended(const DirectionPass& pass, int64_t t, int64_t first, int64_t last, const Mode& mode) {
    if (!mode.states_out) return;
    const int64_t end = std::min(last, pass.active(t));
    const bool early = mode.leave_at && !pass.direction->reverse;
    const int64_t going_on = t + 1 < pass.batch->longest ? std::max(first, std::min(last, pass.active(t + 1))) : first;
    for (int64_t row = early ? first : going_on; row < end; ++row)
        if (!early || pass.leaves(row, t, mode)) pass.leave_states(row, t, mode);
}

// Weights are float or Bfloat16.
template <typename Cell, typename Weight>
void step_with(const DirectionPass& pass, int64_t t, int64_t first, int64_t last, const Mode& mode,
               Projection* projection) {
    const int64_t end = std::min(last, pass.active(t));
    if (end <= first) return;
    if (t == 0 && mode.states_in) pass.begin_from_states(first, last, mode);
    const PackedShape& shape = pass.direction->weights.shape;
    const float* projected = projected_step<Cell, Weight>(pass, t, first, last, end, projection);
    const auto tile = [&](auto rows, auto panels, auto vectors, int64_t row, int64_t panel) {
        const float* sums =
            projected ? projected + (row - first) * shape.columns + panel * Cell::kVectors * kLanes : nullptr;
        forward_tile<Cell, Weight, decltype(rows)::value, decltype(panels)::value, decltype(vectors)::value>(
            pass, t, row, panel, sums, mode);
    };
    const int64_t panels = shape.panels();
    const bool single = end - first == 1;
    // A single sequence's accumulators of one panel are too few to hide their latency.
    const int64_t pairs = Cell::kEveryTile && single ? panels / 2 : 0, turns = panels - pairs;
    const bool back = single && t % 2;  // back and forth: the weights used last are still in the nearest cache
    for (int64_t turn = 0; turn < turns; ++turn) {
        const int64_t own = back ? turns - 1 - turn : turn;
        if constexpr (Cell::kEveryTile)
            if (own < pairs) {
                Cell::with_vectors(shape.width(2 * own + 1) / kLanes,
                                   [&](auto vectors) { tile(Constant<1>{}, Constant<2>{}, vectors, first, 2 * own); });
                continue;
            }
        const int64_t panel = pairs + own;
        Cell::with_vectors(shape.width(panel) / kLanes, [&](auto vectors) {
            for_row_tiles<decltype(vectors)::value, Cell::kEveryTile>(
                first, end, [&](auto rows, int64_t row) { tile(rows, Constant<1>{}, vectors, row, panel); });
        });
    }
    leave_ended(pass, t, first, last, mode);
}

struct Single;  // the caller that is a sequence alone

// One panel, or two, of both directions.
template <typename Cell, int Panels, int LastVectors>
[[gnu::always_inline]] inline void both_tile(const float* const (&weights)[2], const float* const (&inputs)[2],
                                             const float* const (&before)[2], const Direction& direction, int64_t panel,
                                             const CellPointers (&at)[2]) {
    constexpr int P = Cell::kVectors, kVectors = kSumsOf<Cell, Panels, LastVectors>;
    const int64_t panel_step = direction.weights.shape.start(1);
    const auto column = [&](int64_t k, int r, int v) {
        const int64_t width = v / P == Panels - 1 ? LastVectors * kLanes : P * kLanes;
        return weights[r] + (panel + v / P) * panel_step + k * width + v % P * kLanes;
    };
    Vec sums[2][kVectors], aside[2][Panels];
    for (int r = 0; r < 2; ++r)
        for (int v = 0; v < kVectors; ++v) sums[r][v] = load(column(0, r, v));
    multiply_add_apart(inputs, direction.inputs, [&](int64_t k, int r, int v) { return column(1 + k, r, v); }, sums);
    for (int r = 0; r < 2; ++r)
        Cell::turn(weights[r] + panel * panel_step, panel_step, direction.inputs, sums[r], aside[r]);
    if (before[0]) {
        const int64_t skip = direction.first_recurrent;
        multiply_add_apart(
            before, direction.units, [&](int64_t k, int r, int v) { return column(skip + k, r, v); }, sums);
    }
    Cell::template finish<Single, Panels, LastVectors>(direction, at, direction.units - panel * Cell::kUnits, sums,
                                                       aside);
}

template <typename Cell>
void both_directions(const DirectionPass& first, const DirectionPass& second, const Mode& mode) {
    const Direction& direction = *first.direction;
    const PackedShape& shape = direction.weights.shape;
    const DirectionPass* const passes[2] = {&first, &second};
    const float* const weights[2] = {direction.weights.value.data(), second.direction->weights.value.data()};
    const int64_t panels = shape.panels(), steps = first.batch->longest;
    if (mode.states_in)
        for (const DirectionPass* pass : passes) pass->begin_from_states(0, 1, mode);
    for (int64_t t = 0; t < steps; ++t) {
        const bool continues = t > 0 || mode.states_in;
        const float* const inputs[2] = {first.input_row(0, t), second.input_row(0, t)};
        const float* const before[2] = {continues ? first.before(0, t) : nullptr,
                                        continues ? second.before(0, t) : nullptr};
        CellPointers at[2] = {cell_pointers<Cell, 2, Cell::kVectors>(first, 0, t, 0, continues),
                              cell_pointers<Cell, 2, Cell::kVectors>(second, 0, t, 0, continues)};
        const auto tile = [&](auto count, auto last, int64_t panel) {
            both_tile<Cell, count, last>(weights, inputs, before, direction, panel, at);
            for (CellPointers& own : at) advance<Cell>(own, count);
        };
        for (int64_t panel = 0; panel < panels;) {  // two at once where there are registers for their sums
            const bool two = panel + 1 < panels && (kManyRegisters || shape.width(panel + 1) < Cell::kVectors * kLanes);
            Cell::with_vectors(shape.width(panel + two) / kLanes, [&](auto last) {
                if (!two) return tile(Constant<1>{}, last, panel);
                if constexpr (kManyRegisters || last < Cell::kVectors) tile(Constant<2>{}, last, panel);
            });
            panel += 1 + two;
        }
        for (const DirectionPass* pass : passes) leave_ended(*pass, t, 0, 1, mode);
    }
}

template <typename Cell>
void recompute_cells(const DirectionPass& pass, Steps steps, int64_t first, int64_t last) {
    const PackedShape& shape = pass.direction->weights.shape;
    for (int64_t t = steps.begin; t < steps.end; ++t)
        for (int64_t panel = 0; panel < shape.panels(); ++panel)
            Cell::with_vectors(shape.width(panel) / kLanes, [&](auto vectors) {
                constexpr int V = decltype(vectors)::value;
                const int64_t end = std::max(first, std::min(last, pass.active(t)));
                for_row_tiles<V, Cell::kEveryTile>(first, end, [&](auto rows, int64_t row) {
                    constexpr int R = decltype(rows)::value;
                    Vec sums[R][V], aside[R][1];
                    gate_sums<Cell, float, 1, V>(
                        pass, t, row, panel, nullptr, [&](int r) { return pass.hidden_before(row + r, t); }, sums,
                        aside);
                    const GateRows kept = pass.gate_rows(t);
                    Cell::template keep<V>(*pass.direction, sums, aside, [&](int n) {
                        return kept.row(panel, row + n, Cell::template kGateVectors<V> * kLanes);
                    });
                });
            });
}

}  // namespace bilstm
