// Pooling of windows: a sequence's rows become fewer, each the average or the largest numbers of some consecutive ones
// (Keras's AveragePooling1D and MaxPooling1D, of each sequence's own steps).
#pragma once

#include "layer.h"
#include "pooling.h"

namespace bilstm {

class WindowPooling final : public Layer {
  public:
    // Windows of `window` rows begin every `stride` rows. same: the sequence's ends lie within windows, which count no
    // rows beyond them; else only whole windows count.
    WindowPooling(int64_t width, Pool pool, int64_t window, int64_t stride, bool same);

    void forward(const Batch&, const Input&, float* output, Scratch&, const Mode&) const override;
    void backward(const Batch&, const Input&, const float* output, float* output_gradient, float* input_gradient,
                  Scratch&) override;
    int64_t length_after(int64_t length) const override;

  private:
    struct Rows {
        int64_t begin, end;
    };
    // The rows of a sequence of this length that its n-th window has.
    Rows window_of(int64_t n, int64_t length) const;

    Pool pool_;
    int64_t window_, stride_;
    bool same_;
};

}  // namespace bilstm
