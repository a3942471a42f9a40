// Embedding: index columns looked up in learned tables, next to numeric columns passed on as they are. In training,
// indices may be replaced by 0, which stands for values that are not known: so its row is learned.
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
        bool frozen;    // not learned
        float dropout;  // share of indices that become 0 in training
    };
    Embedding(int64_t numeric, const std::vector<Table>& tables);

    void forward(const Batch&, const Input&, float* output, Scratch&, const Mode&) const override;
    void backward(const Batch&, const Input&, const float* output, float* output_gradient, float* input_gradient,
                  Scratch&) override;
    std::vector<Parameter*> parameters() override;

  private:
    enum { kUsed };  // the indices that training has used, where some are dropped
    static void check(float index, const Table&);
    // Writes the indices of all rows, some of them replaced by 0.
    void drop(const Batch&, const Input&, float* used, const Mode&) const;

    int64_t numeric_;
    bool drops_ = false;
    std::vector<uint32_t> drop_below_;  // of each table
    std::vector<Table> sizes_;
    std::vector<std::unique_ptr<Parameter>> tables_;
};

}  // namespace bilstm
