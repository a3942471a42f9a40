// One recurrent cell reading sequences in one direction: what all kinds of cells have in common.
//
// LSTM: Hochreiter & Schmidhuber 1997 with forget gates (Gers et al. 2000); gates i, f, c, o. GRU: Cho et al. 2014;
// gates z, r, h. Simple: Elman 1990. All as in Keras.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "layer.h"

namespace bilstm {

// The GRU's reset gate comes after the recurrent product, as in Keras by default, or before it, as in the paper.
enum class CellKind : int32_t { lstm = 0, gru = 1, gru_reset_before = 2, simple_tanh = 3, simple_relu = 4 };

// What squashes the sums of gates: the hard sigmoids are clip(x / 6 + 1/2, 0, 1) in Keras 3, clip(x / 5 + 1/2, 0, 1) in
// Keras 2.
enum class GateKind : int32_t { sigmoid = 0, hard_sigmoid = 1, hard_sigmoid_keras2 = 2 };

struct DirectionPlan {
    CellKind kind;
    GateKind gates;
    int64_t inputs, units;
    bool reverse, flip, biased;
};

// Gate gradients of a panel are read in an order that is the same for every vector width: blocks of 16 units, within
// them gate by gate. A segment is a stretch of that order which also lies together in a panel.
struct GateSegment {
    int64_t panel, lane, count, row;  // `row` of the transposed weights
    int64_t width;                    // of the panel
    int64_t weight_lane;              // where in the panel of weights its columns are
};

// A gate of the weights, and which of the gradients it has.
struct GateGradient {
    int64_t gate, gradient;
};

struct DirectionPass;

// Products of inputs and weights, of some steps ahead: with few sequences, one step would read all weights for
// little arithmetic.
struct Projection {
    Buffer sums;              // [step][sequence][panel][lane]
    int64_t begin = 0;        // the first step
    int64_t end = 0;          // the first step not computed
    std::vector<int64_t> at;  // where each step's first sequence is

    void clear() { begin = end = 0; }
};

// What the backward pass of a batch reads and uses.
struct Arriving {
    const float* gradient;  // rows of `step` floats, one per step, or one per sequence (of its last processed step)
    int64_t step;
    bool every_step;
    float* carry;            // (sequences x padded units)
    const float* recurrent;  // the transposed recurrent weights

    const float* row(const DirectionPass& pass, int64_t sorted, int64_t t) const;
};

struct Steps {
    int64_t begin, end;
};

class Direction {
  public:
    const CellKind kind;
    const GateKind gate_kind;
    const int64_t inputs, units;
    const bool reverse;  // processes each sequence from its last step to its first
    const bool flip;     // stores the output of its n-th processed step at the n-th place from the sequence's end
    Parameter weights;
    int64_t first_recurrent = 0;     // the first row of recurrent weights
    int64_t units_a_panel = kLanes;  // of gates and of weights
    bool has_cells = false;          // a second state, c, besides h
    bool keeps_gates = true;         // the backward pass reads them; without, outputs are all it needs
    bool halves = false;             // a step has two halves, with DirectionPass::between in between
    PackedShape gates;               // of a step's gates, and of their gradients: one row
    // What the gradients of inputs and of the previous outputs are made of; for a GRU that resets before the product,
    // `to_reset` has the part of the outputs that it resets.
    std::vector<GateSegment> to_inputs, to_previous, to_reset;

    explicit Direction(const DirectionPlan&);
    virtual ~Direction() = default;
    // Of a hard sigmoid.
    float gate_slope() const { return gate_kind == GateKind::hard_sigmoid ? 1.0f / 6.0f : 0.2f; }
    int64_t work_of_step() const { return weights.variables[0].columns * (inputs + units); }  // of one sequence
    int64_t blocks() const { return (units + kLanes - 1) / kLanes; }
    int64_t row_size() const { return keeps_gates ? gates.columns : 0; }
    int64_t states() const { return has_cells ? 2 : 1; }
    // Transposed weights: rows are gates in the order of segments, columns are what the gates were computed from.
    PackedShape transposed(int64_t columns) const { return {weights.variables[0].columns, round_up(columns, kLanes)}; }
    void transpose(const std::vector<GateSegment>&, int64_t first_row, int64_t columns, float* to) const;

