#include "recurrent.h"

#include <algorithm>

#include "product.h"
#include "threads.h"

namespace bilstm {
namespace {

// Cuts the sorted sequences into at most `parts` ranges of about equal numbers of steps; returns their bounds.
std::vector<int64_t> equal_shares(const Batch& batch, int64_t parts) {
    std::vector<int64_t> bounds{0};
    int64_t steps = 0;
    for (int64_t row = 0; row < batch.sequences; ++row) {
        steps += batch.length[static_cast<size_t>(row)];
        const auto cut = static_cast<int64_t>(bounds.size());
        if (cut < parts && steps * parts >= batch.steps * cut && row + 1 < batch.sequences) bounds.push_back(row + 1);
    }
    bounds.push_back(batch.sequences);
    return bounds;
}

// Calls function(direction, first, last) for every direction and share of the sorted sequences.
template <typename Function>
void for_each_share(const Batch& batch, int64_t directions, int64_t work, Function&& function) {
    const auto bounds = equal_shares(batch, std::max<int64_t>(1, thread_count() / directions));
    const auto shares = static_cast<int64_t>(bounds.size()) - 1;
    parallel(directions * shares, work, [&](int64_t task) {
        const auto share = static_cast<size_t>(task / directions);
        function(static_cast<size_t>(task % directions), bounds[share], bounds[share + 1]);
    });
}

}  // namespace

Recurrent::Recurrent(std::vector<std::unique_ptr<Direction>> directions, Merge merge, bool return_sequences)
    : directions_(std::move(directions)), merge_(merge), every_step_(return_sequences) {
    takes_gaps = true;
    one_row_each = !return_sequences;
    input_width = directions_.front()->inputs;
    output_width = 0;
    for (const auto& direction : directions_) output_width += direction->units;
    const bool side_by_side = directions_.size() == 1 || merge_ == Merge::concat;
    if (!side_by_side) {
        if (directions_[0]->units != directions_[1]->units)
            throw Invalid("this merge mode needs as many units in both directions");
        output_width = directions_[0]->units;
    }
    in_place_ = side_by_side && every_step_;
}

std::vector<Parameter*> Recurrent::parameters() {
    std::vector<Parameter*> all;
    for (auto& direction : directions_) all.push_back(&direction->weights);
    return all;
}

int64_t Recurrent::state_width() const {
    int64_t width = 0;
    for (const auto& direction : directions_) width += 2 * direction->units;
    return width;
}

int64_t Recurrent::work(const Batch& batch) const {
    int64_t each = 0;
    for (const auto& direction : directions_) each += 4 * direction->units * (direction->inputs + direction->units);
    return each * batch.steps;
}

Recurrent::Passes Recurrent::passes(const Batch& batch, const Input& input, float* output, Scratch& scratch,
                                    Keep keep) const {
    Passes all;
    int64_t column = 0, state = state_offset;
    for (size_t d = 0; d < directions_.size(); ++d) {
        const Direction& lstm = *directions_[d];
        const int base = static_cast<int>(d) * kBuffersEach;
        const int64_t padded = lstm.blocks() * kLanes;
        DirectionPass& pass = all.each[d];
        pass.lstm = &lstm;
        pass.batch = &batch;
        pass.input = input;
        pass.hidden = output + column;
        pass.hidden_step = output_width;
        if (!in_place_) {
            pass.hidden = scratch[base + kHidden].reserve(checked_product(batch.steps, lstm.units));
            pass.hidden_step = lstm.units;
        }
        if (keep == Keep::gates) pass.gates = scratch[base + kGates].reserve(checked_product(batch.steps, 4 * padded));
        pass.cells_kept = keep != Keep::nothing;
        const int64_t cell_rows = pass.cells_kept ? batch.steps : batch.sequences;
        pass.cells = scratch[base + kCells].reserve(checked_product(cell_rows, padded));
        pass.recent = scratch[base + kRecent].reserve(checked_product(2 * batch.sequences, padded));
        pass.state_column = state;
        ++all.count;
        column += lstm.units;
        state += 2 * lstm.units;
    }
    return all;
}

const float* Recurrent::merge_source(size_t direction, const DirectionPass& pass, Scratch& scratch) const {
    if (every_step_) return pass.hidden;
    const Batch& batch = *pass.batch;
    const int64_t units = pass.lstm->units;
    float* last = scratch[static_cast<int>(direction) * kBuffersEach + kLast].reserve(batch.sequences * units);
    for (int64_t row = 0; row < batch.sequences; ++row) {
        const auto i = static_cast<size_t>(row);
        std::copy_n(pass.hidden_row(row, batch.length[i] - 1), units, last + batch.order[i] * units);
    }
    return last;
}

void Recurrent::merge(const Batch& batch, const Passes& all, float* output, Scratch& scratch) const {
    if (in_place_) return;
    const int64_t rows = every_step_ ? batch.steps : batch.sequences;
    const float* first = merge_source(0, all[0], scratch);
    if (directions_.size() == 1) {
        std::copy_n(first, rows * output_width, output);
        return;
    }
    const float* second = merge_source(1, all[1], scratch);
    const int64_t count = rows * output_width;
    switch (merge_) {
        case Merge::concat: {
            const int64_t a = directions_[0]->units, b = directions_[1]->units;
            for (int64_t row = 0; row < rows; ++row) {
                std::copy_n(first + row * a, a, output + row * (a + b));
                std::copy_n(second + row * b, b, output + row * (a + b) + a);
            }
            break;
        }
        case Merge::sum:
            for (int64_t i = 0; i < count; ++i) output[i] = first[i] + second[i];
            break;
        case Merge::multiply:
            for (int64_t i = 0; i < count; ++i) output[i] = first[i] * second[i];
            break;
        case Merge::average:
            for (int64_t i = 0; i < count; ++i) output[i] = (first[i] + second[i]) * 0.5f;
            break;
    }
}

void Recurrent::forward(const Batch& batch, const Input& input, float* output, Scratch& scratch,
                        const Mode& mode) const {
    const Keep keep = !mode.training ? Keep::nothing : recompute ? Keep::cells : Keep::gates;
    const auto all = passes(batch, input, output, scratch, keep);
    const int64_t cost = work(batch);
    if (cost < kWorthThreads)  // the directions take turns: each hides the other's latency
        for (int64_t t = 0; t < batch.longest; ++t)
            for (size_t d = 0; d < directions_.size(); ++d) all[d].forward_step(t, 0, batch.sequences, mode, nullptr);
    else
        for_each_share(batch, all.count, cost,
                       [&](size_t d, int64_t first, int64_t last) { all[d].forward(first, last, mode); });
    merge(batch, all, output, scratch);
}

void Recurrent::backward(const Batch& batch, const Input& input, const float* output, float* output_gradient,
                         float* input_gradient_rows, Scratch& scratch) {
    const Keep kept = recompute ? Keep::cells : Keep::gates;
    const auto all = passes(batch, input, const_cast<float*>(output), scratch, kept);
    const int64_t rows = every_step_ ? batch.steps : batch.sequences;
    const Back back{all, arriving(all, output_gradient, rows, scratch), input_gradient_rows, scratch, work(batch)};
    parallel(all.count, back.cost, [&](int64_t d) {
        const Direction& lstm = *all[static_cast<size_t>(d)].lstm;
        const int base = static_cast<int>(d) * kBuffersEach;
        lstm.transpose(1 + lstm.inputs, lstm.units, scratch[base + kTransposed].data());
        if (!input_gradient_rows) return;
        lstm.transpose(1, lstm.inputs, scratch[base + kInputTransposed].reserve(lstm.transposed(lstm.inputs).size()));
    });
    recompute ? backward_in_chunks(back) : backward_at_once(back);
}

void Recurrent::backward_at_once(const Back& back) const {
    const Batch& batch = *back.all[0].batch;
    const DirectionPass::Steps steps{0, batch.longest};
    if (back.cost < kWorthThreads)
        for (int64_t t = batch.longest - 1; t >= 0; --t)
            for (size_t d = 0; d < directions_.size(); ++d)
                back.all[d].backward_step(t, 0, batch.sequences, back.arriving[d]);
    else
        for_each_share(batch, back.all.count, back.cost, [&](size_t d, int64_t first, int64_t last) {
            back.all[d].backward(steps, first, last, back.arriving[d]);
        });
    weight_gradients(back.all, 0, directions_.size(), steps, false, back.cost);
    if (back.input_gradient)
        input_gradient(back.all, 0, directions_.size(), steps, false, back.input_gradient, back.scratch);
}

// One direction after the other, a few steps at a time, so that gates need little memory. Sums are taken in the same
// order as at once, so they are the same numbers.
void Recurrent::backward_in_chunks(const Back& back) const {
    constexpr int64_t kRows = 4096;
    const Batch& batch = *back.all[0].batch;
    for (size_t d = 0; d < directions_.size(); ++d) {
        const int base = static_cast<int>(d) * kBuffersEach;
        Passes all = back.all;
        DirectionPass& pass = all.each[d];
        const int64_t row_size = pass.lstm->blocks() * kPanel;
        pass.gates = back.scratch[base + kGates].reserve(
            checked_product(std::min(batch.steps, kRows + batch.sequences), row_size));
        float* after = back.scratch[base + kAfter].reserve(checked_product(batch.sequences, row_size));
        pass.gates_after = after;
        for (DirectionPass::Steps steps{0, batch.longest}; steps.end > 0; steps.end = steps.begin) {
            steps.begin = steps.end - 1;
            for (int64_t rows = pass.active(steps.begin); steps.begin > 0 && rows < kRows; --steps.begin)
                rows += pass.active(steps.begin - 1);
            const bool add = steps.end < batch.longest;
            pass.gates_begin = steps.begin;
            pass.gates_end = add ? steps.end : -1;
            for_each_share(batch, 1, back.cost, [&](size_t, int64_t first, int64_t last) {
                pass.recompute_gates(steps, first, last);
                pass.backward(steps, first, last, back.arriving[d]);
            });
            weight_gradients(all, d, d + 1, steps, add, back.cost);
            if (back.input_gradient) input_gradient(all, d, d + 1, steps, d > 0, back.input_gradient, back.scratch);
            std::copy_n(pass.gate_run(steps.begin), pass.active(steps.begin) * row_size, after);
        }
    }
}

// Of directions [first, last): their panels, shared out in pieces.
void Recurrent::weight_gradients(const Passes& all, size_t first, size_t last, DirectionPass::Steps steps, bool add,
                                 int64_t cost) const {
    const auto ways = static_cast<int64_t>(last - first);
    const int64_t pieces = std::max<int64_t>(1, thread_count() / ways);
    parallel(ways * pieces, cost, [&](int64_t task) {
        static thread_local Buffer pack;
        const auto d = first + static_cast<size_t>(task % ways);
        const int64_t piece = task / ways, panels = all[d].lstm->weights.shape.panels();
        const int64_t begin = panels * piece / pieces, end = panels * (piece + 1) / pieces;
        float* gradient = directions_[d]->weights.gradient.data();
        if (begin < end) all[d].weight_gradient(gradient, begin, end, steps, add, pack);
    });
}

// What reaches each direction of the output's gradient, and its buffers.
std::array<DirectionPass::Arriving, 2> Recurrent::arriving(const Passes& all, float* output_gradient, int64_t rows,
                                                           Scratch& scratch) const {
    const bool two = all.count == 2, side_by_side = !two || merge_ == Merge::concat;
    const int64_t count = rows * output_width;
    std::array<DirectionPass::Arriving, 2> result{};
    for (size_t d = 0; d < directions_.size(); ++d) {
        const Direction& lstm = *all[d].lstm;
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
                     scratch[base + kCarry].reserve(all[d].batch->sequences * lstm.blocks() * kLanes),
                     scratch[base + kTransposed].reserve(lstm.transposed(lstm.units).size())};
    }
    if (two && merge_ == Merge::average)
        for (int64_t i = 0; i < count; ++i) output_gradient[i] *= 0.5f;
    return result;
}

