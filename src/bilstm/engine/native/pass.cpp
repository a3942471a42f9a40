#include "pass.h"

#include "checks.h"

namespace bilstm {

Pass::Pass(Network& network, const bilstm_data& data, bool training, uint64_t seed, const float* states_in,
           float* states_out, float* output)
    : network_(network),
      states_in_(states_in),
      weights_version_(network.weights_version()),
      workspace_(network.forward_kept(data, training, seed, states_in, states_out, output)) {}

void Pass::backward(const float* output_gradient, const float* states_gradient, float* input_gradient,
                    float* first_states_gradient) {
    require(network_.weights_version() == weights_version_, "the weights have changed since the forward pass");
    const StateGradients states{states_in_, states_gradient, first_states_gradient, network_.state_width()};
    network_.backward_kept(*workspace_, output_gradient, states, input_gradient);
}

}  // namespace bilstm
