// One LSTM reading sequences in one direction: recurrence forward and backward, and its gradients.
//
// Hochreiter & Schmidhuber 1997 with forget gates (Gers et al. 2000), as in Keras: gates i, f, c, o; one bias.
#pragma once

#include <cstdint>
#include <vector>

#include "layer.h"

namespace bilstm {

// Gate gradients of a panel are read in an order that is the same for every vector width: blocks of 16 units, within
// them gate by gate. A segment is a stretch of that order which also lies together in a panel.
struct GateSegment {
    int64_t panel, lane, count, row;  // `row` of the transposed weights
};

struct Direction {
    int64_t inputs, units;
    bool reverse;  // processes each sequence from its last step to its first
    bool flip;     // stores the output of its n-th processed step at the n-th place from the sequence's end
    Parameter weights;
    std::vector<GateSegment> segments;

    Direction(int64_t inputs_, int64_t units_, bool reverse_, bool flip_);
    int64_t blocks() const { return (units + kLanes - 1) / kLanes; }
    // Transposed weights: rows are gates in the order of `segments`, columns are what the gates were computed from.
    PackedShape transposed(int64_t columns) const { return {(units + 15) / 16 * 64, round_up(columns, kLanes)}; }
    void transpose(int64_t first_row, int64_t columns, float* to) const;

    // The place in a sequence of `length` steps that is read, or written, at processing step t.
    int64_t reads(int64_t t, int64_t length) const { return reverse ? length - 1 - t : t; }
    int64_t writes(int64_t t, int64_t length) const { return flip ? length - 1 - t : t; }
};

// The buffers of a direction for one batch. Gates and cells are stored [step][block of units][sequence][lanes], with
// the sequences of a step in sorted order; gradients replace gates in place.
struct DirectionPass {
    const Direction& lstm;
    const Batch& batch;
    Input input;
    float* hidden;  // outputs: rows of hidden_step floats, of which `units` are this direction's
    int64_t hidden_step;
    float* gates = nullptr;    // kept for the backward pass, or null
    float* cells = nullptr;    // per step where gates are kept, else of the latest step only
    int64_t state_column = 0;  // where in a row of Mode's states its h and then its c are

    float* gate_run(int64_t t) const {
        return gates + batch.step_start[static_cast<size_t>(t)] * lstm.blocks() * kPanel;
    }
    float* cell_run(int64_t t) const {
        return cells + batch.step_start[static_cast<size_t>(t)] * lstm.blocks() * kLanes;
    }
    int64_t active(int64_t t) const { return batch.active[static_cast<size_t>(t)]; }
    float* hidden_row(int64_t sorted, int64_t t) const {
        const auto i = static_cast<size_t>(sorted);
        return hidden + (batch.start[i] + lstm.writes(t, batch.length[i])) * hidden_step;
    }
    const float* input_row(int64_t sorted, int64_t t) const {
        const auto i = static_cast<size_t>(sorted);
        return input.data + (input.starts[i] + lstm.reads(t, batch.length[i])) * lstm.inputs;
    }

    // Sorted sequences [first, last); independent of all others.
    void forward(int64_t first, int64_t last, const Mode& mode) const;
    // output_gradient: rows of gradient_step floats, one a step, or one a sequence (of its last processed step).
    // carry: (sequences x padded units); recurrent: the transposed recurrent weights.
    void backward(int64_t first, int64_t last, const float* output_gradient, int64_t gradient_step, bool every_step,
                  float* carry, const float* recurrent) const;
    // Adds to `gradient` for panels [first, last); the gates hold their gradients.
    void weight_gradient(float* gradient, int64_t first, int64_t last, Buffer& scratch) const;

  private:
    template <bool kKeep>
    void forward_steps(int64_t first, int64_t last, const Mode& mode) const;
};

}  // namespace bilstm
