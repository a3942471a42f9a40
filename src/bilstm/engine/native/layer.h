// What every layer can do: map rows forward, map gradients backward, and show what it learns.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "batch.h"
#include "memory.h"
#include "packed.h"

namespace bilstm {

// The numbers a layer reads. Sequence `sorted` starts at row starts[sorted]; rows of compact input also lie in the
// batch's own order, without gaps, so that layers which treat rows alike need no starts.
struct Input {
    const float* data;
    const int64_t* starts;
    int64_t rows;
};

// Recurrent states and gradients of states, for a backward pass: each null, or (sequences, width) in the order of the
// caller's data.
struct StateGradients {
    const float* before = nullptr;     // the states before the first steps
    const float* after = nullptr;      // the gradient of those after the last steps
    float* before_gradient = nullptr;  // to be filled
    int64_t width = 0;
};

struct DistinctWords;

// A layer's buffers for one batch. Layers number them as they like.
struct Scratch {
    static constexpr int kMost = 28;
    std::array<Buffer, kMost> buffers;
    std::vector<float*> gradients;  // where those of the layer's parameters go
    StateGradients states;
    // Of a layer that changes lengths: the batch of its outputs, made by its forward pass.
    Batch after;
    std::vector<int64_t> offsets, chosen;
    std::shared_ptr<DistinctWords> words;  // of a layer that encodes words

    Buffer& operator[](int index) { return buffers[static_cast<size_t>(index)]; }
    // Between calls: now and then gives back what the latest did not need.
    void settle();
};

// The words of a batch, each once, as sequences of their own, and what their encoder works with.
struct DistinctWords {
    explicit DistinctWords(size_t layers) : scratch(layers), outputs(layers) {}

    Batch batch;
    std::vector<Scratch> scratch;
    std::vector<Buffer> outputs;
    Buffer gathered, gradients[2];
    std::vector<int64_t> chosen, slots;
    std::vector<int64_t> row_words;  // of each row of the batch its word, as a position in `chosen`
};

inline void Scratch::settle() {
    for (Buffer& buffer : buffers) buffer.settle();
    if (!words) return;
    for (Scratch& own : words->scratch) own.settle();
    for (Buffer& buffer : words->outputs) buffer.settle();
    for (Buffer* buffer : {&words->gathered, &words->gradients[0], &words->gradients[1]}) buffer->settle();
    words->batch.settle();
    for (auto* numbers : {&words->chosen, &words->slots, &words->row_words}) bilstm::settle(*numbers);
}

// Sequences that rows refer to: those from offsets[i] to offsets[i + 1].
struct WordTable {
    const float* values = nullptr;
    const int64_t* offsets = nullptr;
    int64_t count = 0;
    int64_t features = 0;
};

// How a forward pass is meant.
struct Mode {
    bool training = false;               // keep what the backward pass needs
    bool dropping = false;               // dropout drops
    bool rounded = false;                // products read weights rounded to bfloat16; not in training
    bool one_row_each = false;           // a layer before has turned sequences of rows into one row each
    uint64_t seed = 0;                   // of dropout
    uint32_t iteration = 0;              // training steps before this one
    const int64_t* positions = nullptr;  // of a share's sequences, in the caller's order of the whole batch
    // Recurrent states before the first and after the last step, or null: (sequences, state_width).
    const float* states_in = nullptr;
    float* states_out = nullptr;
    const int64_t* leave_at = nullptr;  // for each sequence: after how many steps those that read forwards are left
    int64_t state_width = 0;
    WordTable words;
};

class Layer {
  public:
    virtual ~Layer() = default;
    int64_t input_width = 0, output_width = 0;
    int index = 0;                   // position in the model; part of dropout's counter
    bool takes_gaps = false;         // reads through Input::starts, so its input need not be compact
    bool recompute = false;          // keeps less for the backward pass, which computes it again
    bool one_row_each = false;       // turns a sequence of rows into one row
    bool changes_lengths = false;    // turns a sequence of rows into another number of rows: see length_after
    bool needs_whole_batch = false;  // in training, which then has no shares
    bool reads_around = false;       // rows of other steps, with no state that a sequence's next piece could use

    // The caller provides outputs (rows x output_width) and gradients of the same shapes.
    virtual void forward(const Batch&, const Input&, float* output, Scratch&, const Mode&) const = 0;
    // Fills the parameters' gradients and, unless it is null, input_gradient. May overwrite output_gradient.
    virtual void backward(const Batch&, const Input&, const float* output, float* output_gradient,
                          float* input_gradient, Scratch&) = 0;
    virtual std::vector<Parameter*> parameters() { return {}; }
    // How many rows it makes of a sequence of `length`.
    virtual int64_t length_after(int64_t length) const { return length; }
    virtual int64_t state_width() const { return 0; }
    int64_t state_offset = 0;
};

}  // namespace bilstm
