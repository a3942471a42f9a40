// Dense: a linear map of each row and an activation (Keras's Dense, and TimeDistributed(Dense)).
#pragma once

#include "activation.h"
#include "layer.h"

namespace bilstm {

class Dense final : public Layer {
  public:
    Dense(int64_t inputs, int64_t units, Activation activation, bool biased = true);

    void forward(const Batch&, const Input&, float* output, Scratch&, const Mode&) const override;
    void backward(const Batch&, const Input&, const float* output, float* output_gradient, float* input_gradient,
                  Scratch&) override;
    std::vector<Parameter*> parameters() override { return {&weights_}; }
    // Its buffers in Scratch, of which a layer made of it has its own ones after these.
    enum { kRows, kTransposed, kPack, kBuffers };
    static_assert(kBuffers <= Scratch::kMost);
    Activation activation() const { return activation_; }
    // The loss gives the gradient of the activation's input, as losses matched to an activation do.
    void skip_activation_gradient(bool skip) { skip_activation_gradient_ = skip; }

  private:
    template <typename Weight>
    void multiply(const Input&, float* output) const;
    void transpose(float* to) const;
    void gradient_of_few_units(const Input&, const float* rows, float* gradient) const;

    Activation activation_;
    Parameter weights_;
    bool skip_activation_gradient_ = false;
};

}  // namespace bilstm
