// One LSTM reading sequences in one direction: recurrence forward and backward, and its gradients.
//
// Hochreiter & Schmidhuber 1997 with forget gates (Gers et al. 2000), as in Keras: gates i, f, c, o; one bias.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "layer.h"

namespace bilstm {

// Gate gradients of a panel are read in an order that is the same for every vector width: blocks of 16 units, within
// them gate by gate. A segment is a stretch of that order which also lies together in a panel.
struct GateSegment {
    int64_t panel, lane, count, row;  // `row` of the transposed weights
    int64_t width;                    // of the panel
};

struct Direction {
    int64_t inputs, units;
    bool reverse;  // processes each sequence from its last step to its first
    bool flip;     // stores the output of its n-th processed step at the n-th place from the sequence's end
    Parameter weights;
    std::vector<GateSegment> segments;

    Direction(int64_t inputs_, int64_t units_, bool reverse_, bool flip_);
    int64_t blocks() const { return (units + kLanes - 1) / kLanes; }
    int64_t row_size() const { return weights.shape.columns; }  // of a step's gates
    int64_t gate_vectors(int64_t block) const { return weights.shape.width(block) / kLanes; }
    // Transposed weights: rows are gates in the order of `segments`, columns are what the gates were computed from.
    PackedShape transposed(int64_t columns) const { return {4 * units, round_up(columns, kLanes)}; }
    void transpose(int64_t first_row, int64_t columns, float* to) const;

    // The place in a sequence of `length` steps that is read, or written, at processing step t.
    int64_t reads(int64_t t, int64_t length) const { return reverse ? length - 1 - t : t; }
    int64_t writes(int64_t t, int64_t length) const { return flip ? length - 1 - t : t; }
};

// Products of inputs and weights, of some steps ahead: with few sequences a step of its own would read all weights for
// little arithmetic.
struct Projection {
    Buffer sums;              // [step][sequence][block of units][gate][lane]
    int64_t begin = 0;        // the first step
    int64_t end = 0;          // the first step not computed
    std::vector<int64_t> at;  // where each step's first sequence is

    void clear() { begin = end = 0; }
};

// Where the gates of one step are, or their gradients: each block's lie together, a row a sequence.
struct GateRows {
    float* data;
    int64_t block_step;  // from a block to the next
    int64_t first;       // row of a block that is the first sequence's

    float* row(int64_t block, int64_t sequence, int64_t width) const {
        return data + block * block_step + (first + sequence) * width;
    }
};

// The buffers of a direction for one batch. Gates and cells are stored [step][block of units][sequence][lanes], with
// the sequences of a step in sorted order.
struct DirectionPass {
    const Direction* lstm = nullptr;
    const Batch* batch = nullptr;
    Input input{};
    float* hidden = nullptr;  // outputs: rows of hidden_step floats, of which `units` are this direction's
    int64_t hidden_step = 0;
    float* gates = nullptr;  // kept for the backward pass, or null
    float* cells = nullptr;  // of every step where cells_kept, else of the latest only
    bool cells_kept = false;
    bool fetches_ahead = false;  // what is kept of the batch is more than a cache holds
    // The backward pass goes through chunks of steps: their gate gradients, [block of units][rows of all steps, from
    // the last step to the first][lanes], and those of the step after the chunk.
    float* chunk = nullptr;
    int64_t chunk_begin = 0, chunk_end = 0;
    float* after_chunk = nullptr;
    float* recent = nullptr;   // h of the two latest steps, padded: where the next step finds it together
    int64_t state_column = 0;  // where in a row of Mode's states its h and then its c are

    // Where they are not kept, gates are computed again in the place of their gradients.
    GateRows gate_rows(int64_t t) const {
        if (!gates) return gradient_rows(t);
        return {gates + steps_before(t) * lstm->row_size(), active(t) * kPanel, 0};
    }
    GateRows gradient_rows(int64_t t) const {
        if (t == chunk_end) return {after_chunk, active(t) * kPanel, 0};
        return {chunk, chunk_block_step(chunk_rows()), steps_before(chunk_end) - steps_before(t + 1)};
    }
    int64_t chunk_rows() const { return steps_before(chunk_end) - steps_before(chunk_begin); }
    // With a few lines of cache between blocks, as steps of 4 KiB would all fall into the same few places of a cache.
    static int64_t chunk_block_step(int64_t rows) { return rows * kPanel + kCacheSkew; }
    int64_t steps_before(int64_t t) const {
        return t < batch->longest ? batch->step_start[static_cast<size_t>(t)] : batch->steps;
    }
    float* cell_run(int64_t t) const { return cells_kept ? cells + steps_before(t) * lstm->blocks() * kLanes : cells; }
    // How many sequences a block of cell_run(t) holds.
    int64_t cell_rows(int64_t t) const { return cells_kept ? active(t) : batch->sequences; }
    float* recent_run(int64_t t) const { return recent + (t & 1) * batch->sequences * lstm->blocks() * kLanes; }
    // Multiply-adds of a step of sorted sequences [first, last).
    int64_t work_of(int64_t t, int64_t first, int64_t last) const {
        return (std::min(last, active(t)) - first) * 4 * lstm->units * (lstm->inputs + lstm->units);
    }
    int64_t active(int64_t t) const { return batch->active[static_cast<size_t>(t)]; }
    float* hidden_row(int64_t sorted, int64_t t) const {
        const auto i = static_cast<size_t>(sorted);
        return hidden + (batch->start[i] + lstm->writes(t, batch->length[i])) * hidden_step;
    }
    const float* input_row(int64_t sorted, int64_t t) const {
        const auto i = static_cast<size_t>(sorted);
        return input.data + (input.starts[i] + lstm->reads(t, batch->length[i])) * lstm->inputs;
    }

