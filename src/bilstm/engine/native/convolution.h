// Convolution over time: each step's output is a linear map of the rows around it, and an activation (Keras's Conv1D
// with padding "same" or "causal"). Beyond a sequence's own ends there are zeros.
#pragma once

#include "activation.h"
#include "layer.h"

namespace bilstm {

class Convolution final : public Layer {
  public:
    // taps: rows that an output is made of, `dilation` steps apart. causal: the step's own row is the last of them;
    // otherwise they lie around it, or around half a step later where their number is even.
    Convolution(int64_t inputs, int64_t units, int64_t taps, int64_t dilation, bool causal, Activation activation,
                bool biased);

    void forward(const Batch&, const Input&, float* output, Scratch&, const Mode&) const override;
    void backward(const Batch&, const Input&, const float* output, float* output_gradient, float* input_gradient,
                  Scratch&) override;
    std::vector<Parameter*> parameters() override { return {&weights_}; }

  private:
    enum { kRows, kTransposed, kPack };
    template <typename Weight>
    void multiply(const Batch&, const Input&, float* output) const;
    void transpose(const PackedShape& shape, float* to) const;
    void weights_gradient(const Batch&, const Input&, const float* rows, Scratch&);

    int64_t taps_, dilation_;
    int64_t before_, after_;  // steps from a window's first row to the step's own, and from there to its last
    Activation activation_;
    Parameter weights_;  // a bias row, then the inputs' rows of each tap, the earliest first
    Buffer zeros_;       // a row beyond a sequence's ends, or its gradient
};

}  // namespace bilstm
