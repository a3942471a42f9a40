// How gradients become steps: Adam and plain gradient descent, as Keras computes them, with clipping.
#pragma once

#include <cstdint>
#include <vector>

#include "packed.h"

namespace bilstm {

struct Optimizer {
    enum Kind : int32_t { adam = 0, sgd = 1 };
    int32_t kind = adam;
    float learning_rate = 0.001f, beta_1 = 0.9f, beta_2 = 0.999f, epsilon = 1e-7f;
    // At most one of these; 0 is none. The norm of each weight array, the norm of all together, each number.
    float clipnorm = 0, global_clipnorm = 0, clipvalue = 0;
    // Decoupled from the gradients: I. Loshchilov & F. Hutter, "Decoupled weight decay regularization", 2019.
    float weight_decay = 0;

    // Adam: D. P. Kingma & J. Ba, "Adam: a method for stochastic optimization", 2015. iteration counts from 0.
    void update(const std::vector<Parameter*>& parameters, int64_t iteration) const;

  private:
    void clip(const std::vector<Parameter*>& parameters) const;
};

}  // namespace bilstm