// From directions [from, to), of the sequences' steps that the first of them takes in `steps`.
void Recurrent::input_gradient(const Passes& all, size_t from, size_t to, DirectionPass::Steps steps, bool add,
                               float* gradient, Scratch& scratch) const {
    constexpr int64_t kChunk = 16 * kTileRows;
    const Batch& batch = *all[0].batch;
    const int64_t start = all[0].steps_before(steps.begin);
    const int64_t stop = steps.end < batch.longest ? all[0].steps_before(steps.end) : batch.steps;
    const int64_t chunks = (stop - start + kChunk - 1) / kChunk;
    parallel(chunks, work(batch) / 2, [&](int64_t chunk) {
        // Steps are taken in the order of (step, sorted sequence); each finds its gate gradients in every direction.
        struct Place {
            const float* gates;
            int64_t panel_step;
        };
        Place places[2][kChunk];
        float* rows[kChunk];
        const int64_t begin = start + chunk * kChunk, count = std::min(kChunk, stop - begin);
        int64_t t =
            std::upper_bound(batch.step_start.begin(), batch.step_start.end(), begin) - batch.step_start.begin() - 1;
        int64_t row = begin - batch.step_start[static_cast<size_t>(t)];
        for (int64_t n = 0; n < count; ++n, ++row) {
            if (row == batch.active[static_cast<size_t>(t)]) ++t, row = 0;
            const int64_t length = batch.length[static_cast<size_t>(row)];
            const int64_t place = all[from].lstm->reads(t, length);
            rows[n] = gradient + (batch.start[static_cast<size_t>(row)] + place) * input_width;
            for (size_t d = from; d < to; ++d) {
                const int64_t when = all[d].lstm->reads(place, length);  // its own inverse
                places[d][n] = {all[d].gate_run(when) + row * kPanel, all[d].active(when) * kPanel};
            }
        }
        const PackedShape shape = all[0].lstm->transposed(input_width);
        for (int64_t panel = 0; panel < shape.panels(); ++panel) {
            with_vectors(shape.width(panel) / kLanes, [&](auto vectors) {
                constexpr int V = decltype(vectors)::value;
                for_row_tiles(0, count, [&](auto tile, int64_t first) {
                    constexpr int R = decltype(tile)::value;
                    const auto column = [&](int v) { return panel * kPanel + v * kLanes; };
                    Vec sums[R][V] = {};
                    for (int r = 0; add && r < R; ++r)
                        for (int v = 0; v < V; ++v)
                            sums[r][v] = load_partial(rows[first + r] + column(v), input_width - column(v));
                    for (size_t d = from; d < to; ++d) {
                        const PackedShape own = all[d].lstm->transposed(input_width);
                        const float* matrix =
                            scratch[static_cast<int>(d) * kBuffersEach + kInputTransposed].data() + own.start(panel);
                        for (const GateSegment& segment : all[d].lstm->segments) {
                            const float* a[R];
                            for (int r = 0; r < R; ++r) {
                                const Place& place = places[d][first + r];
                                a[r] = place.gates + segment.panel * place.panel_step + segment.lane;
                            }
                            multiply_add<1>(a, segment.count, matrix + segment.row * (V * kLanes), V * kLanes, sums);
                        }
                    }
                    for (int r = 0; r < R; ++r)
                        for (int v = 0; v < V; ++v)
                            store_partial(rows[first + r] + column(v), sums[r][v], input_width - column(v));
                });
            });
        }
    });
}

}  // namespace bilstm