    // Sorted sequences [first, last), independent of all others, through all their steps.
    void forward(int64_t first, int64_t last, const Mode& mode) const;
    // A single sequence through all steps of two directions of the same size: each hides the other's latency.
    static void forward_both(const DirectionPass& first, const DirectionPass& second, const Mode& mode);
    // Processing step t of them. A projection is brought up to that step; without one the step computes its own.
    void forward_step(int64_t t, int64_t first, int64_t last, const Mode& mode, Projection* projection) const;

    // What the backward pass of a batch reads and uses.
    struct Arriving {
        const float* gradient;  // rows of `step` floats, one a step, or one a sequence (of its last processed step)
        int64_t step;
        bool every_step;
        float* carry;            // (sequences x padded units)
        const float* recurrent;  // the transposed recurrent weights

        const float* row(const DirectionPass& pass, int64_t sorted, int64_t t) const;
    };
    struct Steps {
        int64_t begin, end;
    };
    void backward(Steps steps, int64_t first, int64_t last, const Arriving& arriving) const;
    void backward_step(int64_t t, int64_t first, int64_t last, const Arriving& arriving) const;
    // The gates of some steps, from the inputs, the outputs and the weights: the numbers they were.
    void recompute_gates(Steps steps, int64_t first, int64_t last) const;
    // Panels [first, last) of `gradient`, from gate gradients: of the last steps or, adding to what is there, of the
    // steps before those already summed.
    void weight_gradient(float* gradient, int64_t first, int64_t last, Steps steps, bool add, Buffer& scratch) const;

  private:
    void begin_from_states(int64_t first, int64_t last, const Mode& mode) const;
    // Weights are float or Bfloat16.
    template <typename Weight>
    void step_with(int64_t t, int64_t first, int64_t last, const Mode& mode, Projection* projection) const;
    template <typename Weight>
    void project(int64_t t, int64_t first, int64_t last, Projection& projection) const;
    // What enters a step's gates; previous(r) is h of the step before, or null.
    template <typename Weight, int Rows, int Panels, int Last, typename Previous>
    void gate_sums(int64_t t, int64_t row, int64_t block, const float* projected, const Previous& previous,
                   Vec (&sums)[Rows][4 * (Panels - 1) + Last]) const;
    // Where the numbers of one sequence, step and block of units are; those of the next block a step further.
    struct CellPlaces {
        const float* before;  // c of the step before, or null
        float *cell, *gates;  // gates: null where they are not kept
        float *recent, *hidden;
        int64_t before_step, cell_step, gate_step;

        void go_on(int64_t blocks) {  // with a single sequence, of which a panel is a step
            if (before) before += blocks * before_step;
            if (gates) gates += blocks * kPanel;
            cell += blocks * cell_step, recent += blocks * kLanes, hidden += blocks * kLanes;
        }
    };
    template <int Panels, int Last>
    CellPlaces cell_places(int64_t row, int64_t t, int64_t block, bool continues) const;
    template <int Last>
    static void keep_gates(float* to, bool last, const Vec* activated);
    template <typename Caller, int Panels, int Last, int Rows>
    static void finish_tile(const CellPlaces (&at)[Rows], int64_t units,
                            const Vec (&sums)[Rows][4 * (Panels - 1) + Last]);
    void leave_states(int64_t row, int64_t t, const Mode& mode) const;
    template <int Panels, int Last>
    static void both_tile(const float* const (&weights)[2], const float* const (&inputs)[2],
                          const float* const (&before)[2], const Direction& lstm, int64_t block,
                          const CellPlaces (&at)[2]);
    // h of the step before.
    const float* before(int64_t row, int64_t t) const { return recent_run(t - 1) + row * lstm->blocks() * kLanes; }
    template <typename Weight, int Rows, int Panels, int Last>
    void forward_tile(int64_t t, int64_t row, int64_t block, const float* projected, const Mode& mode) const;
    template <int Rows, int Vectors>
    void backward_tile(int64_t t, int64_t row, int64_t panel, bool carried, const Arriving& arriving) const;
};

}  // namespace bilstm
