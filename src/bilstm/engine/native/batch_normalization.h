// Batch normalization: S. Ioffe & C. Szegedy, "Batch normalization: accelerating deep network training by reducing
// internal covariate shift", 2015. Keras's, over the rows there are.
#pragma once

#include <memory>

#include "layer.h"

namespace bilstm {

// Training takes the mean and the variance of each column over all rows of the batch; all else takes moving averages of
// them, so that an output depends on its own row alone. A moving average's gradient is how far it is from the batch's
// number, of which a training step goes a fraction.
class BatchNormalization final : public Layer {
  public:
    // `fraction`: 1 - momentum.
    BatchNormalization(int64_t width, float fraction, float epsilon, bool center, bool scale);

    void forward(const Batch&, const Input&, float* output, Scratch&, const Mode&) const override;
    void backward(const Batch&, const Input&, const float* output, float* output_gradient, float* input_gradient,
                  Scratch&) override;
    std::vector<Parameter*> parameters() override;

  private:
    enum { kStatistics, kSums };
    struct Statistics;
    Statistics statistics(Scratch&) const;
    void measure(const Input&, Scratch&, Statistics&) const;
    double gamma(int64_t column) const { return scale_ ? learnt_.value.data()[column] : 1.0f; }

    double epsilon_;
    bool center_, scale_;
    Parameter learnt_;  // gamma, beta; of rows of which one or both may be missing
    Parameter moving_;  // mean, variance
};

}  // namespace bilstm
