// Pooling: a sequence's rows become one, their average or their largest numbers (Keras's GlobalAveragePooling1D and
// GlobalMaxPooling1D, of each sequence's own steps).
#pragma once

#include "layer.h"

namespace bilstm {

enum class Pool : int32_t { average = 0, maximum = 1 };

class Pooling final : public Layer {
  public:
    Pooling(int64_t width, Pool pool);

    void forward(const Batch&, const Input&, float* output, Scratch&, const Mode&) const override;
    void backward(const Batch&, const Input&, const float* output, float* output_gradient, float* input_gradient,
                  Scratch&) override;

  private:
    enum { kParts };
    Pool pool_;
};

}  // namespace bilstm
