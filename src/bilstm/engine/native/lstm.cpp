#include "lstm.h"

#include "gates.h"
#include "interrupt.h"
#include "transpose.h"

namespace bilstm {
Direction::Direction(int64_t inputs_, int64_t units_, bool reverse_, bool flip_)
    : inputs(inputs_), units(units_), reverse(reverse_), flip(flip_) {
    shape_lstm(weights, inputs, units);
    for (int64_t block = 0; block < units; block += 16)
        for (int64_t gate = 0; gate < 4; ++gate)
            for (int64_t unit = block; unit < std::min(block + 16, units); unit += kLanes) {
                const int64_t panel = unit / kLanes, lanes = gate_lanes(units, unit);
                const int64_t row = block * 4 + gate * std::min<int64_t>(16, units - block) + unit - block;
                const GateSegment next{panel, gate * lanes, std::min<int64_t>(kLanes, units - unit), row,
                                       weights.shape.width(panel)};
                GateSegment* last = segments.empty() ? nullptr : &segments.back();
                if (last && last->panel == next.panel && last->lane + last->count == next.lane &&
                    last->row + last->count == next.row)
                    last->count += next.count;
                else
                    segments.push_back(next);
            }
}

void Direction::transpose(int64_t first_row, int64_t columns, float* to) const {
    const PackedShape shape = transposed(columns);
    for (int64_t panel = 0; panel < shape.panels(); ++panel) {
        const int64_t width = shape.width(panel), begin = panel * kPanel;
        const int64_t count = std::min(width, columns - begin);
        for (const GateSegment& segment : segments) {
            const float* from = weights.value.data() + weights.shape.start(segment.panel) +
                                (first_row + begin) * segment.width + segment.lane;
            bilstm::transpose(from, segment.width, count, segment.count, to + shape.start(panel) + segment.row * width,
                              width);
        }
    }
}

void DirectionPass::forward(int64_t first, int64_t last, const Mode& mode) const {
    static thread_local Projection projection;
    projection.clear();
    for (int64_t t = 0; t < batch->longest && active(t) > first; ++t) {
        forward_step(t, first, last, mode, &projection);
        count_done(work_of(t, first, last));
    }
}

void DirectionPass::forward_step(int64_t t, int64_t first, int64_t last, const Mode& mode,
                                 Projection* projection) const {
    mode.rounded ? step_with<Bfloat16>(t, first, last, mode, projection)
                 : step_with<float>(t, first, last, mode, projection);
}

template <typename Weight>
void DirectionPass::step_with(int64_t t, int64_t first, int64_t last, const Mode& mode, Projection* projection) const {
    constexpr int64_t kFewRows = 3, kManyInputs = 8;
    const int64_t end = std::min(last, active(t)), blocks = lstm->blocks();
    if (end <= first) return;
    if (t == 0 && mode.states_in) begin_from_states(first, last, mode);
    const float* projected = nullptr;
    if (projection && end - first <= kFewRows && lstm->inputs >= kManyInputs) {
        if (t >= projection->end) project<Weight>(t, first, last, *projection);
        projected = projection->sums.data() + projection->at[static_cast<size_t>(t - projection->begin)];
    }
    const auto tile = [&](auto rows, auto panels, auto vectors, int64_t row, int64_t block) {
        const float* sums = projected ? projected + (row - first) * lstm->row_size() + block * kPanel : nullptr;
        forward_tile<Weight, decltype(rows)::value, decltype(panels)::value, decltype(vectors)::value>(t, row, block,
                                                                                                       sums, mode);
    };
    int64_t block = 0;
    if (end - first == 1)  // one panel's accumulators are too few to hide their latency
        for (; block + 2 <= blocks; block += 2)
            with_gate_vectors(lstm->gate_vectors(block + 1),
                              [&](auto vectors) { tile(Constant<1>{}, Constant<2>{}, vectors, first, block); });
    for (; block < blocks; ++block)
        with_gate_vectors(lstm->gate_vectors(block), [&](auto vectors) {
            for_row_tiles<decltype(vectors)::value>(
                first, end, [&](auto rows, int64_t row) { tile(rows, Constant<1>{}, vectors, row, block); });
        });
    if (!mode.states_out) return;
    const int64_t going_on = t + 1 < batch->longest ? std::max(first, std::min(last, active(t + 1))) : first;
    for (int64_t row = going_on; row < end; ++row) leave_states(row, t, mode);
}

void DirectionPass::begin_from_states(int64_t first, int64_t last, const Mode& mode) const {
    const int64_t units = lstm->units;
    for (int64_t row = first; row < last; ++row) {
        const float* state =
            mode.states_in + batch->sequence[static_cast<size_t>(row)] * mode.state_width + state_column;
        std::copy_n(state, units, recent_run(-1) + row * lstm->blocks() * kLanes);
        for (int64_t block = 0; block < lstm->blocks(); ++block) {
            const int64_t unit = block * kLanes;
            store(cells + (block * batch->sequences + row) * kLanes, load_partial(state + units + unit, units - unit));
        }
    }
}

// As many steps from t on as make a batch of rows; tiles run across steps.
template <typename Weight>
void DirectionPass::project(int64_t t, int64_t first, int64_t last, Projection& projection) const {
    constexpr int64_t kRows = 8 * kTileRows;
    const float* rows[kRows];
    int64_t count = 0;
    projection.begin = t;
    projection.at.clear();
    for (; t < batch->longest; ++t) {
        const int64_t end = std::min(last, active(t));
        if (end <= first || count + end - first > kRows) break;
        projection.at.push_back(count * lstm->row_size());
        for (int64_t row = first; row < end; ++row) rows[count++] = input_row(row, t);
    }
    projection.end = t;
    float* to = projection.sums.reserve(kRows * lstm->row_size());
    for (int64_t block = 0; block < lstm->blocks(); ++block) {
        const float* biases = lstm->weights.value.data() + lstm->weights.shape.start(block);
        const Weight* panel = lstm->weights.panels<Weight>() + lstm->weights.shape.start(block);
        with_gate_vectors(lstm->gate_vectors(block), [&](auto vectors) {
            constexpr int V = decltype(vectors)::value;
            for_row_tiles<V>(0, count, [&](auto tile, int64_t row) {
                constexpr int R = decltype(tile)::value;
                Vec sums[R][V];
                const float* a[R];
                for (int r = 0; r < R; ++r) {
                    a[r] = rows[row + r];
                    for (int v = 0; v < V; ++v) sums[r][v] = load(biases + v * kLanes);
                }
                multiply_add<1>(a, lstm->inputs, panel + V * kLanes, V * kLanes, sums);
                for (int r = 0; r < R; ++r)
                    for (int v = 0; v < V; ++v)
                        store(to + (row + r) * lstm->row_size() + block * kPanel + v * kLanes, sums[r][v]);
            });
        });
    }
}

// Of Rows sequences from `row` on and Panels blocks of units from `block` on, the last of them of Last vectors.
// `projected`: their inputs' part, if known.
template <typename Weight, int Rows, int Panels, int Last, typename Previous>
[[gnu::always_inline]] inline void DirectionPass::gate_sums(int64_t t, int64_t row, int64_t block,
                                                            const float* projected, const Previous& previous,
                                                            Vec (&sums)[Rows][4 * (Panels - 1) + Last]) const {
    constexpr int kVectors = 4 * (Panels - 1) + Last;
    const int64_t inputs = lstm->inputs, panel_step = lstm->weights.shape.start(1);
    const float* biases = lstm->weights.value.data() + block * panel_step;
    const Weight* panel = lstm->weights.panels<Weight>() + block * panel_step;
    const auto column = [&](int64_t k, int v) {
        const int64_t width = v / 4 == Panels - 1 ? Last * kLanes : kPanel;
        return panel + v / 4 * panel_step + k * width + v % 4 * kLanes;
    };
    const float* a[Rows];
    if (projected) {
        for (int r = 0; r < Rows; ++r)
            for (int v = 0; v < kVectors; ++v) sums[r][v] = load(projected + r * lstm->row_size() + v * kLanes);
    } else {
        for (int r = 0; r < Rows; ++r) {
            a[r] = input_row(row + r, t);
            for (int v = 0; v < kVectors; ++v) sums[r][v] = load(biases + v / 4 * panel_step + v % 4 * kLanes);
        }
        multiply_add<1>(a, inputs, [&](int64_t k, int v) { return column(1 + k, v); }, sums);
    }
    if (!previous(0)) return;
    for (int r = 0; r < Rows; ++r) a[r] = previous(r);
    multiply_add<1>(a, lstm->units, [&](int64_t k, int v) { return column(1 + inputs + k, v); }, sums);
}

// Of the last panel, where they are Last vectors, or of another.
template <int Last>
[[gnu::always_inline]] inline void DirectionPass::keep_gates(float* to, bool last, const Vec* activated) {
    each<4>([&](int v) {
        if (v < (last ? Last : 4)) store(to + v * kLanes, activated[v]);
    });
}

template <typename Weight, int Rows, int Panels, int Last>
[[gnu::always_inline]] inline void DirectionPass::forward_tile(int64_t t, int64_t row, int64_t block,
                                                               const float* projected, const Mode& mode) const {
    const bool continues = t > 0 || mode.states_in;
    if (gates && fetches_ahead) {  // while the tile computes what goes there
        const int64_t width = Panels == 1 ? Last * kLanes : kPanel;
        prefetch(gate_rows(t).row(block, row, width), Rows * width);
        prefetch(cell_run(t) + (block * cell_rows(t) + row) * kLanes, Rows * kLanes);
    }
    Vec sums[Rows][4 * (Panels - 1) + Last];
    gate_sums<Weight, Rows, Panels, Last>(
        t, row, block, projected, [&](int r) { return continues ? before(row + r, t) : nullptr; }, sums);
    CellPlaces at[Rows];
    for (int r = 0; r < Rows; ++r) at[r] = cell_places<Panels, Last>(row + r, t, block, continues);
    finish_tile<Weight, Panels, Last>(at, lstm->units - block * kLanes, sums);
}

// From gate sums to states and outputs, of rows whose places are known; `units` are those from the first block on.
// Caller: for a copy of its own in each, since compilers inline what is called once.
template <typename Caller, int Panels, int Last, int Rows>
[[gnu::always_inline]] inline void DirectionPass::finish_tile(const CellPlaces (&at)[Rows], int64_t units,
                                                              const Vec (&sums)[Rows][4 * (Panels - 1) + Last]) {
    constexpr int kCells = Rows * Panels;
    Vec c[kCells], h[kCells], o[kCells];
    for_activated_gates<Panels, Last>(sums, [&](int n, const Vec* activated) {
        const CellPlaces& own = at[n / Panels];
        const int64_t block = n % Panels;
        const bool last = block == Panels - 1;
        const Vec before = own.before ? load(own.before + block * own.before_step) : Vec{};
        Vec gate[4];
        last ? split_gates<Last>(activated, gate) : split_gates<4>(activated, gate);
        h[n] = c[n] = fma(gate[1], before, gate[0] * gate[2]);
        o[n] = gate[3];
        if (own.gates) keep_gates<Last>(own.gates + block * own.gate_step, last, activated);
    });
    hyperbolic_tangents(h);
    each<kCells>([&](int n) {
        const CellPlaces& own = at[n / Panels];
        const int64_t block = n % Panels, unit = block * kLanes;
        h[n] = o[n] * h[n];
        store(own.cell + block * own.cell_step, c[n]);
        store(own.recent + unit, h[n]);
        store_partial(own.hidden + unit, h[n], units - unit);
    });
}

// Where a tile from `block` on, of whose Panels blocks the last has Last vectors, has a row's numbers.
template <int Panels, int Last>
[[gnu::always_inline]] inline DirectionPass::CellPlaces DirectionPass::cell_places(int64_t row, int64_t t,
                                                                                   int64_t block,
                                                                                   bool continues) const {
    const int64_t rows = cell_rows(t), rows_before = cell_rows(t ? t - 1 : 0), unit = block * kLanes;
    CellPlaces at;
    at.before_step = rows_before * kLanes;
    at.before = continues ? cell_run(t ? t - 1 : 0) + block * at.before_step + row * kLanes : nullptr;
    at.cell_step = rows * kLanes;
    at.cell = cell_run(t) + block * at.cell_step + row * kLanes;
    at.gates = nullptr;
    at.gate_step = 0;
    if (gates) {
        const GateRows all = gate_rows(t);
        at.gates = all.row(block, row, Panels == 1 ? Last * kLanes : kPanel);
        if (Panels == 2) at.gate_step = all.row(block + 1, row, Last * kLanes) - at.gates;
    }
    at.recent = recent_run(t) + row * lstm->blocks() * kLanes + unit;
    at.hidden = hidden_row(row, t) + unit;
    return at;
}

// The states after a sequence's last step.
void DirectionPass::leave_states(int64_t row, int64_t t, const Mode& mode) const {
    float* to = mode.states_out + batch->sequence[static_cast<size_t>(row)] * mode.state_width + state_column;
    std::copy_n(recent_run(t) + row * lstm->blocks() * kLanes, lstm->units, to);
    for (int64_t block = 0; block < lstm->blocks(); ++block) {
        const int64_t unit = block * kLanes;
        store_partial(to + lstm->units + unit, load(cell_run(t) + (block * cell_rows(t) + row) * kLanes),
                      lstm->units - unit);
    }
}

namespace {

struct Single;  // the caller that is a sequence alone

}  // namespace

// One block of units, or two, of both directions.
template <int Panels, int Last>
[[gnu::always_inline]] inline void DirectionPass::both_tile(const float* const (&weights)[2],
                                                            const float* const (&inputs)[2],
                                                            const float* const (&before)[2], const Direction& lstm,
                                                            int64_t block, const CellPlaces (&at)[2]) {
    constexpr int kVectors = 4 * (Panels - 1) + Last;
    const int64_t panel_step = lstm.weights.shape.start(1);
    const auto column = [&](int64_t k, int r, int v) {
        const int64_t width = v / 4 == Panels - 1 ? Last * kLanes : kPanel;
        return weights[r] + (block + v / 4) * panel_step + k * width + v % 4 * kLanes;
    };
    Vec sums[2][kVectors];
    for (int r = 0; r < 2; ++r)
        for (int v = 0; v < kVectors; ++v) sums[r][v] = load(column(0, r, v));
    multiply_add_apart(inputs, lstm.inputs, [&](int64_t k, int r, int v) { return column(1 + k, r, v); }, sums);
    if (before[0])
        multiply_add_apart(
            before, lstm.units, [&](int64_t k, int r, int v) { return column(1 + lstm.inputs + k, r, v); }, sums);
    finish_tile<Single, Panels, Last>(at, lstm.units - block * kLanes, sums);
}

void DirectionPass::forward_both(const DirectionPass& first, const DirectionPass& second, const Mode& mode) {
    const Direction& lstm = *first.lstm;
    const DirectionPass* const passes[2] = {&first, &second};
    const float* const weights[2] = {lstm.weights.value.data(), second.lstm->weights.value.data()};
    const int64_t blocks = lstm.blocks(), steps = first.batch->longest;
    if (mode.states_in)
        for (const DirectionPass* pass : passes) pass->begin_from_states(0, 1, mode);
    for (int64_t t = 0; t < steps; ++t) {
        const bool continues = t > 0 || mode.states_in;
        const float* const inputs[2] = {first.input_row(0, t), second.input_row(0, t)};
        const float* const before[2] = {continues ? first.before(0, t) : nullptr,
                                        continues ? second.before(0, t) : nullptr};
        CellPlaces at[2] = {first.cell_places<2, 4>(0, t, 0, continues), second.cell_places<2, 4>(0, t, 0, continues)};
        const auto tile = [&](auto panels, auto last, int64_t block) {
            both_tile<panels, last>(weights, inputs, before, lstm, block, at);
            for (CellPlaces& own : at) own.go_on(panels);
        };
        for (int64_t block = 0; block < blocks;) {  // two at once where there are registers for their sums
            const bool two = block + 1 < blocks && (kManyRegisters || lstm.gate_vectors(block + 1) < 4);
            with_gate_vectors(lstm.gate_vectors(block + two), [&](auto last) {
                if (!two) return tile(Constant<1>{}, last, block);
                if constexpr (kManyRegisters || last < 4) tile(Constant<2>{}, last, block);
            });
            block += 1 + two;
        }
    }
    if (mode.states_out)
        for (const DirectionPass* pass : passes) pass->leave_states(0, steps - 1, mode);
}

void DirectionPass::recompute_gates(Steps steps, int64_t first, int64_t last) const {
    for (int64_t t = steps.begin; t < steps.end; ++t)
        for (int64_t block = 0; block < lstm->blocks(); ++block)
            with_gate_vectors(lstm->gate_vectors(block), [&](auto vectors) {
                constexpr int V = decltype(vectors)::value;
                for_row_tiles<V>(first, std::max(first, std::min(last, active(t))), [&](auto rows, int64_t row) {
                    constexpr int R = decltype(rows)::value;
                    Vec sums[R][V];
                    gate_sums<float, R, 1, V>(
                        t, row, block, nullptr, [&](int r) { return t ? hidden_row(row + r, t - 1) : nullptr; }, sums);
                    for_activated_gates<1, V>(sums, [&](int n, const Vec* activated) {
                        keep_gates<V>(gate_rows(t).row(block, row + n, V * kLanes), true, activated);
                    });
                });
            });
}

}  // namespace bilstm
