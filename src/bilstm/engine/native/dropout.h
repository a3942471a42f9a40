// Dropout with a counter-based generator: the mask of an element depends on (seed, training step, layer, its sequence's
// position in the batch, element of the sequence) and nothing else, so it is the same whoever computes it and in
// whatever order.
#pragma once

#include "layer.h"

namespace bilstm {

// Random words that elements of a sequence are drawn by.
inline constexpr int64_t kDrawn = 64;
// Fills `words` with those of elements first … first + kDrawn - 1; `first` is a multiple of kDrawn.
void draw_words(const Mode& mode, int layer, int64_t position, int64_t first, uint32_t (&words)[kDrawn]);
// An element is kept when its word is at least this.
uint32_t drop_below(float rate);

// Draws factors: 0 with a probability of `rate`, else 1 / (1 - rate).
class DropoutMask {
  public:
    explicit DropoutMask(float rate);
    // Calls use(i, factor) for elements first + i of a sequence, 0 <= i < count. `first` is a multiple of kDrawn.
    template <typename Use>
    void draw(const Mode& mode, int layer, int64_t position, int64_t first, int64_t count, Use&& use) const;

  private:
    uint32_t threshold_;
    float scale_;
};

// Each value is dropped independently. An element is a value of the sequence, counted row by row.
class Dropout final : public Layer {
  public:
    Dropout(int64_t width, float rate);

    void forward(const Batch&, const Input&, float* output, Scratch&, const Mode&) const override;
    void backward(const Batch&, const Input&, const float* output, float* output_gradient, float* input_gradient,
                  Scratch&) override;

  private:
    enum { kMask };
    DropoutMask drawn_;
};

// One mask for each sequence, kept over its steps: variational dropout (Y. Gal & Z. Ghahramani, "A theoretically
// grounded application of dropout in recurrent neural networks", 2016), Keras's SpatialDropout1D. An element is
// a column of the sequence.
class SpatialDropout final : public Layer {
  public:
    SpatialDropout(int64_t width, float rate);

    void forward(const Batch&, const Input&, float* output, Scratch&, const Mode&) const override;
    void backward(const Batch&, const Input&, const float* output, float* output_gradient, float* input_gradient,
                  Scratch&) override;

  private:
    enum { kMask };
    DropoutMask drawn_;
};

}  // namespace bilstm