    // The place in a sequence of `length` steps that is read, or written, at processing step t.
    int64_t reads(int64_t t, int64_t length) const { return reverse ? length - 1 - t : t; }
    int64_t writes(int64_t t, int64_t length) const { return flip ? length - 1 - t : t; }

    // Processing step t of sorted sequences [first, last). A projection is brought up to that step; without one the
    // step computes its own.
    virtual void forward_step(const DirectionPass&, int64_t t, int64_t first, int64_t last, const Mode&,
                              Projection*) const = 0;
    // A single sequence through all steps of two directions of the same size: each hides the other's latency. False:
    // these two cannot.
    virtual bool forward_both(const DirectionPass&, const DirectionPass&, const Mode&) const { return false; }
    virtual void backward_step(const DirectionPass&, int64_t t, int64_t first, int64_t last, const Arriving&) const = 0;
    // A single sequence's step of two directions of the same size. False: these two cannot.
    virtual bool backward_both(const DirectionPass* const (&)[2], int64_t, const Arriving* const (&)[2]) const {
        return false;
    }
    // The gates of some steps, from the inputs, the outputs and the weights: the numbers they were.
    virtual void recompute_gates(const DirectionPass&, Steps, int64_t first, int64_t last) const = 0;
    // Panels [first, last) of `gradient`, from gate gradients: of the last steps or, adding to what is there, of the
    // steps before those already summed.
    virtual void weight_gradient(const DirectionPass&, float* gradient, int64_t first, int64_t last, Steps, bool add,
                                 Buffer& scratch) const = 0;

  protected:
    // Rows of transposed weights from first_row on.
    std::vector<GateSegment> segments(const std::vector<GateGradient>&, int64_t first_row = 0) const;
    // A vector's lanes, or fewer where gates share vectors: from a gate of the unit's panel to the next.
    virtual int64_t lanes(int64_t) const { return kLanes; }
};

// Throws Invalid where the weights would be too many.
std::unique_ptr<Direction> make_direction(const DirectionPlan&);

// Where the gates of one step are, or their gradients: each panel's lie together, a row per sequence.
struct GateRows {
    float* data;
    int64_t panel_step;  // from a panel to the next
    int64_t first;       // row of a panel that is the first sequence's

    float* row(int64_t panel, int64_t sequence, int64_t width) const {
        return data + panel * panel_step + (first + sequence) * width;
    }
};

// The buffers of a direction for one batch. Gates are stored [step][panel][sequence][lanes] and cells
// [step][block of units][sequence][lanes], with the sequences of a step in sorted order.
struct DirectionPass {
    const Direction* direction = nullptr;
    const Batch* batch = nullptr;
    Input input{};
    float* hidden = nullptr;  // outputs: rows of hidden_step floats, of which `units` are this direction's
    int64_t hidden_step = 0;
    float* gates = nullptr;  // kept for the backward pass, or null
    float* cells = nullptr;  // of every step where cells_kept, else of the latest only
    bool cells_kept = false;
    bool fetches_ahead = false;  // what is kept of the batch is more than a cache holds
    // The backward pass goes through chunks of steps: their gate gradients, [panel][rows of all steps, from the last
    // step to the first][lanes], and those of the step after the chunk.
    float* chunk = nullptr;
    int64_t chunk_begin = 0, chunk_end = 0;
    float* after_chunk = nullptr;
    float* recent = nullptr;   // h of the two latest steps, padded: where the next step finds it together
    float* between = nullptr;  // what a cell's first half of a step leaves for the second: [sequence][3][padded units]
    int64_t state_column = 0;  // where in a row of states its h and then its c are
    // The backward pass, where it continues from states or to them: these, and the first c, [block][sequence][lanes].
    const StateGradients* states = nullptr;
    const float* first_cells = nullptr;

