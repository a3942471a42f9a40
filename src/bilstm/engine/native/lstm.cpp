#include "lstm.h"

#include "accumulate.h"
#include "elementary.h"

namespace bilstm {
namespace {

using Rows = std::vector<const float*>;

Rows& thread_rows(int which) {
    static thread_local Rows rows[2];
    return rows[which];
}

template <int R>
[[gnu::always_inline]] inline void take(const float* (&a)[R], const Rows& rows, int64_t first, int64_t shift = 0) {
    for (int r = 0; r < R; ++r) a[r] = rows[static_cast<size_t>(first + r)] + shift;
}

}  // namespace

Direction::Direction(int64_t inputs_, int64_t units_, bool reverse_, bool flip_)
    : inputs(inputs_), units(units_), reverse(reverse_), flip(flip_) {
    shape_lstm(weights, inputs, units);
    for (int64_t block = 0; block < units; block += 16)
        for (int64_t gate = 0; gate < 4; ++gate)
            for (int64_t unit = block; unit < std::min(block + 16, units); unit += kLanes) {
                const GateSegment next{unit / kLanes, gate * kLanes, std::min<int64_t>(kLanes, units - unit),
                                       block * 4 + gate * 16 + unit - block};
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
        float* out = to + shape.start(panel);
        for (const GateSegment& segment : segments) {
            const float* from =
                weights.value.data() + weights.shape.start(segment.panel) + (first_row + begin) * kPanel + segment.lane;
            for (int64_t lane = 0; lane < segment.count; ++lane) {
                float* row = out + (segment.row + lane) * width;
                for (int64_t k = 0; k < count; ++k) row[k] = from[k * kPanel + lane];
                std::fill(row + count, row + width, 0.0f);
            }
        }
    }
}

void DirectionPass::forward(int64_t first, int64_t last, const Mode& mode) const {
    gates ? forward_steps<true>(first, last, mode) : forward_steps<false>(first, last, mode);
}

template <bool kKeep>
void DirectionPass::forward_steps(int64_t first, int64_t last, const Mode& mode) const {
    const int64_t blocks = lstm.blocks(), units = lstm.units, inputs = lstm.inputs;
    const int64_t state_row = mode.state_width;
    const auto state = [&](auto* states, int64_t row) {
        return states + batch.sequence[static_cast<size_t>(row)] * state_row + state_column;
    };
    Rows& input_rows = thread_rows(0);
    Rows& hidden_rows = thread_rows(1);
    input_rows.resize(static_cast<size_t>(last));
    hidden_rows.resize(static_cast<size_t>(last));

    for (int64_t t = 0; t < batch.longest; ++t) {
        const int64_t end = std::min(last, active(t));
        if (end <= first) break;
        const bool continues = t > 0 || mode.states_in;
        for (int64_t row = first; row < end; ++row) {
            input_rows[static_cast<size_t>(row)] = input_row(row, t);
            if (continues)
                hidden_rows[static_cast<size_t>(row)] = t > 0 ? hidden_row(row, t - 1) : state(mode.states_in, row);
        }
        for (int64_t block = 0; block < blocks; ++block) {
            const float* panel = lstm.weights.value.data() + lstm.weights.shape.start(block);
            const int64_t valid = units - block * kLanes;
            for_row_tiles(first, end, [&](auto rows, int64_t row) {
                constexpr int R = decltype(rows)::value;
                Vec sums[R][4];
                for (int v = 0; v < 4; ++v)
                    for (int r = 0; r < R; ++r) sums[r][v] = load(panel + v * kLanes);
                const float* a[R];
                take(a, input_rows, row);
                multiply_add<1>(a, inputs, panel + kPanel, kPanel, sums);
                if (continues) {
                    take(a, hidden_rows, row);
                    multiply_add<1>(a, units, panel + (1 + inputs) * kPanel, kPanel, sums);
                }
                for (int r = 0; r < R; ++r) {
                    const Vec i = sigmoid(sums[r][0]), f = sigmoid(sums[r][1]);
                    const Vec g = hyperbolic_tangent(sums[r][2]), o = sigmoid(sums[r][3]);
                    Vec before{};
                    if (t > 0)
                        before = load(kKeep ? cell_run(t - 1) + (block * active(t - 1) + row + r) * kLanes
                                            : cells + (block * batch.sequences + row + r) * kLanes);
                    else if (mode.states_in)
                        before = load_partial(state(mode.states_in, row + r) + units + block * kLanes, valid);
                    const Vec c = fma(f, before, i * g);
                    const Vec h = o * hyperbolic_tangent(c);
                    store(kKeep ? cell_run(t) + (block * active(t) + row + r) * kLanes
                                : cells + (block * batch.sequences + row + r) * kLanes,
                          c);
                    if constexpr (kKeep) {
                        float* kept = gate_run(t) + (block * active(t) + row + r) * kPanel;
                        store(kept, i);
                        store(kept + kLanes, f);
                        store(kept + 2 * kLanes, g);
                        store(kept + 3 * kLanes, o);
                    }
                    store_partial(hidden_row(row + r, t) + block * kLanes, h, valid);
                    if (mode.states_out && t + 1 == batch.length[static_cast<size_t>(row + r)]) {
                        float* to = state(mode.states_out, row + r) + block * kLanes;
                        store_partial(to, h, valid);
                        store_partial(to + units, c, valid);
                    }
                }
            });
        }
    }
}

namespace {

// What the backward step of one sequence and block of units reads and writes.
struct CellPlace {
    float* gates;         // activated gates, replaced by the gradients of their inputs
    const float* cell;    // of this step
    const float* before;  // of the step before, or null
    float* carry;         // gradient of the cell state, from the step after; replaced by this step's
    bool carried;         // whether there is a step after
};

inline void cell_gradient(Vec dh, const CellPlace& place) {
    const Vec i = load(place.gates), f = load(place.gates + kLanes);
    const Vec g = load(place.gates + 2 * kLanes), o = load(place.gates + 3 * kLanes);
    const Vec squashed = hyperbolic_tangent(load(place.cell));
    Vec dc = dh * o * fma(-squashed, squashed, broadcast(1.0f));
    if (place.carried) dc = dc + load(place.carry);
    const Vec before = place.before ? load(place.before) : Vec{};
    store(place.gates, dc * g * (i * (1.0f - i)));
    store(place.gates + kLanes, dc * before * (f * (1.0f - f)));
    store(place.gates + 2 * kLanes, dc * i * fma(-g, g, broadcast(1.0f)));
    store(place.gates + 3 * kLanes, dh * squashed * (o * (1.0f - o)));
    store(place.carry, dc * f);
}

}  // namespace

void DirectionPass::backward(int64_t first, int64_t last, const float* output_gradient, int64_t gradient_step,
                             bool every_step, float* carry, const float* recurrent) const {
    const PackedShape shape = lstm.transposed(lstm.units);
    Rows& arriving = thread_rows(0);  // gradients of this step's outputs
    arriving.resize(static_cast<size_t>(last));

    for (int64_t t = batch.longest - 1; t >= 0; --t) {
        const int64_t end = std::min(last, active(t));
        if (end <= first) continue;
        const int64_t going_on = t + 1 < batch.longest ? std::max(first, std::min(last, active(t + 1))) : first;
        for (int64_t row = first; row < end; ++row) {
            const auto i = static_cast<size_t>(row);
            if (every_step)
                arriving[i] = output_gradient + (batch.start[i] + lstm.writes(t, batch.length[i])) * gradient_step;
            else
                arriving[i] = row < going_on ? nullptr : output_gradient + batch.order[i] * gradient_step;
        }
        for (int64_t panel = 0; panel < shape.panels(); ++panel) {
            with_vectors(shape.width(panel) / kLanes, [&](auto vectors) {
                constexpr int V = decltype(vectors)::value;
                const auto tile = [&](auto rows, int64_t row) {
                    constexpr int R = decltype(rows)::value;
                    const bool carried = row < going_on;
                    Vec sums[R][V];
                    for (int r = 0; r < R; ++r)
                        for (int v = 0; v < V; ++v) {
                            const int64_t unit = panel * kPanel + v * kLanes;
                            const float* from = arriving[static_cast<size_t>(row + r)];
                            sums[r][v] = from ? load_partial(from + unit, lstm.units - unit) : Vec{};
                        }
                    if (carried) {
                        const float* after = gate_run(t + 1) + row * kPanel;
                        for (const GateSegment& segment : lstm.segments) {
                            const float* a[R];
                            for (int r = 0; r < R; ++r)
                                a[r] = after + segment.panel * active(t + 1) * kPanel + r * kPanel + segment.lane;
                            multiply_add<1>(a, segment.count,
                                            recurrent + shape.start(panel) + segment.row * (V * kLanes), V * kLanes,
                                            sums);
                        }
                    }
                    for (int r = 0; r < R; ++r)
                        for (int v = 0; v < V; ++v) {
                            const int64_t block = panel * kTileVectors + v, at = row + r;
                            cell_gradient(sums[r][v],
                                          {gate_run(t) + (block * active(t) + at) * kPanel,
                                           cell_run(t) + (block * active(t) + at) * kLanes,
                                           t ? cell_run(t - 1) + (block * active(t - 1) + at) * kLanes : nullptr,
                                           carry + (block * batch.sequences + at) * kLanes, carried});
                        }
                };
                for_row_tiles(first, going_on, tile);
                for_row_tiles(going_on, end, tile);
            });
        }
    }
}

void DirectionPass::weight_gradient(float* gradient, int64_t first, int64_t last, Buffer& scratch) const {
    const auto gather = [&](int64_t t, int64_t row, float* to) {
        std::memcpy(to, input_row(row, t), static_cast<size_t>(lstm.inputs) * sizeof(float));
        float* recurrent = to + lstm.inputs;
        if (t)
            std::memcpy(recurrent, hidden_row(row, t - 1), static_cast<size_t>(lstm.units) * sizeof(float));
        else
            std::fill_n(recurrent, lstm.units, 0.0f);
    };
    bilstm::weight_gradient(
        lstm.weights.shape, gradient, first, last, batch.longest, batch.steps, scratch, gather,
        [&](int64_t t) { return active(t); },
        [&](int64_t t, int64_t panel) {
            return std::pair<const float*, int64_t>(gate_run(t) + panel * active(t) * kPanel, kPanel);
        });
}

}  // namespace bilstm
