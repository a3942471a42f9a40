// Attention pooling: a sequence's rows become one, their mean weighted by a softmax over the sequence's own steps of a
// learned score, query . tanh(W x + b): the word attention of Z. Yang et al., "Hierarchical attention networks for
// document classification", NAACL 2016, equations 5 to 7; additive attention (D. Bahdanau, K. Cho & Y. Bengio, 2015) to
// one query.
#pragma once

#include "dense.h"

namespace bilstm {

class AttentionPooling final : public Layer {
  public:
    AttentionPooling(int64_t width, int64_t units);

    void forward(const Batch&, const Input&, float* output, Scratch&, const Mode&) const override;
    void backward(const Batch&, const Input&, const float* output, float* output_gradient, float* input_gradient,
                  Scratch&) override;
    std::vector<Parameter*> parameters() override;

  private:
    enum { kHidden = Dense::kBuffers, kWeights, kWeightGradients, kHiddenGradients, kBuffers };
    static_assert(kBuffers <= Scratch::kMost);
    void score_rows(const Batch&, const Input&, float* scores, Scratch&, const Mode&) const;

    Dense hidden_;
    Parameter query_;
};

}  // namespace bilstm
