// A last layer whose loss is not a sum over rows but a number for each sequence, with parameters of its own.
#pragma once

#include <cstdint>

#include "layer.h"
#include "loss.h"

namespace bilstm {

// What a head is asked for besides the rows of its output, each null or in the order of the caller's data.
struct Decoding {
    int64_t paths = 0;                    // of each sequence, the likeliest first
    int32_t* labels = nullptr;            // (paths, steps); -1 where a sequence has fewer paths
    double* log_probabilities = nullptr;  // (paths, sequences); minus infinity where it has fewer
    double* log_likelihoods = nullptr;    // (sequences): of the caller's labels
    int64_t steps = 0, sequences = 0;     // of the caller's data
};

class Head : public Layer {
  public:
    // After a forward pass in this scratch: the score of its sequences, whose loss is the sum of their own. Unless it
    // is null, `input_gradient` gets d(loss / all_labelled) / d input, and the parameters' gradients are filled.
    virtual Score score(const Batch&, const Input&, const float* output, Scratch&, const Targets&,
                        const int64_t* target_rows, int64_t all_labelled, float* input_gradient) const = 0;
    virtual void decode(const Batch&, const Input&, Scratch&, const Targets&, const int64_t* target_rows,
                        const Decoding&) const = 0;
};

}  // namespace bilstm
