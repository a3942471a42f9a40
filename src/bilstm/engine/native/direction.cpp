#include "direction.h"

#include "cells.h"
#include "interrupt.h"
#include "product.h"
#include "transpose.h"

namespace bilstm {

Direction::Direction(const DirectionPlan& plan)
    : kind(plan.kind),
      gate_kind(plan.gates),
      inputs(plan.inputs),
      units(plan.units),
      reverse(plan.reverse),
      flip(plan.flip) {}

std::unique_ptr<Direction> make_direction(const DirectionPlan& plan) {
    if (plan.kind == CellKind::simple_tanh || plan.kind == CellKind::simple_relu) return make_simple(plan);
    if (plan.gates != GateKind::sigmoid) return make_hard_gates(plan);
    if (plan.kind == CellKind::lstm) return make_lstm(plan);
    return plan.kind == CellKind::gru ? make_gru(plan) : make_gru_reset_before(plan);
}

std::vector<GateSegment> Direction::segments(const std::vector<GateGradient>& pairs, int64_t first_row) const {
    std::vector<GateSegment> all;
    for (int64_t block = 0; block < units; block += 16)
        for (size_t n = 0; n < pairs.size(); ++n)
            for (int64_t unit = block; unit < std::min(block + 16, units); unit += kLanes) {
                const int64_t panel = unit / units_a_panel, within = unit % units_a_panel;
                const auto number = static_cast<int64_t>(n), count = static_cast<int64_t>(pairs.size());
                const int64_t row = block * count + number * std::min<int64_t>(16, units - block) + unit - block;
                const GateSegment next{panel,
                                       pairs[n].gradient * lanes(unit) + within,
                                       std::min<int64_t>(kLanes, units - unit),
                                       first_row + row,
                                       gates.width(panel),
                                       pairs[n].gate * lanes(unit) + within};
                GateSegment* last = all.empty() ? nullptr : &all.back();
                if (last && last->panel == next.panel && last->lane + last->count == next.lane &&
                    last->weight_lane + last->count == next.weight_lane && last->row + last->count == next.row)
                    last->count += next.count;
                else
                    all.push_back(next);
            }
    return all;
}

void Direction::transpose(const std::vector<GateSegment>& all, int64_t first_row, int64_t columns, float* to) const {
    const PackedShape shape = transposed(columns);
    for (int64_t panel = 0; panel < shape.panels(); ++panel) {
        const int64_t width = shape.width(panel), begin = panel * kPanel;
        const int64_t count = std::min(width, columns - begin);
        for (const GateSegment& segment : all) {
            const int64_t step = weights.shape.width(segment.panel);
            const float* from = weights.value.data() + weights.shape.start(segment.panel) + (first_row + begin) * step +
                                segment.weight_lane;
            bilstm::transpose(from, step, count, segment.count, to + shape.start(panel) + segment.row * width, width);
        }
    }
}

void DirectionPass::forward(int64_t first, int64_t last, const Mode& mode) const {
    static thread_local Projection projection;
    projection.clear();
    for (int64_t t = 0; t < batch->longest && active(t) > first; ++t) {
        direction->forward_step(*this, t, first, last, mode, &projection);
        count_done(work_of(t, first, last));
    }
}

void DirectionPass::backward(Steps steps, int64_t first, int64_t last, const Arriving& arriving) const {
    for (int64_t t = steps.end - 1; t >= steps.begin; --t) {
        direction->backward_step(*this, t, first, last, arriving);
        count_done(work_of(t, first, last));
    }
}

void DirectionPass::begin_from_states(int64_t first, int64_t last, const Mode& mode) const {
    const int64_t units = direction->units;
    for (int64_t row = first; row < last; ++row) {
        const float* state =
            mode.states_in + batch->sequence[static_cast<size_t>(row)] * mode.state_width + state_column;
        copy_padded(state, units, recent_run(-1) + row * padded());
        for (int64_t unit = 0; direction->has_cells && unit < units; unit += kLanes)
            store(cells + unit * batch->sequences + row * kLanes, load_partial(state + units + unit, units - unit));
    }
}

void DirectionPass::leave_states(int64_t row, int64_t t, const Mode& mode) const {
    const int64_t units = direction->units;
    float* to = mode.states_out + batch->sequence[static_cast<size_t>(row)] * mode.state_width + state_column;
    std::copy_n(recent_run(t) + row * padded(), units, to);
    for (int64_t unit = 0; direction->has_cells && unit < units; unit += kLanes)
        store_partial(to + units + unit, load(cell_run(t) + unit * cell_rows(t) + row * kLanes), units - unit);
}

void DirectionPass::state_gradients(const Arriving& arriving) const {
    const int64_t units = direction->units, sequences = batch->sequences;
    const PackedShape shape = direction->transposed(units);
    for (int64_t panel = 0; panel < shape.panels(); ++panel)
        with_vectors(shape.width(panel) / kLanes, [&](auto vectors) {
            constexpr int V = decltype(vectors)::value;
            for_row_tiles<V>(0, sequences, [&](auto rows, int64_t row) {
                constexpr int R = decltype(rows)::value;
                Vec sums[R][V];
                clear(sums);
                add_from_gates(direction->to_previous, gradient_rows(0), row, arriving.recurrent + shape.start(panel),
                               sums, [] {});
                for (int r = 0; r < R; ++r)
                    for (int v = 0; v < V; ++v) {
                        const int64_t unit = panel * kPanel + v * kLanes, left = units - unit;
                        float* to = state_row(states->before_gradient, row + r) + unit;
                        const Vec carried = load(arriving.carry + unit * sequences + (row + r) * kLanes);
                        const bool by_h = direction->keeps_gates && !direction->has_cells;
                        store_partial(to, by_h ? sums[r][v] + carried : sums[r][v], left);
                        if (direction->has_cells) store_partial(to + units, carried, left);
                    }
            });
        });
}

const float* Arriving::row(const DirectionPass& pass, int64_t sorted, int64_t t) const {
    const Batch& batch = *pass.batch;
    const auto i = static_cast<size_t>(sorted);
    if (every_step) return gradient + (batch.start[i] + pass.direction->writes(t, batch.length[i])) * step;
    return t + 1 == batch.length[i] ? gradient + batch.order[i] * step : nullptr;
}

}  // namespace bilstm
