#include "lstm.h"

#include "accumulate.h"
#include "gates.h"
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
    for (int64_t t = 0; t < batch->longest && active(t) > first; ++t) forward_step(t, first, last, mode, &projection);
}

namespace {

template <typename Function>
[[gnu::always_inline]] inline void with_gate_vectors(int64_t vectors, Function&& function) {
    if (vectors == 4) return function(Constant<4>{});
    if (vectors == 2) return function(Constant<2>{});
    return function(Constant<1>{});
}

}  // namespace

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
            for_row_tiles(first, end, [&](auto rows, int64_t row) { tile(rows, Constant<1>{}, vectors, row, block); });
        });
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
            for_row_tiles(0, count, [&](auto tile, int64_t row) {
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

// In the last panel, where they are Last vectors, or in another.
template <int Last>
[[gnu::always_inline]] inline void DirectionPass::keep_gates(int64_t t, int64_t row, int64_t block, bool last,
                                                             const Vec* activated) const {
    const int vectors = last ? Last : 4;
    float* to = gate_rows(t).row(block, row, vectors * kLanes);
    each<4>([&](int v) {
        if (v < vectors) store(to + v * kLanes, activated[v]);
    });
}

template <typename Weight, int Rows, int Panels, int Last>
[[gnu::always_inline]] inline void DirectionPass::forward_tile(int64_t t, int64_t row, int64_t block,
                                                               const float* projected, const Mode& mode) const {
    const bool continues = t > 0 || mode.states_in;
    if (gates) {  // of a batch they fill more than a cache: they are fetched while the tile computes what goes there
        const int64_t width = Panels == 1 ? Last * kLanes : kPanel;
        prefetch(gate_rows(t).row(block, row, width), Rows * width);
        prefetch(cell_run(t) + (block * cell_rows(t) + row) * kLanes, Rows * kLanes);
    }
    Vec sums[Rows][4 * (Panels - 1) + Last];
    gate_sums<Weight, Rows, Panels, Last>(
        t, row, block, projected, [&](int r) { return continues ? before(row + r, t) : nullptr; }, sums);
    TileRow rows[Rows];
    for (int r = 0; r < Rows; ++r) rows[r] = {this, row + r};
    finish_tile<Weight, Panels, Last>(rows, t, block, sums, mode);
}

// From gate sums to states and outputs.
template <typename Weight, int Panels, int Last, int Rows>
[[gnu::always_inline]] inline void DirectionPass::finish_tile(const TileRow (&rows)[Rows], int64_t t, int64_t block,
                                                              const Vec (&sums)[Rows][4 * (Panels - 1) + Last],
                                                              const Mode& mode) {
    const bool continues = t > 0 || mode.states_in;
    constexpr int kCells = Rows * Panels;
    Vec c[kCells], h[kCells], o[kCells];
    for_activated_gates<Panels, Last>(sums, [&](int n, const Vec* activated) {
        const auto [pass, row] = rows[n / Panels];
        const int64_t unit_block = block + n % Panels, step = t ? t - 1 : 0;
        const Vec before =
            continues ? load(pass->cell_run(step) + (unit_block * pass->cell_rows(step) + row) * kLanes) : Vec{};
        Vec gate[4];
        n % Panels == Panels - 1 ? split_gates<Last>(activated, gate) : split_gates<4>(activated, gate);
        h[n] = c[n] = fma(gate[1], before, gate[0] * gate[2]);
        o[n] = gate[3];
        if (pass->gates) pass->template keep_gates<Last>(t, row, unit_block, n % Panels == Panels - 1, activated);
    });
    hyperbolic_tangents(h);
    each<kCells>([&](int n) {
        h[n] = o[n] * h[n];
        const auto [pass, row] = rows[n / Panels];
        const int64_t unit_block = block + n % Panels, unit = unit_block * kLanes, units = pass->lstm->units;
        store(pass->cell_run(t) + (unit_block * pass->cell_rows(t) + row) * kLanes, c[n]);
        store(pass->recent_run(t) + row * pass->lstm->blocks() * kLanes + unit, h[n]);
        store_partial(pass->hidden_row(row, t) + unit, h[n], units - unit);
        if (mode.states_out && t + 1 == pass->batch->length[static_cast<size_t>(row)]) {
            float* to = mode.states_out + pass->batch->sequence[static_cast<size_t>(row)] * mode.state_width +
                        pass->state_column + unit;
            store_partial(to, h[n], units - unit);
            store_partial(to + units, c[n], units - unit);
        }
    });
}

template <int Panels, int Last>
[[gnu::always_inline]] inline void DirectionPass::forward_both(const DirectionPass& first, const DirectionPass& second,
                                                               int64_t t, int64_t block, const Mode& mode) {
    constexpr int kVectors = 4 * (Panels - 1) + Last;
    const int64_t inputs = first.lstm->inputs;
    const TileRow rows[2] = {{&first, 0}, {&second, 0}};
    const float *a[2], *panels[2];
    for (int r = 0; r < 2; ++r) {
        a[r] = rows[r].pass->input_row(0, t);
        panels[r] = rows[r].pass->lstm->weights.value.data() + block * first.lstm->weights.shape.start(1);
    }
    const auto column = [&](int64_t k, int r, int v) {
        const int64_t width = v / 4 == Panels - 1 ? Last * kLanes : kPanel;
        return panels[r] + v / 4 * first.lstm->weights.shape.start(1) + k * width + v % 4 * kLanes;
    };
    Vec sums[2][kVectors];
    for (int r = 0; r < 2; ++r)
        for (int v = 0; v < kVectors; ++v) sums[r][v] = load(column(0, r, v));
    multiply_add_apart(a, inputs, [&](int64_t k, int r, int v) { return column(1 + k, r, v); }, sums);
    if (t > 0 || mode.states_in) {
        for (int r = 0; r < 2; ++r) a[r] = rows[r].pass->before(0, t);
        multiply_add_apart(
            a, first.lstm->units, [&](int64_t k, int r, int v) { return column(1 + inputs + k, r, v); }, sums);
    }
    finish_tile<float, Panels, Last>(rows, t, block, sums, mode);
}

void DirectionPass::forward_both(const DirectionPass& first, const DirectionPass& second, const Mode& mode) {
    const int64_t blocks = first.lstm->blocks();
    for (int64_t t = 0; t < first.batch->longest; ++t) {
        if (t == 0 && mode.states_in)
            for (const DirectionPass* pass : {&first, &second}) pass->begin_from_states(0, 1, mode);
        int64_t block = 0;
        if constexpr (kManyRegisters)
            for (; block + 2 <= blocks; block += 2)
                with_gate_vectors(first.lstm->gate_vectors(block + 1),
                                  [&](auto last) { forward_both<2, last>(first, second, t, block, mode); });
        for (; block < blocks; ++block)
            with_gate_vectors(first.lstm->gate_vectors(block),
                              [&](auto last) { forward_both<1, last>(first, second, t, block, mode); });
    }
}

void DirectionPass::recompute_gates(Steps steps, int64_t first, int64_t last) const {
    for (int64_t t = steps.begin; t < steps.end; ++t)
        for (int64_t block = 0; block < lstm->blocks(); ++block)
            with_gate_vectors(lstm->gate_vectors(block), [&](auto vectors) {
                constexpr int V = decltype(vectors)::value;
                for_row_tiles(first, std::max(first, std::min(last, active(t))), [&](auto rows, int64_t row) {
                    constexpr int R = decltype(rows)::value;
                    Vec sums[R][V];
                    gate_sums<float, R, 1, V>(
                        t, row, block, nullptr, [&](int r) { return t ? hidden_row(row + r, t - 1) : nullptr; }, sums);
                    for_activated_gates<1, V>(
                        sums, [&](int n, const Vec* activated) { keep_gates<V>(t, row + n, block, true, activated); });
                });
            });
}

namespace {

// What the backward step of one sequence and block of units reads and writes.
struct CellPlace {
    const float* gates;   // activated
    float* gradients;     // of the gates' inputs; may be the same place
    const float* before;  // of the step before, or null
    float* carry;         // gradient of the cell state, from the step after; replaced by this step's
    bool carried;         // whether there is a step after
};

template <int Vectors>
[[gnu::always_inline]] inline void cell_gradient(Vec dh, Vec h, const CellPlace& place) {
    Vec gates[4], gradients[4];
    load_gates<Vectors>(place.gates, gates);
    const auto& [i, f, g, o] = gates;
    // The tangent of the cell's state: cheaper from the output than from the state.
    const Vec squashed = h * reciprocal(at_least(o, 0x1p-124f));
    Vec dc = dh * o * negated_fma(squashed, squashed, broadcast(1.0f));
    if (place.carried) dc = dc + load(place.carry);
    const Vec before = place.before ? load(place.before) : Vec{};
    gradients[0] = without_vanishing(dc * g * (i * (1.0f - i)));
    gradients[1] = without_vanishing(dc * before * (f * (1.0f - f)));
    gradients[2] = without_vanishing(dc * i * negated_fma(g, g, broadcast(1.0f)));
    gradients[3] = without_vanishing(dh * squashed * (o * (1.0f - o)));
    store_gates<Vectors>(gradients, place.gradients);
    store(place.carry, without_vanishing(dc * f));
}

}  // namespace

const float* DirectionPass::Arriving::row(const DirectionPass& pass, int64_t sorted, int64_t t) const {
    const Batch& batch = *pass.batch;
    const auto i = static_cast<size_t>(sorted);
    if (every_step) return gradient + (batch.start[i] + pass.lstm->writes(t, batch.length[i])) * step;
    return t + 1 == batch.length[i] ? gradient + batch.order[i] * step : nullptr;
}

void DirectionPass::backward(Steps steps, int64_t first, int64_t last, const Arriving& arriving) const {
    for (int64_t t = steps.end - 1; t >= steps.begin; --t) backward_step(t, first, last, arriving);
}

void DirectionPass::backward_step(int64_t t, int64_t first, int64_t last, const Arriving& arriving) const {
    const int64_t end = std::min(last, active(t));
    if (end <= first) return;
    const int64_t going_on = t + 1 < batch->longest ? std::max(first, std::min(last, active(t + 1))) : first;
    const PackedShape shape = lstm->transposed(lstm->units);
    for (int64_t panel = 0; panel < shape.panels(); ++panel)
        with_vectors(shape.width(panel) / kLanes, [&](auto vectors) {
            constexpr int V = decltype(vectors)::value;
            for_row_tiles(first, going_on, [&](auto rows, int64_t row) {
                backward_tile<decltype(rows)::value, V>(t, row, panel, true, arriving);
            });
            for_row_tiles(going_on, end, [&](auto rows, int64_t row) {
                backward_tile<decltype(rows)::value, V>(t, row, panel, false, arriving);
            });
        });
}

// carried: there is a step after, whose gate gradients are known.
template <int Rows, int Vectors>
[[gnu::always_inline]] inline void DirectionPass::backward_tile(int64_t t, int64_t row, int64_t panel, bool carried,
                                                                const Arriving& arriving) const {
    const int64_t sequences_before = t ? active(t - 1) : 0;
    const GateRows gates_now = gate_rows(t), gradients = gradient_rows(t);
    const float* cells_before = t ? cell_run(t - 1) : nullptr;
    if (carried)  // what was kept of a batch is more than a cache holds: it is fetched while the tile's product runs
        for (int v = 0; v < Vectors; ++v) {
            const int64_t block = panel * kTileVectors + v, width = lstm->weights.shape.width(block);
            prefetch(gates_now.row(block, row, width), Rows * width);
            if (t) prefetch(cells_before + (block * sequences_before + row) * kLanes, Rows * kLanes);
        }
    Vec sums[Rows][Vectors];
    for (int r = 0; r < Rows; ++r) {
        const float* from = arriving.row(*this, row + r, t);
        for (int v = 0; v < Vectors; ++v) {
            const int64_t unit = panel * kPanel + v * kLanes;
            sums[r][v] = from ? load_partial(from + unit, lstm->units - unit) : Vec{};
        }
    }
    if (carried) {
        const GateRows after = gradient_rows(t + 1);
        const float* matrix = arriving.recurrent + lstm->transposed(lstm->units).start(panel);
        multiply_add_runs<1>(
            static_cast<int64_t>(lstm->segments.size()),
            [&](int64_t i, const float*(&a)[Rows]) {
                const GateSegment& segment = lstm->segments[static_cast<size_t>(i)];
                for (int r = 0; r < Rows; ++r) a[r] = after.row(segment.panel, row + r, segment.width) + segment.lane;
                return Run{segment.count, matrix + segment.row * (Vectors * kLanes), Vectors * kLanes};
            },
            sums);
    }
    for (int r = 0; r < Rows; ++r) {
        const int64_t at = row + r;
        const float* hidden_now = hidden_row(at, t);
        for (int v = 0; v < Vectors; ++v) {
            const int64_t block = panel * kTileVectors + v, unit = block * kLanes;
            const Vec h = load_partial(hidden_now + unit, lstm->units - unit);
            with_gate_vectors(lstm->gate_vectors(block), [&](auto vectors) {
                const int64_t width = vectors * kLanes;
                cell_gradient<vectors>(sums[r][v], h,
                                       {gates_now.row(block, at, width), gradients.row(block, at, width),
                                        t ? cells_before + (block * sequences_before + at) * kLanes : nullptr,
                                        arriving.carry + (block * batch->sequences + at) * kLanes, carried});
            });
        }
    }
}

void DirectionPass::weight_gradient(float* gradient, int64_t first, int64_t last, Steps steps, bool add,
                                    Buffer& scratch) const {
    // Rows as the chunk has them: from the last step to the first.
    int64_t t = steps.end - 1, row = 0;
    const auto gather = [&](float* to) {
        copy_padded(input_row(row, t), lstm->inputs, to);
        float* recurrent = to + lstm->inputs;
        if (t)
            copy_padded(hidden_row(row, t - 1), lstm->units, recurrent);
        else
            std::fill_n(recurrent, lstm->units, 0.0f);
        if (++row == active(t)) --t, row = 0;
    };
    const PackedShape& shape = lstm->weights.shape;
    bilstm::weight_gradient(shape, gradient, first, last, chunk_rows(), add, scratch, gather, [&](int64_t panel) {
        return std::pair<const float*, int64_t>(chunk + panel * chunk_block_step(chunk_rows()), shape.width(panel));
    });
}

}  // namespace bilstm
