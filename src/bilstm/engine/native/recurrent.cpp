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
                                    bool keep) const {
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
        if (keep) pass.gates = scratch[base + kGates].reserve(checked_product(batch.steps, 4 * padded));
        pass.cells = scratch[base + kCells].reserve(checked_product(keep ? batch.steps : batch.sequences, padded));
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
    const auto all = passes(batch, input, output, scratch, mode.training);
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
    const auto all = passes(batch, input, const_cast<float*>(output), scratch, true);
    const int64_t rows = every_step_ ? batch.steps : batch.sequences, cost = work(batch);
    const auto arriving = this->arriving(all, output_gradient, rows, scratch);
    parallel(all.count, cost, [&](int64_t d) {
        const Direction& lstm = *all[static_cast<size_t>(d)].lstm;
        const int base = static_cast<int>(d) * kBuffersEach;
        lstm.transpose(1 + lstm.inputs, lstm.units, scratch[base + kTransposed].data());
        if (input_gradient_rows) lstm.transpose(1, lstm.inputs, scratch[base + kInputTransposed].data());
    });
    if (cost < kWorthThreads)
        for (int64_t t = batch.longest - 1; t >= 0; --t)
            for (size_t d = 0; d < directions_.size(); ++d) all[d].backward_step(t, 0, batch.sequences, arriving[d]);
    else
        for_each_share(batch, all.count, cost,
                       [&](size_t d, int64_t first, int64_t last) { all[d].backward(first, last, arriving[d]); });

    // Panels of both directions' weights, shared out in pieces.
    const int64_t pieces = std::max<int64_t>(1, thread_count() / all.count);
    parallel(all.count * pieces, cost, [&](int64_t task) {
        static thread_local Buffer pack;
        const auto d = static_cast<size_t>(task % all.count);
        const int64_t piece = task / all.count, panels = all[d].lstm->weights.shape.panels();
        const int64_t first = panels * piece / pieces, last = panels * (piece + 1) / pieces;
        if (first < last) all[d].weight_gradient(directions_[d]->weights.gradient.data(), first, last, pack);
    });
    if (input_gradient_rows) input_gradient(all, input_gradient_rows, scratch);
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
        scratch[base + kInputTransposed].reserve(lstm.transposed(input_width).size());
    }
    if (two && merge_ == Merge::average)
        for (int64_t i = 0; i < count; ++i) output_gradient[i] *= 0.5f;
    return result;
}

void Recurrent::input_gradient(const Passes& all, float* gradient, Scratch& scratch) const {
    constexpr int64_t kChunk = 16 * kTileRows;
    const Batch& batch = *all[0].batch;
    const int64_t chunks = (batch.steps + kChunk - 1) / kChunk;
    parallel(chunks, work(batch) / 2, [&](int64_t chunk) {
        // Steps are taken in the order of (step, sorted sequence); each finds its gate gradients in every direction.
        struct Place {
            const float* gates;
            int64_t panel_step;
        };
        Place places[2][kChunk];
        float* rows[kChunk];
        const int64_t begin = chunk * kChunk, count = std::min(kChunk, batch.steps - begin);
        int64_t t =
            std::upper_bound(batch.step_start.begin(), batch.step_start.end(), begin) - batch.step_start.begin() - 1;
        int64_t row = begin - batch.step_start[static_cast<size_t>(t)];
        for (int64_t n = 0; n < count; ++n, ++row) {
            if (row == batch.active[static_cast<size_t>(t)]) ++t, row = 0;
            const int64_t length = batch.length[static_cast<size_t>(row)];
            rows[n] = gradient + (batch.start[static_cast<size_t>(row)] + t) * input_width;
            for (size_t d = 0; d < directions_.size(); ++d) {
                const int64_t when = all[d].lstm->reads(t, length);  // its own inverse
                places[d][n] = {all[d].gate_run(when) + row * kPanel, all[d].active(when) * kPanel};
            }
        }
        const PackedShape shape = all[0].lstm->transposed(input_width);
        for (int64_t panel = 0; panel < shape.panels(); ++panel) {
            with_vectors(shape.width(panel) / kLanes, [&](auto vectors) {
                constexpr int V = decltype(vectors)::value;
                for_row_tiles(0, count, [&](auto tile, int64_t first) {
                    constexpr int R = decltype(tile)::value;
                    Vec sums[R][V] = {};
                    for (size_t d = 0; d < directions_.size(); ++d) {
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
                        for (int v = 0; v < V; ++v) {
                            const int64_t column = panel * kPanel + v * kLanes;
                            store_partial(rows[first + r] + column, sums[r][v], input_width - column);
                        }
                });
            });
        }
    });
}

}  // namespace bilstm
