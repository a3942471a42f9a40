// Dropout with a counter-based generator: the mask of an element depends on (seed, training step, layer, element)
// and nothing else, so it is the same whoever computes it and in whatever order.
#pragma once

#include "layer.h"

namespace bilstm {

class Dropout final : public Layer {
  public:
    Dropout(int64_t width, float rate);

    void forward(const Batch&, const Input&, float* output, Scratch&, const Mode&) const override;
    void backward(const Batch&, const Input&, const float* output, float* output_gradient, float* input_gradient,
                  Scratch&) override;

  private:
    enum { kMask };
    uint32_t threshold_;  // an element is kept when its random word is at least this
    float scale_;
};

}  // namespace bilstm
