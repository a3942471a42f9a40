// A training step: a batch's gradients, by shares of its sequences, and the update of the weights.
//
// The shares of a batch depend on its sequences and the network alone, and so do the bits of their sum.
#include <algorithm>
#include <cmath>
#include <limits>

#include "network.h"

namespace bilstm {
namespace {

constexpr double kDiverged = 1e30;  // its square root's square still fits float32
constexpr int64_t kMostShares = 8;

void add_to(const float* from, float* to, int64_t count) {
    for (int64_t i = 0; i < count; i += kLanes)
        store_partial(to + i, load_partial(to + i, count - i) + load_partial(from + i, count - i), count - i);
}

}  // namespace

void Network::add_target_rows(const bilstm_data& data, const int64_t* chosen, int64_t count,
                              std::vector<int64_t>& rows) const {
    for (int64_t i = 0; i < count; ++i) {
        if (one_row_each_) {
            rows.push_back(chosen[i]);
            continue;
        }
        for (int64_t row = data.offsets[chosen[i]]; row < data.offsets[chosen[i] + 1]; ++row) rows.push_back(row);
    }
}

// Shares of about equal numbers of steps, in the batch's own order.
void Network::divide(const bilstm_data& data, const int64_t* chosen, int64_t count) {
    const auto length = [&](int64_t i) { return data.offsets[chosen[i] + 1] - data.offsets[chosen[i]]; };
    int64_t steps = 0;
    for (int64_t i = 0; i < count; ++i) steps += length(i);
    const bool apart = weights_per_step_ <= kOwnWeights && saturated_product(steps, weights_per_step_) >= kWorthThreads;
    const int64_t wanted = apart ? std::clamp<int64_t>(count / kShareSequences, 1, kMostShares) : 1;
    shares_.assign(1, {0, count, 0});
    int64_t before = 0;
    for (int64_t i = 0; i < count; ++i) {
        const auto made = static_cast<int64_t>(shares_.size());
        if (made < wanted && i > shares_.back().begin && before * wanted >= steps * made) {
            shares_.back().end = i;
            shares_.push_back({i, count, before});
        }
        before += length(i);
    }
    most_shares_ = std::max(most_shares_, shares_.size());
    if (++divided_ % kCallsBetween == 0) {
        training_.resize(std::min(training_.size(), most_shares_));
        most_shares_ = shares_.size();
        settle(target_rows_);
    }
    for (size_t i = training_.size(); i < shares_.size(); ++i) {
        auto made = std::make_unique<Workspace>(layers_.size());
        for (size_t layer = 0; i && layer < layers_.size(); ++layer)
            for (const Parameter* parameter : layers_[layer]->parameters())
                made->scratch[layer].gradients.emplace_back().reserve_zeroed(parameter->shape.size());
        training_.push_back(std::move(made));
    }
}

// `gradient`: of the last layer's output, in gradients[0].
void Network::backward(Workspace& w, float* gradient) {
    int next = 1;
    for (size_t i = layers_.size(); i-- > first_learnt_;) {
        Layer& layer = *layers_[i];
        const Batch& batch = batch_before(w, i);
        const int64_t rows = layer.one_row_each || layer.changes_lengths ? batch.steps : w.rows;
        const Input input = i ? Input{w.outputs[i - 1].data(), batch.start.data(), rows} : w.input;
        float* before =
            i == first_learnt_ ? nullptr : w.gradients[next].reserve(checked_product(rows, layer.input_width));
        layer.backward(batch, input, w.outputs[i].data(), gradient, before, w.scratch[i]);
        w.rows = rows;
        gradient = before;
        next = 1 - next;
    }
}

void Network::gradient(const bilstm_data& data, const int64_t* chosen, int64_t count, Loss loss, bool training,
                       uint64_t seed, bilstm_score* total) {
    *total = {};
    for (Parameter* parameter : parameters_) parameter->learnt();
    if (!count) return clear_gradients();
    divide(data, chosen, count);
    target_rows_.clear();
    add_target_rows(data, chosen, count, target_rows_);
    const Targets targets{data.labels, data.targets, data.weights, outputs()};
    const auto rows = static_cast<int64_t>(target_rows_.size());
    const int64_t labelled = count_labelled(loss, targets, target_rows_.data(), rows);
    if (last_dense_) last_dense_->skip_activation_gradient(matched(loss, last_activation()));
    const auto shares = static_cast<int64_t>(shares_.size());
    scores_.assign(shares_.size(), {});
    const auto work = [&](int64_t number) {
        const auto i = static_cast<size_t>(number);
        const Share& share = shares_[i];
        Workspace& w = *training_[i];
        w.settle();
        Mode mode;
        mode.training = true;
        mode.dropping = training;
        mode.seed = seed;
        mode.iteration = static_cast<uint32_t>(iteration);
        mode.rows_before = share.first_row;
        mode.sequences_before = share.begin;
        w.batch.arrange(data.offsets, chosen + share.begin, share.end - share.begin);
        const float* output = forward(w, data, chosen + share.begin, mode);
        float* gradient = w.gradients[0].reserve(checked_product(w.rows, outputs()));
        const int64_t* own = target_rows_.data() + (one_row_each_ ? share.begin : share.first_row);
        scores_[i] = score(loss, last_activation(), output, w.rows, targets, own, labelled, gradient);
        if (labelled) backward(w, gradient);
    };
    if (shares >= threads_here())
        parallel(shares, kWorthThreads, work);
    else
        for (int64_t i = 0; i < shares; ++i) work(i);
    for (const Score& sums : scores_) {
        total->loss += sums.loss, total->rows += sums.rows, total->correct += sums.correct;
        total->squared_error += sums.squared_error, total->absolute_error += sums.absolute_error;
    }
    if (labelled)
        add_gradients();
    else
        clear_gradients();
}

void Network::clear_gradients() {
    for (Parameter* parameter : parameters_) std::fill_n(parameter->gradient.data(), parameter->shape.size(), 0.0f);
}

void Network::add_gradients() {
    constexpr int64_t kPiece = 1 << 14;
    if (shares_.size() == 1) return;
    for (size_t layer = 0; layer < layers_.size(); ++layer) {
        const auto parameters = layers_[layer]->parameters();
        for (size_t i = 0; i < parameters.size(); ++i) {
            const int64_t size = parameters[i]->shape.size();
            float* sum = parameters[i]->gradient.data();
            parallel((size + kPiece - 1) / kPiece, size * static_cast<int64_t>(shares_.size()), [&](int64_t piece) {
                const int64_t begin = piece * kPiece, end = std::min(size, begin + kPiece);
                for (size_t share = 1; share < shares_.size(); ++share)
                    add_to(training_[share]->scratch[layer].gradients[i].data() + begin, sum + begin, end - begin);
            });
        }
    }
}

void Network::update(const Optimizer& optimizer) {
    weights_rounded_ = false;
    for (Parameter* parameter : parameters_) parameter->learnt();
    optimizer.update(parameters_, iteration);
    ++iteration;
}

// Each average goes this fraction of the way to its weight.
void Network::average(float fraction) {
    constexpr int64_t kPiece = 1 << 14;
    for (Parameter* parameter : parameters_) {
        const int64_t size = parameter->shape.size();
        float* averages = parameter->averaged().data();
        const float* values = parameter->value.data();
        parallel((size + kPiece - 1) / kPiece, size, [&](int64_t piece) {
            const int64_t end = std::min(size, (piece + 1) * kPiece);
            for (int64_t i = piece * kPiece; i < end; ++i) averages[i] += (values[i] - averages[i]) * fraction;
        });
    }
}

void Network::train(const bilstm_data& data, const int64_t* chosen, const int64_t* starts, int64_t batches, Loss loss,
                    const Optimizer& optimizer, uint64_t seed, bilstm_score* scores) {
    for (int64_t i = 0; i < batches; ++i) {
        gradient(data, chosen + starts[i], starts[i + 1] - starts[i], loss, true, seed, &scores[i]);
        // A loss that is not finite, or whose gradients might not be, would spoil every weight: the caller is told.
        if (!(std::fabs(scores[i].loss) < kDiverged)) {
            scores[i].loss = std::numeric_limits<double>::quiet_NaN();
            return;
        }
        if (scores[i].rows > 0) update(optimizer);
    }
}

}  // namespace bilstm