    // Where they are not kept, gates are computed again in the place of their gradients.
    GateRows gate_rows(int64_t t) const {
        if (!gates) return gradient_rows(t);
        return {gates + steps_before(t) * direction->row_size(), active(t) * kPanel, 0};
    }
    GateRows gradient_rows(int64_t t) const {
        if (t == chunk_end) return {after_chunk, active(t) * kPanel, 0};
        return {chunk, chunk_panel_step(chunk_rows()), steps_before(chunk_end) - steps_before(t + 1)};
    }
    int64_t chunk_rows() const { return steps_before(chunk_end) - steps_before(chunk_begin); }
    // With a few lines of cache between panels, as steps of 4 KiB would all fall into the same few places of a cache.
    static int64_t chunk_panel_step(int64_t rows) { return rows * kPanel + kCacheSkew; }
    int64_t steps_before(int64_t t) const {
        return t < batch->longest ? batch->step_start[static_cast<size_t>(t)] : batch->steps;
    }
    int64_t padded() const { return direction->blocks() * kLanes; }
    float* cell_run(int64_t t) const { return cells_kept ? cells + steps_before(t) * padded() : cells; }
    // How many sequences a block of cell_run(t) holds.
    int64_t cell_rows(int64_t t) const { return cells_kept ? active(t) : batch->sequences; }
    float* recent_run(int64_t t) const { return recent + (t & 1) * batch->sequences * padded(); }
    // h of the step before.
    const float* before(int64_t row, int64_t t) const { return recent_run(t - 1) + row * padded(); }
    // Multiply-adds of a step of sorted sequences [first, last).
    int64_t work_of(int64_t t, int64_t first, int64_t last) const {
        return (std::min(last, active(t)) - first) * direction->work_of_step();
    }
    int64_t active(int64_t t) const { return batch->active[static_cast<size_t>(t)]; }
    float* hidden_row(int64_t sorted, int64_t t) const {
        const auto i = static_cast<size_t>(sorted);
        return hidden + (batch->start[i] + direction->writes(t, batch->length[i])) * hidden_step;
    }
    // h of the step before, as the backward pass finds it; null before the first without a state.
    const float* hidden_before(int64_t sorted, int64_t t) const {
        if (t) return hidden_row(sorted, t - 1);
        return states && states->before ? state_row(states->before, sorted) : nullptr;
    }
    template <typename Number>
    Number* state_row(Number* all, int64_t sorted) const {
        return all + batch->sequence[static_cast<size_t>(sorted)] * states->width + state_column;
    }
    bool goes_on() const { return states && states->after; }  // gradients arrive at the last states
    const float* input_row(int64_t sorted, int64_t t) const {
        const auto i = static_cast<size_t>(sorted);
        return input.data + (input.starts[i] + direction->reads(t, batch->length[i])) * direction->inputs;
    }

    // Sorted sequences [first, last), independent of all others, through all their steps.
    void forward(int64_t first, int64_t last, const Mode& mode) const;
    void backward(Steps steps, int64_t first, int64_t last, const Arriving& arriving) const;
    // What steps before the first left, and what the next finds after a sequence's last one.
    void begin_from_states(int64_t first, int64_t last, const Mode& mode) const;
    void leave_states(int64_t row, int64_t t, const Mode& mode) const;
    bool leaves(int64_t row, int64_t t, const Mode& mode) const {
        return mode.leave_at[batch->sequence[static_cast<size_t>(row)]] == t + 1;
    }
    // After the backward pass: the gradients of the states before the first step.
    void state_gradients(const Arriving& arriving) const;
};

}  // namespace bilstm
