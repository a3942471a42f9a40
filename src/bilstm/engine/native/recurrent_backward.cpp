// The backward pass of recurrent layers and Bidirectional. It goes from the last steps to the first in chunks of some
// hundred rows: while a chunk's gate gradients are in the processor's cache, they also become its part of the gradients
// of weights and inputs.
#include <algorithm>

#include "product.h"
#include "ranges.h"
#include "recurrent.h"

namespace bilstm {
namespace {

constexpr int64_t kChunkRows = 512;

void add_to(float* sums, const float* values, int64_t count) {
    constexpr int64_t kPiece = 1 << 14;
    parallel((count + kPiece - 1) / kPiece, count, [&](int64_t piece) {
        const int64_t end = std::min(count, (piece + 1) * kPiece);
        for (int64_t i = piece * kPiece; i < end; ++i) sums[i] += values[i];
    });
}

}  // namespace

void Recurrent::backward(const Batch& batch, const Input& input, const float* output, float* output_gradient,
                         float* input_gradient_rows, Scratch& scratch) {
    const Keep kept = recompute ? Keep::cells : Keep::gates;
    const auto all = passes(batch, input, const_cast<float*>(output), scratch, kept);
    const int64_t rows = every_step_ ? batch.steps : batch.sequences, cost = work(batch), threads = threads_here();
    Back back{all, arriving(all, output_gradient, rows, scratch), cost, scratch};
    for (size_t d = 0; d < directions_.size(); ++d) begin_from_states(back, d);
    const int64_t weights = cost / batch.steps;
    parallel(all.count, weights, [&](int64_t d) {
        const Direction& own = *directions_[static_cast<size_t>(d)];
        const int base = static_cast<int>(d) * kBuffersEach;
        for (const auto* segments : {&own.to_previous, &own.to_reset})
            own.transpose(*segments, own.first_recurrent, own.units, scratch[base + kTransposed].data());
        if (!input_gradient_rows) return;
        float* to = scratch[base + kInputTransposed].reserve(own.transposed(own.inputs).size());
        own.transpose(own.to_inputs, 1, own.inputs, to);
    });
    if (cost < kWorthThreads && batch.steps <= kChunkRows) return backward_in_turns(back, input_gradient_rows);
    // A thread for each direction needs no other to wait for; its input gradient is then summed apart. More threads
    // divide the sequences of one direction after the other.
    const bool apart = all.count == 2 && !recompute && threads > 1 && (threads < 4 || batch.sequences < threads);
    if (!apart) {
        for (size_t d = 0; d < directions_.size(); ++d) backward_through(back, d, input_gradient_rows, d > 0);
        return;
    }
    const int64_t inputs = checked_product(batch.steps, input_width);
    float* second = input_gradient_rows ? scratch[kInputGradient].reserve(inputs) : nullptr;
    parallel(2, cost, [&](int64_t d) {
        backward_through(back, static_cast<size_t>(d), d ? second : input_gradient_rows, false);
    });
    if (second) add_to(input_gradient_rows, second, inputs);
}

void Recurrent::backward_in_turns(Back& back, float* input_gradient_rows) const {
    const Batch& batch = *back.all[0].batch;
    const Steps steps{0, batch.longest};
    for (size_t d = 0; d < directions_.size(); ++d) {
        open_chunk(back, d, steps);
        if (!back.all[d].gates) directions_[d]->recompute_gates(back.all[d], steps, 0, batch.sequences);
    }
    const DirectionPass* const both[2] = {&back.all[0], &back.all[1]};
    const Arriving* const arriving[2] = {&back.arriving[0], &back.arriving[1]};
    const bool single = batch.sequences == 1 && directions_.size() == 2;
    for (int64_t t = batch.longest - 1; t >= 0; --t) {
        if (single && directions_[0]->backward_both(both, t, arriving)) continue;
        for (size_t d = 0; d < directions_.size(); ++d)
            directions_[d]->backward_step(back.all[d], t, 0, batch.sequences, back.arriving[d]);
    }
    for (size_t d = 0; d < directions_.size(); ++d) {
        weight_gradient(back, d, steps, false);
        if (input_gradient_rows) input_gradient(back, d, steps, d > 0, input_gradient_rows);
        if (back.scratch.states.before_gradient) back.all[d].state_gradients(back.arriving[d]);
    }
}

void Recurrent::backward_through(Back& back, size_t d, float* input_gradient_rows, bool add) const {
    const DirectionPass& pass = back.all[d];
    const Batch& batch = *pass.batch;
    const int64_t chunks = (batch.steps + kChunkRows - 1) / kChunkRows, chunk_rows = batch.steps / chunks;
    for (Steps steps{0, batch.longest}; steps.end > 0; steps.end = steps.begin) {
        steps.begin = steps.end - 1;
        int64_t rows = pass.active(steps.begin);
        while (steps.begin > 0 && rows < chunk_rows) rows += pass.active(--steps.begin);
        open_chunk(back, d, steps);
        for_each_range(batch, 1, back.cost, [&](size_t, int64_t first, int64_t last) {
            if (!pass.gates) directions_[d]->recompute_gates(pass, steps, first, last);
            pass.backward(steps, first, last, back.arriving[d]);
        });
        weight_gradient(back, d, steps, steps.end < batch.longest);
        if (input_gradient_rows) input_gradient(back, d, steps, add, input_gradient_rows);
    }
    if (back.scratch.states.before_gradient) pass.state_gradients(back.arriving[d]);
}

// Where the steps continue from states, or gradients arrive at the last ones.
void Recurrent::begin_from_states(Back& back, size_t d) const {
    DirectionPass& pass = back.all.each[d];
    const Direction& own = *directions_[d];
    pass.states = &back.scratch.states;
    const int64_t sequences = pass.batch->sequences, padded = own.blocks() * kLanes;
    const auto fill = [&](const float* states, float* to) {
        for (int64_t row = 0; row < sequences; ++row)
            for (int64_t unit = 0; unit < own.units; unit += kLanes)
                store(to + unit * sequences + row * kLanes,
                      load_partial(pass.state_row(states, row) + own.units + unit, own.units - unit));
    };
    if (pass.states->before && own.has_cells) {
        float* cells =
            back.scratch[static_cast<int>(d) * kBuffersEach + kFirstCells].reserve(checked_product(sequences, padded));
        fill(pass.states->before, cells);
        pass.first_cells = cells;
    }
    if (!pass.states->after) return;
    float* carry = back.arriving[d].carry;
    std::fill_n(carry, sequences * padded, 0.0f);
    if (own.has_cells) fill(pass.states->after, carry);
}

// Keeps the first step of the chunk before, which is the step after this one.
void Recurrent::open_chunk(Back& back, size_t d, Steps steps) const {
    DirectionPass& pass = back.all.each[d];
    const Batch& batch = *pass.batch;
    const int base = static_cast<int>(d) * kBuffersEach;
    const PackedShape& shape = directions_[d]->gates;
    const int64_t most = std::min(batch.steps, kChunkRows + batch.sequences);
    if (steps.end < batch.longest) {
        const GateRows from = pass.gradient_rows(steps.end);
        const int64_t sequences = pass.active(steps.end);
        pass.after_chunk = back.scratch[base + kAfter].reserve(checked_product(batch.sequences, shape.columns));
        const GateRows to{pass.after_chunk, sequences * kPanel, 0};
        for (int64_t panel = 0; panel < shape.panels(); ++panel) {
            const int64_t width = shape.width(panel);
            std::copy_n(from.row(panel, 0, width), sequences * width, to.row(panel, 0, width));
        }
    }
    const int64_t size = checked_product(shape.panels(), DirectionPass::chunk_panel_step(most));
    pass.chunk = back.scratch[base + kChunk].reserve(size);
    pass.chunk_begin = steps.begin;
    pass.chunk_end = steps.end;
}

// Threads share out the panels.
void Recurrent::weight_gradient(const Back& back, size_t d, Steps steps, bool add) const {
    const int64_t panels = directions_[d]->weights.shape.panels(), pieces = std::min<int64_t>(panels, threads_here());
    parallel(pieces, back.cost, [&](int64_t piece) {
        static thread_local Buffer pack;
        Direction& own = *directions_[d];
        own.weight_gradient(back.all[d], back.scratch.gradients[d], panels * piece / pieces,
                            panels * (piece + 1) / pieces, steps, add, pack);
    });
}

// What reaches each direction of the output's gradient, and its buffers.
std::array<Arriving, 2> Recurrent::arriving(const Passes& all, float* output_gradient, int64_t rows,
                                            Scratch& scratch) const {
    const bool two = all.count == 2, side_by_side = !two || merge_ == Merge::concat;
    const int64_t count = rows * output_width;
    std::array<Arriving, 2> result{};
    for (size_t d = 0; d < directions_.size(); ++d) {
        const Direction& direction = *directions_[d];
        const int base = static_cast<int>(d) * kBuffersEach;
        const float* gradient = output_gradient + (d && side_by_side ? directions_[0]->units : 0);
        if (two && merge_ == Merge::multiply) {
            const float* other =
                every_step_ ? all[1 - d].hidden : scratch[static_cast<int>(1 - d) * kBuffersEach + kLast].data();
            float* product = scratch[base + kMerged].reserve(count);
            for (int64_t i = 0; i < count; ++i) product[i] = output_gradient[i] * other[i];
            gradient = product;
        }
        result[d] = {gradient, output_width, every_step_,
                     scratch[base + kCarry].reserve(all[d].batch->sequences * direction.blocks() * kLanes),
                     scratch[base + kTransposed].reserve(direction.transposed(direction.units).size())};
    }
    if (two && merge_ == Merge::average)
        for (int64_t i = 0; i < count; ++i) output_gradient[i] *= 0.5f;
    return result;
}

void Recurrent::input_gradient(const Back& back, size_t d, Steps steps, bool add, float* gradient) const {
    constexpr int64_t kRows = 16 * kTileRows;  // that a task takes
    const DirectionPass& pass = back.all[d];
    const Batch& batch = *pass.batch;
    const PackedShape shape = directions_[d]->transposed(input_width);
    const std::vector<GateSegment>& segments = directions_[d]->to_inputs;
    const float* transposed = back.scratch[static_cast<int>(d) * kBuffersEach + kInputTransposed].data();
    const int64_t start = pass.steps_before(steps.begin), stop = pass.steps_before(steps.end);
    parallel((stop - start + kRows - 1) / kRows, back.cost, [&](int64_t task) {
        GateRows gates[kRows];
        float* rows[kRows];
        const int64_t begin = start + task * kRows, count = std::min(kRows, stop - begin);
        int64_t t =
            std::upper_bound(batch.step_start.begin(), batch.step_start.end(), begin) - batch.step_start.begin() - 1;
        int64_t row = begin - batch.step_start[static_cast<size_t>(t)];
        for (int64_t n = 0; n < count; ++n, ++row) {
            if (row == pass.active(t)) ++t, row = 0;
            const auto i = static_cast<size_t>(row);
            rows[n] = gradient + (batch.start[i] + pass.direction->reads(t, batch.length[i])) * input_width;
            gates[n] = pass.gradient_rows(t);
            gates[n].first += row;
        }
        for (int64_t panel = 0; panel < shape.panels(); ++panel)
            with_vectors(shape.width(panel) / kLanes, [&](auto vectors) {
                constexpr int V = decltype(vectors)::value;
                const float* matrix = transposed + shape.start(panel);
                for_row_tiles<V>(0, count, [&](auto tile, int64_t first) {
                    constexpr int R = decltype(tile)::value;
                    Vec sums[R][V];
                    clear(sums);
                    multiply_add_runs<1>(
                        static_cast<int64_t>(segments.size()),
                        [&](int64_t i, const float*(&a)[R]) {
                            const GateSegment& segment = segments[static_cast<size_t>(i)];
                            for (int r = 0; r < R; ++r)
                                a[r] = gates[first + r].row(segment.panel, 0, segment.width) + segment.lane;
                            return Run{segment.count, matrix + segment.row * (V * kLanes), V * kLanes};
                        },
                        sums, [] {});
                    for (int r = 0; r < R; ++r)
                        for (int v = 0; v < V; ++v) {
                            const int64_t column = panel * kPanel + v * kLanes, valid = input_width - column;
                            float* to = rows[first + r] + column;
                            store_partial(to, add ? load_partial(to, valid) + sums[r][v] : sums[r][v], valid);
                        }
                });
            });
    });
}

}  // namespace bilstm
