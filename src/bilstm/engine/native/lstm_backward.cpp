// The backward pass of one LSTM in one direction: gradients of its gates, and of its weights.
#include <algorithm>
#include <utility>

#include "accumulate.h"
#include "gates.h"
#include "interrupt.h"
#include "lstm.h"

namespace bilstm {
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
    const Vec squashed = h / at_least(o, 0x1p-124f);
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
    for (int64_t t = steps.end - 1; t >= steps.begin; --t) {
        backward_step(t, first, last, arriving);
        count_done(work_of(t, first, last));
    }
}

void DirectionPass::backward_step(int64_t t, int64_t first, int64_t last, const Arriving& arriving) const {
    const int64_t end = std::min(last, active(t));
    if (end <= first) return;
    const int64_t going_on = t + 1 < batch->longest ? std::max(first, std::min(last, active(t + 1))) : first;
    const PackedShape shape = lstm->transposed(lstm->units);
    for (int64_t panel = 0; panel < shape.panels(); ++panel)
        with_vectors(shape.width(panel) / kLanes, [&](auto vectors) {
            constexpr int V = decltype(vectors)::value;
            for_row_tiles<V>(first, going_on, [&](auto rows, int64_t row) {
                backward_tile<decltype(rows)::value, V>(t, row, panel, true, arriving);
            });
            for_row_tiles<V>(going_on, end, [&](auto rows, int64_t row) {
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
    if (carried && fetches_ahead)  // while the tile's product runs
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
