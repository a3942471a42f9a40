#include "recurrent.h"

#include <algorithm>

#include "ranges.h"

namespace bilstm {
namespace {

constexpr int64_t kCachedNumbers = 1 << 16;  // of a batch's gates and cells in the second cache, besides all else

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
    for (const auto& direction : directions_) width += direction->states() * direction->units;
    return width;
}

int64_t Recurrent::work(const Batch& batch) const {
    int64_t each = 0;
    for (const auto& direction : directions_) each += direction->work_of_step();
    return saturated_product(each, batch.steps);
}

Recurrent::Passes Recurrent::passes(const Batch& batch, const Input& input, float* output, Scratch& scratch,
                                    Keep keep) const {
    Passes all;
    int64_t column = 0, state = state_offset;
    for (size_t d = 0; d < directions_.size(); ++d) {
        const Direction& direction = *directions_[d];
        const int base = static_cast<int>(d) * kBuffersEach;
        const int64_t padded = direction.blocks() * kLanes, cells = direction.has_cells ? padded : 0;
        DirectionPass& pass = all.each[d];
        pass.direction = &direction;
        pass.batch = &batch;
        pass.input = input;
        pass.hidden = output + column;
        pass.hidden_step = output_width;
        if (!in_place_) {
            pass.hidden = scratch[base + kHidden].reserve(checked_product(batch.steps, direction.units));
            pass.hidden_step = direction.units;
        }
        if (keep == Keep::gates && direction.keeps_gates)
            pass.gates = scratch[base + kGates].reserve(checked_product(batch.steps, direction.row_size()));
        pass.cells_kept = keep != Keep::nothing;
        pass.fetches_ahead = batch.steps * (direction.row_size() + cells) > kCachedNumbers;
        const int64_t cell_rows = pass.cells_kept ? batch.steps : batch.sequences;
        pass.cells = scratch[base + kCells].reserve(checked_product(cell_rows, cells));
        pass.recent = scratch[base + kRecent].reserve(checked_product(2 * batch.sequences, padded));
        if (direction.halves)
            pass.between = scratch[base + kBetween].reserve(checked_product(3 * batch.sequences, padded));
        pass.state_column = state;
        ++all.count;
        column += direction.units;
        state += direction.states() * direction.units;
    }
    return all;
}

const float* Recurrent::merge_source(size_t direction, const DirectionPass& pass, Scratch& scratch) const {
    if (every_step_) return pass.hidden;
    const Batch& batch = *pass.batch;
    const int64_t units = pass.direction->units;
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
    const bool single = batch.sequences == 1 && all.count == 2 && !mode.rounded;
    if (cost >= kWorthThreads)
        for_each_range(batch, all.count, cost,
                       [&](size_t d, int64_t first, int64_t last) { all[d].forward(first, last, mode); });
    else if (!single || !directions_[0]->forward_both(all[0], all[1], mode))
        for (int64_t t = 0; t < batch.longest; ++t)  // the directions take turns, to hide each other's latency
            for (size_t d = 0; d < directions_.size(); ++d)
                directions_[d]->forward_step(all[d], t, 0, batch.sequences, mode, nullptr);
    merge(batch, all, output, scratch);
}

}  // namespace bilstm
