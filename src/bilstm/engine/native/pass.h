// A forward pass that is kept for its backward pass: for callers whose loss is their own.
#pragma once

#include <memory>

#include "network.h"

namespace bilstm {

// Over all sequences of the data, whose values, like the first states, must stay where and as they are. Needs the
// network until it ends.
class Pass {
  public:
    Pass(Network& network, const bilstm_data& data, bool training, uint64_t seed, const float* states_in,
         float* states_out, float* output);
    ~Pass() { network_.give_back(std::move(workspace_)); }
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;

    Network& network() { return network_; }
    // As often as wanted. Throws Invalid where the weights have changed since.
    void backward(const float* output_gradient, const float* states_gradient, float* input_gradient,
                  float* first_states_gradient);

  private:
    Network& network_;
    const float* states_in_;
    int64_t weights_version_;
    std::unique_ptr<Workspace> workspace_;
};

}  // namespace bilstm
