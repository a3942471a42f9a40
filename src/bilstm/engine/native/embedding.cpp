#include "embedding.h"

#include <algorithm>
#include <string>

#include "dropout.h"

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
        parameter->frozen = table.frozen;
        parameter->allocate();
        tables_.push_back(std::move(parameter));
        output_width += table.dimension;
        drop_below_.push_back(drop_below(table.dropout));
        drops_ = drops_ || table.dropout > 0.0f;
    }
}

std::vector<Parameter*> Embedding::parameters() {
    std::vector<Parameter*> all;
    for (auto& table : tables_) all.push_back(table.get());
    return all;
}

// NaN fails the first comparison.
void Embedding::check(float index, const Table& table) {
    if (!(index >= 0.0f && index < static_cast<float>(table.vocabulary)) ||
        static_cast<float>(static_cast<int64_t>(index)) != index)
        throw Invalid("an embedding's input must be whole numbers from 0 to " + std::to_string(table.vocabulary - 1) +
                      ", not " + std::to_string(index));
}

void Embedding::drop(const Batch& batch, const Input& input, float* used, const Mode& mode) const {
    const auto tables = static_cast<int64_t>(sizes_.size());
    for (int64_t row = 0; row < input.rows; ++row)
        std::copy_n(input.data + row * input_width + numeric_, tables, used + row * tables);
    for (size_t i = 0; mode.dropping && i < batch.start.size(); ++i) {
        const int64_t count = checked_product(mode.one_row_each ? 1 : batch.length[i], tables);
        float* own = used + (mode.one_row_each ? batch.order[i] : batch.start[i]) * tables;
        uint32_t words[kDrawn];
        for (int64_t element = 0; element < count; ++element) {
            if (element % kDrawn == 0) draw_words(mode, index, mode.positions[batch.order[i]], element, words);
            if (words[element % kDrawn] < drop_below_[static_cast<size_t>(element % tables)]) own[element] = 0.0f;
        }
    }
}

void Embedding::forward(const Batch& batch, const Input& input, float* output, Scratch& scratch,
                        const Mode& mode) const {
    const float* indices = input.data + numeric_;
    int64_t stride = input_width;
    for (int64_t row = 0; row < input.rows; ++row)
        for (size_t i = 0; i < sizes_.size(); ++i) check(indices[row * stride + static_cast<int64_t>(i)], sizes_[i]);
    if (drops_ && mode.training) {
        stride = static_cast<int64_t>(sizes_.size());
        float* used = scratch[kUsed].reserve(checked_product(input.rows, stride));
        drop(batch, input, used, mode);
        indices = used;
    }
    for (int64_t row = 0; row < input.rows; ++row) {
        float* to = std::copy_n(input.data + row * input_width, numeric_, output + row * output_width);
        for (size_t i = 0; i < tables_.size(); ++i) {
            const int64_t dimension = sizes_[i].dimension;
            const auto entry = static_cast<int64_t>(indices[row * stride + static_cast<int64_t>(i)]);
            to = std::copy_n(tables_[i]->value.data() + entry * dimension, dimension, to);
        }
    }
}

void Embedding::backward(const Batch&, const Input& input, const float*, float* output_gradient, float* input_gradient,
                         Scratch& scratch) {
    const float* indices = drops_ ? scratch[kUsed].data() : input.data + numeric_;
    const int64_t stride = drops_ ? static_cast<int64_t>(sizes_.size()) : input_width;
    for (size_t i = 0; i < tables_.size(); ++i)
        if (!sizes_[i].frozen) std::fill_n(scratch.gradients[i], tables_[i]->shape.size(), 0.0f);
    for (int64_t row = 0; row < input.rows; ++row) {
        const float* from = indices + row * stride;
        const float* gradient = output_gradient + row * output_width + numeric_;
        for (size_t i = 0; i < tables_.size(); ++i) {
            const int64_t dimension = sizes_[i].dimension;
            if (sizes_[i].frozen) {
                gradient += dimension;
                continue;
            }
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
