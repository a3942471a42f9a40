// A training step: a batch's gradients, by shares of its sequences, and the update of the weights.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "floats.h"
#include "network.h"

namespace bilstm {
namespace {

constexpr double kDiverged = 1e30;   // its square root's square still fits float32
constexpr int64_t kPiece = 1 << 14;  // of a parameter, that a task takes

void add_to(bilstm_score& total, const Score& sums) {
    total.loss += sums.loss, total.rows += sums.rows, total.correct += sums.correct;
    total.squared_error += sums.squared_error, total.absolute_error += sums.absolute_error;
}

bool is_whole_batch(const Shares& shares, bool all_labelled) {
    for (int64_t i = 0; i < shares.bounds[shares.count]; ++i)
        if (shares.positions[i] != i) return false;
    return shares.count == 1 && all_labelled;
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

Shares Network::divide(const bilstm_data& data, const int64_t* chosen, int64_t count) {
    lengths_.clear();
    for (int64_t i = 0; i < count; ++i) lengths_.push_back(data.offsets[chosen[i] + 1] - data.offsets[chosen[i]]);
    division_.divide(lengths_.data(), count, most_shares());
    chosen_.clear();
    for (const int64_t position : division_.order) chosen_.push_back(chosen[position]);
    return {chosen_.data(), division_.order.data(), division_.bounds.data(), division_.shares()};
}

// Now and then gives back what the latest batches did not need.
void Network::reserve_shares(int64_t shares) {
    const auto count = static_cast<size_t>(shares);
    most_shares_ = std::max(most_shares_, count);
    if (++divided_ % kCallsBetween == 0) {
        training_.resize(std::min(training_.size(), most_shares_));
        further_.resize(std::min(further_.size(), most_shares_ - std::min<size_t>(most_shares_, 1)));
        most_shares_ = count;
        for (auto* numbers : {&target_rows_, &first_rows_, &lengths_, &chosen_}) settle(*numbers);
    }
    while (further_.size() + 1 < count) {
        std::vector<Buffer> made(parameters_.size());
        for (size_t i = 0; i < made.size(); ++i)
            if (!parameters_[i]->frozen) made[i].reserve_zeroed(parameters_[i]->shape.size());
        further_.push_back(std::move(made));
    }
    const bool own = weights_per_step_ <= kOwnWeights;
    while (training_.size() < (own ? count : 1)) training_.push_back(std::make_unique<Workspace>(layers_.size()));
}

float* Network::share_gradient(size_t share, size_t parameter) {
    return share ? further_[share - 1][parameter].data() : parameters_[parameter]->gradient.data();
}

void Network::backward(Workspace& w, size_t end, float* gradient, float* input_gradient) {
    const size_t first = input_gradient ? 0 : first_learnt_;
    int next = 1;
    for (size_t i = end; i-- > first;) {
        Layer& layer = *layers_[i];
        const Batch& batch = batch_before(w, i);
        const float* output = w.outputs[i].data();
        if (layer.one_row_each || layer.changes_lengths) w.rows = batch.steps;
        float* before =
            i == first ? input_gradient : w.gradients[next].reserve(checked_product(w.rows, layer.input_width));
        layer.backward(batch, input_of(w, i), output, gradient, before, w.scratch[i]);
        gradient = before;
        next = 1 - next;
    }
}

Score Network::learn(Workspace& w, const float* output, Loss loss, const Targets& targets, const int64_t* target_rows,
                     int64_t labelled) {
    const size_t end = head_ ? layers_.size() - 1 : layers_.size();
    const int64_t width = head_ ? head_->input_width : outputs();
    float* gradient = w.gradients[0].reserve(checked_product(w.rows, width));
    const Score sums = head_ ? head_->score(w.batch, input_of(w, end), output, w.scratch[end], targets, target_rows,
                                            labelled, labelled ? gradient : nullptr)
                             : score(loss, last_activation(), output, w.rows, targets, target_rows, labelled, gradient);
    if (labelled) backward(w, end, gradient);
    return sums;
}

Score Network::judge(Workspace& w, const float* output, Loss loss, const Targets& targets) const {
    const size_t last = layers_.size() - 1;
    const int64_t* rows = w.target_rows.data();
    if (!head_) return score(loss, last_activation(), output, w.rows, targets, rows, w.rows, nullptr);
    return head_->score(w.batch, input_of(w, last), output, w.scratch[last], targets, rows, w.rows, nullptr);
}

// Says where the gradients that a backward pass makes of a share go.
void Network::fill_gradients_of(Workspace& w, size_t share, const StateGradients& states) {
    for (size_t layer = 0, parameter = 0; layer < layers_.size(); ++layer) {
        Scratch& scratch = w.scratch[layer];
        scratch.states = states;
        scratch.gradients.clear();
        while (parameter < parameters_before_[layer + 1])
            scratch.gradients.push_back(share_gradient(share, parameter++));
    }
}

int64_t Network::compute(const bilstm_data& data, const Shares& shares, int64_t labelled, Loss loss, bool training,
                         uint64_t seed, const float* states_in, float* states_out) {
    computed_ = 0;
    for (Parameter* parameter : parameters_) parameter->learnt();
    reserve_shares(shares.count);
    target_rows_.clear();
    first_rows_.clear();
    int64_t steps = 0;
    for (int64_t i = 0; i < shares.bounds[shares.count]; ++i)
        steps += data.offsets[shares.chosen[i] + 1] - data.offsets[shares.chosen[i]];
    for (int64_t i = 0; i < shares.count; ++i) {
        first_rows_.push_back(static_cast<int64_t>(target_rows_.size()));
        add_target_rows(data, shares.chosen + shares.bounds[i], shares.bounds[i + 1] - shares.bounds[i], target_rows_);
    }
    const Targets targets{data.labels, data.targets, data.weights, outputs()};
    const auto rows = static_cast<int64_t>(target_rows_.size());
    const int64_t own_labelled = count_labelled(loss, targets, target_rows_.data(), rows);
    if (labelled < 0) labelled = own_labelled;
    if (labelled < own_labelled) throw Invalid("the batch has fewer labelled rows than some of its shares");
    if (needs_whole_batch_ && shares.count && !is_whole_batch(shares, labelled == own_labelled))
        throw Invalid("a batch normalization's training needs the whole batch, as one share in the batch's order");
    if (last_dense_) last_dense_->skip_activation_gradient(matched(loss, last_activation()));
    scores_.assign(static_cast<size_t>(shares.count), {});
    const bool apart = weights_per_step_ <= kOwnWeights && shares.count >= threads_here();
    const auto work = [&](int64_t number) {
        const auto i = static_cast<size_t>(number);
        const int64_t begin = shares.bounds[i], count = shares.bounds[i + 1] - begin;
        Workspace& w = *training_[apart ? i : 0];
        w.settle();
        fill_gradients_of(w, i, {states_in, nullptr, nullptr, state_width_});
        Mode mode;
        mode.training = true;
        mode.words = words_of(data);
        mode.dropping = training;
        mode.seed = seed;
        mode.iteration = static_cast<uint32_t>(iteration);
        mode.positions = shares.positions + begin;
        mode.states_in = states_in;
        mode.states_out = states_out;
        mode.state_width = state_width_;
        w.batch.arrange(data.offsets, shares.chosen + begin, count);
        const float* output = forward(w, data, shares.chosen + begin, mode);
        scores_[i] = learn(w, output, loss, targets, target_rows_.data() + first_rows_[i], labelled);
    };
    if (apart)
        parallel(shares.count, saturated_product(steps, weights_per_step_), work);
    else
        for (int64_t i = 0; i < shares.count; ++i) work(i);
    computed_ = labelled ? static_cast<size_t>(shares.count) : 0;
    return labelled;
}

void Network::gradient(const bilstm_data& data, const int64_t* chosen, int64_t count, Loss loss, bool training,
                       uint64_t seed, const float* states_in, float* states_out, bilstm_score* total) {
    *total = {};
    check_states(states_in, states_out);
    if (states_in && states_out) {  // which may be the same place, and the backward pass needs the first
        first_states_.assign(states_in, states_in + data.sequences * state_width_);
        states_in = first_states_.data();
    }
    const int64_t labelled =
        count ? compute(data, divide(data, chosen, count), -1, loss, training, seed, states_in, states_out) : 0;
    if (!labelled) return clear_gradients();
    for (const Score& sums : scores_) add_to(*total, sums);
    add_shares();
    computed_ = 0;  // the first share's gradients have become the sum
}

float Network::gradient_of_shares(const bilstm_data& data, const Shares& shares, int64_t labelled, Loss loss,
                                  bool training, uint64_t seed, bilstm_score* scores) {
    compute(data, shares, labelled, loss, training, seed);
    for (size_t i = 0; i < scores_.size(); ++i) add_to(scores[i] = {}, scores_[i]);
    return largest_gradient();
}

void Network::sum_shares(int64_t all_shares, float magnitude, double* sums) {
    const ExactSum exact(all_shares, magnitude);
    for (size_t i = 0; i < parameters_.size(); ++i)
        parameters_[i]->each([&](int64_t position) {
            double sum = 0;
            for (size_t share = 0; share < (parameters_[i]->frozen ? 0 : computed_); ++share)
                sum += exact.term(share_gradient(share, i)[position]);
            *sums++ = sum;
        });
}

void Network::clear_gradients() {
    for (Parameter* parameter : parameters_)
        if (!parameter->frozen) std::fill_n(parameter->learnt().gradient.data(), parameter->shape.size(), 0.0f);
}

float Network::largest_gradient() {
    float most = 0;
    std::vector<float> pieces;
    for (size_t i = 0; i < parameters_.size(); ++i) {
        if (parameters_[i]->frozen) continue;
        const int64_t size = parameters_[i]->shape.size();
        pieces.assign(static_cast<size_t>((size + kPiece - 1) / kPiece), 0.0f);
        parallel(static_cast<int64_t>(pieces.size()), size * static_cast<int64_t>(computed_), [&](int64_t piece) {
            const int64_t begin = piece * kPiece, count = std::min(size - begin, kPiece);
            for (size_t share = 0; share < computed_; ++share) {
                float& own = pieces[static_cast<size_t>(piece)];
                own = std::max(own, largest(share_gradient(share, i) + begin, count));
            }
        });
        for (const float own : pieces) most = std::max(most, own);
    }
    return most;
}

void Network::add_shares() {
    if (computed_ == 1) return;
    const auto shares = static_cast<int64_t>(computed_);
    const ExactSum exact(shares, shares > 2 ? largest_gradient() : 0.0f);
    for (size_t i = 0; i < parameters_.size(); ++i) {
        if (parameters_[i]->frozen) continue;
        const int64_t size = parameters_[i]->shape.size();
        parallel((size + kPiece - 1) / kPiece, size * shares, [&](int64_t piece) {
            constexpr int64_t kTogether = 256;
            const int64_t end = std::min(size, (piece + 1) * kPiece);
            for (int64_t begin = piece * kPiece; begin < end; begin += kTogether) {
                const int64_t count = std::min(kTogether, end - begin);
                double sums[kTogether] = {};
                for (size_t share = 0; share < computed_; ++share)
                    exact.add(share_gradient(share, i) + begin, count, sums);
                float* to = parameters_[i]->gradient.data() + begin;
                for (int64_t k = 0; k < count; ++k) to[k] = static_cast<float>(sums[k]);
            }
        });
    }
}

std::unique_ptr<Workspace> Network::forward_kept(const bilstm_data& data, bool training, uint64_t seed,
                                                 const float* states_in, float* states_out, float* output) {
    check_states(states_in, states_out);
    auto w = borrow();
    w->chosen.resize(static_cast<size_t>(data.sequences));
    std::iota(w->chosen.begin(), w->chosen.end(), int64_t{0});
    w->batch.arrange(data.offsets, w->chosen.data(), data.sequences);
    Mode mode;
    mode.training = true;
    mode.words = words_of(data);
    mode.dropping = training;
    mode.seed = seed;
    mode.iteration = static_cast<uint32_t>(iteration);
    mode.positions = w->chosen.data();
    mode.states_in = states_in;
    mode.states_out = states_out;
    mode.state_width = state_width_;
    if (data.sequences) {
        const float* rows = forward(*w, data, w->chosen.data(), mode);
        copy_alike(rows, w->rows * outputs(), output);
    }
    if (states_out) copy_alike(states_out, data.sequences * state_width_, states_out);
    return w;
}

void Network::backward_kept(Workspace& w, const float* output_gradient, const StateGradients& states,
                            float* input_gradient) {
    computed_ = 0;
    if (!w.batch.sequences) return clear_gradients();
    for (Parameter* parameter : parameters_) parameter->learnt();
    if (last_dense_) last_dense_->skip_activation_gradient(false);
    fill_gradients_of(w, 0, states);
    const int64_t rows = w.rows, count = checked_product(rows, outputs());
    float* gradient = w.gradients[0].reserve(count);
    std::copy_n(output_gradient, count, gradient);
    backward(w, layers_.size(), gradient, input_gradient);
    w.rows = rows;  // for another backward pass
}

void Network::update(const Optimizer& optimizer) {
    weights_rounded_ = false;
    ++weights_version_;
    for (Parameter* parameter : parameters_) parameter->learnt();
    optimizer.update(learnt_, iteration);
    for (Parameter* parameter : averages_)
        for (int64_t i = 0; i < parameter->shape.size(); ++i)
            parameter->value.data()[i] -= *parameter->moves * parameter->gradient.data()[i];
    ++iteration;
}

// Each average goes this fraction of the way to its weight.
void Network::average(float fraction) {
    for (Parameter* parameter : parameters_) {
        if (parameter->frozen) continue;
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
        gradient(data, chosen + starts[i], starts[i + 1] - starts[i], loss, true, seed, nullptr, nullptr, &scores[i]);
        // A loss that is not finite, or whose gradients might not be, would spoil every weight: report it.
        if (!(std::fabs(scores[i].loss) < kDiverged)) {
            scores[i].loss = std::numeric_limits<double>::quiet_NaN();
            return;
        }
        if (scores[i].rows > 0) update(optimizer);
    }
}

}  // namespace bilstm
