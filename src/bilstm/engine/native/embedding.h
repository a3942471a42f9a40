// Embedding: index columns looked up in learned tables, next to numeric columns passed on as they are.
#pragma once

#include <memory>
#include <vector>

#include "layer.h"

namespace bilstm {

class Embedding final : public Layer {
  public:
    // Rows of input: `numeric` numbers, then one index a table. Rows of output: the numbers, then an embedding a table.
    struct Table {
        int64_t vocabulary, dimension;
    };
    Embedding(int64_t numeric, const std::vector<Table>& tables);

    void forward(const Batch&, const Input&, float* output, Scratch&, const Mode&) const override;
    void backward(const Batch&, const Input&, const float* output, float* output_gradient, float* input_gradient,
                  Scratch&) override;
    std::vector<Parameter*> parameters() override;

  private:
    int64_t numeric_;
    std::vector<Table> sizes_;
    std::vector<std::unique_ptr<Parameter>> tables_;
};

}  // namespace bilstm
