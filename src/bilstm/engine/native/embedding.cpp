#include "embedding.h"

#include <algorithm>
#include <string>

namespace bilstm {

Embedding::Embedding(int64_t numeric, const std::vector<Table>& tables) : numeric_(numeric), sizes_(tables) {
    input_width = numeric + static_cast<int64_t>(tables.size());
    output_width = numeric;
    for (const Table& table : tables) {
        auto parameter = std::make_unique<Parameter>();
        // A single panel: a table's row is one stretch of memory.
        parameter->shape = {table.vocabulary, table.dimension};
        parameter->variables = {{table.vocabulary, table.dimension, 0}};
        for (int64_t i = 0; i < table.dimension; ++i) parameter->columns.push_back(i);
        parameter->plain = true;
        parameter->allocate();
        tables_.push_back(std::move(parameter));
        output_width += table.dimension;
    }
}

std::vector<Parameter*> Embedding::parameters() {
    std::vector<Parameter*> all;
    for (auto& table : tables_) all.push_back(table.get());
    return all;
}

void Embedding::forward(const Batch&, const Input& input, float* output, Scratch&, const Mode&) const {
    for (int64_t row = 0; row < input.rows; ++row) {
        const float* from = input.data + row * input_width;
        float* to = std::copy_n(from, numeric_, output + row * output_width);
        for (size_t i = 0; i < tables_.size(); ++i) {
            const float wanted = from[numeric_ + static_cast<int64_t>(i)];
            const Table& size = sizes_[i];
            // NaN fails the first comparison.
            if (!(wanted >= 0.0f && wanted < static_cast<float>(size.vocabulary)) ||
                static_cast<float>(static_cast<int64_t>(wanted)) != wanted)
                throw Invalid("an embedding's input must be whole numbers from 0 to " +
                              std::to_string(size.vocabulary - 1) + ", not " + std::to_string(wanted));
            to = std::copy_n(tables_[i]->value.data() + static_cast<int64_t>(wanted) * size.dimension, size.dimension,
                             to);
        }
    }
}

void Embedding::backward(const Batch&, const Input& input, const float*, float* output_gradient, float* input_gradient,
                         Scratch& scratch) {
    for (size_t i = 0; i < tables_.size(); ++i) std::fill_n(scratch.gradients[i], tables_[i]->shape.size(), 0.0f);
    for (int64_t row = 0; row < input.rows; ++row) {
        const float* from = input.data + row * input_width + numeric_;
        const float* gradient = output_gradient + row * output_width + numeric_;
        for (size_t i = 0; i < tables_.size(); ++i) {
            const int64_t dimension = sizes_[i].dimension;
            float* sums = scratch.gradients[i] + static_cast<int64_t>(from[i]) * dimension;
            for (int64_t k = 0; k < dimension; ++k) sums[k] += gradient[k];
            gradient += dimension;
        }
        if (input_gradient) {
            float* to = std::copy_n(output_gradient + row * output_width, numeric_, input_gradient + row * input_width);
            std::fill_n(to, tables_.size(), 0.0f);  // an index has no gradient
        }
    }
}

}  // namespace bilstm
