// A conditional random field: the rows that it reads are scores of labels, and those that it returns the labels'
// probabilities, each given the whole sequence.
#pragma once

#include <vector>

#include "chain.h"
#include "head.h"

namespace bilstm {

class Crf final : public Head {
  public:
    // `forbidden`: (labels + 2, labels), see ChainWeights, or null.
    Crf(int64_t labels, const uint8_t* forbidden);

    void forward(const Batch&, const Input&, float* output, Scratch&, const Mode&) const override;
    // Throws Invalid: the loss of probabilities is score's alone.
    void backward(const Batch&, const Input&, const float* output, float* output_gradient, float* input_gradient,
                  Scratch&) override;
    Score score(const Batch&, const Input&, const float* output, Scratch&, const Targets&, const int64_t* target_rows,
                int64_t all_labelled, float* input_gradient) const override;
    void decode(const Batch&, const Input&, Scratch&, const Targets&, const int64_t* target_rows,
                const Decoding&) const override;
    std::vector<Parameter*> parameters() override { return {&table_}; }

  private:
    // Its buffers in Scratch, of float64: rows of lattices of all labels, and of those that a sequence may have; of
    // each sequence the total, and whether its lattice is of logarithms.
    enum { kBefore, kAfter, kAllowedBefore, kAllowedAfter, kAllowedMarginals, kTotals };
    struct Part;
    Part part_of(const Batch&, int64_t sorted, const Input&, Scratch&, const Targets&,
                 const int64_t* target_rows) const;
    void fill_gradients(const std::vector<Part>&, const ChainWeights&, Scratch&, const float* input_gradient,
                        int64_t all_labelled) const;
    const uint8_t* forbidden() const { return forbidden_.empty() ? nullptr : forbidden_.data(); }

    Parameter table_;  // transitions from each label, then starts, then ends
    std::vector<uint8_t> forbidden_;
};

}  // namespace bilstm
