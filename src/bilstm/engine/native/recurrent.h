// Recurrent layers and Bidirectional: one or two directions over the same input, their outputs merged.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "direction.h"
#include "layer.h"

namespace bilstm {

enum class Merge : int32_t { concat = 0, sum = 1, multiply = 2, average = 3 };

class Recurrent final : public Layer {
  public:
    // Either one direction (merge is ignored) or two; sum, multiply and average need equal units.
    Recurrent(std::vector<std::unique_ptr<Direction>> directions, Merge merge, bool return_sequences);

    void forward(const Batch&, const Input&, float* output, Scratch&, const Mode&) const override;
    void backward(const Batch&, const Input&, const float* output, float* output_gradient, float* input_gradient,
                  Scratch&) override;
    std::vector<Parameter*> parameters() override;
    int64_t state_width() const override;

  private:
    // Numbers of a direction's buffers in Scratch.
    enum {
        kGates,
        kCells,
        kRecent,
        kBetween,
        kHidden,
        kCarry,
        kChunk,
        kAfter,
        kTransposed,
        kInputTransposed,
        kMerged,
        kLast,
        kInputGradient,
        kFirstCells,
        kBuffersEach
    };
    static_assert(2 * kBuffersEach <= Scratch::kMost);

    struct Passes {
        std::array<DirectionPass, 2> each;
        int64_t count = 0;
        const DirectionPass& operator[](size_t d) const { return each[d]; }
    };

    // What a forward pass leaves for the backward pass.
    enum class Keep { nothing, cells, gates };

    Passes passes(const Batch&, const Input&, float* output, Scratch&, Keep keep) const;
    // What the merge reads of a direction: a row per step, or a row per sequence.
    const float* merge_source(size_t direction, const DirectionPass&, Scratch&) const;
    void merge(const Batch&, const Passes&, float* output, Scratch&) const;
    std::array<Arriving, 2> arriving(const Passes&, float* output_gradient, int64_t rows, Scratch&) const;
    // What the backward pass works with.
    struct Back {
        Passes all;
        std::array<Arriving, 2> arriving;
        int64_t cost;
        Scratch& scratch;
    };
    // All steps, the directions taking turns.
    void backward_in_turns(Back&, float* input_gradient) const;
    // All steps of one direction, chunk by chunk. Adds to the input gradient, or fills it; it may be null.
    void backward_through(Back&, size_t direction, float* input_gradient, bool add) const;
    void open_chunk(Back&, size_t direction, Steps) const;
    void begin_from_states(Back&, size_t direction) const;
    void weight_gradient(const Back&, size_t direction, Steps, bool add) const;
    void input_gradient(const Back&, size_t direction, Steps, bool add, float* gradient) const;
    int64_t work(const Batch&) const;

    std::vector<std::unique_ptr<Direction>> directions_;
    Merge merge_;
    bool every_step_;
    bool in_place_;  // each direction writes straight into its part of the output
};

}  // namespace bilstm
