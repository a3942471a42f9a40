// Words: a step's last column is the index of a word, a sequence of its own, such as of characters. Layers make one row
// of it (Lample et al. 2016; Ma & Hovy 2016), and each word of a batch is encoded once, however often it occurs.
#pragma once

#include <memory>
#include <vector>

#include "layer.h"

namespace bilstm {

class WordEncoder final : public Layer {
  public:
    // Rows of input: `width` numbers, the last the index of a word. Rows of output: the word's encoding, then the other
    // numbers.
    WordEncoder(std::vector<std::unique_ptr<Layer>> encoder, int64_t width);

    void forward(const Batch&, const Input&, float* output, Scratch&, const Mode&) const override;
    void backward(const Batch&, const Input&, const float* output, float* output_gradient, float* input_gradient,
                  Scratch&) override;
    std::vector<Parameter*> parameters() override;

  private:
    // Finds the words of all rows, and numbers them by where they occur first: an order that does not depend on which
    // others the table has.
    void collect(const Input&, const WordTable&, DistinctWords&) const;
    Input input_of(const DistinctWords&, size_t layer, int64_t rows) const;
    // A row for each word.
    const float* encode(DistinctWords&, const WordTable&, const Mode&) const;

    std::vector<std::unique_ptr<Layer>> encoder_;
    int64_t encoding_;  // numbers of a word's
};

}  // namespace bilstm
