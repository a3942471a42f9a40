#include "network.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "floats.h"
#include "making.h"

namespace bilstm {
Network::Network(const bilstm_layer* layers, int32_t count, int64_t features)
    : features_(checked_size(features, "features")) {
    if (count < 1 || count > 1000) throw Invalid("a network has 1 to 1000 layers");
    for (int32_t i = 0; i < count; ++i) add(layers[i], i ? this->outputs() : features);
    for (auto& layer : layers_) {
        const auto own = layer->parameters();
        if (own.empty() && parameters_.empty()) ++first_learnt_;
        for (const Parameter* parameter : own)
            if (!parameter->plain) weights_per_step_ += parameter->count();
        parameters_before_.push_back(parameters_.size());
        parameters_.insert(parameters_.end(), own.begin(), own.end());
        for (Parameter* parameter : own)
            if (!parameter->frozen) (parameter->moves ? averages_ : learnt_).push_back(parameter);
    }
    parameters_before_.push_back(parameters_.size());
    last_dense_ = dynamic_cast<Dense*>(layers_.back().get());
}

void Network::add(const bilstm_layer& layer, int64_t width) {
    auto made = make_layer(layer, width, {one_row_each_, keeps_lengths_, head_ != nullptr});
    made->state_offset = state_width_;
    state_width_ += made->state_width();
    one_row_each_ = one_row_each_ || made->one_row_each;
    reads_around_ = reads_around_ || made->reads_around;
    needs_whole_batch_ = needs_whole_batch_ || made->needs_whole_batch;
    keeps_lengths_ = keeps_lengths_ && !made->changes_lengths;
    head_ = dynamic_cast<Head*>(made.get());
    layers_.push_back(std::move(made));
}

int64_t Network::parameter_count() const {
    int64_t total = 0;
    for (const Parameter* parameter : parameters_) total += parameter->count();
    return total;
}

namespace {

Buffer& buffer_of(Parameter& parameter, Network::Which which) {
    switch (which) {
        case Network::kGradients:
            return parameter.learnt().gradient;
        case Network::kFirstMoments:
            return parameter.learnt().first_moment;
        case Network::kSecondMoments:
            return parameter.learnt().second_moment;
        case Network::kAverages:
            return parameter.averaged();
        default:
            return parameter.value;
    }
}

}  // namespace

void Network::read(Which which, float* to) {
    for (Parameter* parameter : parameters_) {
        const float* from = buffer_of(*parameter, which).data();  // null: there are none of what is never learned
        parameter->each([&](int64_t position) { *to++ = from ? from[position] : 0.0f; });
    }
}

void Network::write(Which which, const float* from) {
    if (which == kWeights) {
        weights_rounded_ = false;
        ++weights_version_;
    }
    for (Parameter* parameter : parameters_) {
        float* to = buffer_of(*parameter, which).data();
        if (parameter->frozen && which != kWeights) {
            from += parameter->count();
            continue;
        }
        parameter->each([&](int64_t position) { to[position] = *from++; });
    }
}

void Network::round_weights() {
    for (Parameter* parameter : parameters_)
        if (!parameter->plain) parameter->round();
    weights_rounded_ = true;
}

void Network::set_recompute(bool recompute) {
    for (auto& layer : layers_) layer->recompute = recompute;
}

// Returns the last layer's output, in the batch's order.
const float* Network::forward(Workspace& w, const bilstm_data& data, const int64_t* chosen, Mode mode) const {
    const int64_t count = w.batch.sequences;
    w.rows = w.batch.steps;
    if (layers_.front()->takes_gaps) {
        w.input = {data.values, w.batch.source.data(), w.rows};
    } else {
        float* to = w.gathered.reserve(checked_product(w.rows, features_));
        w.input = {to, w.batch.start.data(), w.rows};
        for (int64_t i = 0; i < count; ++i) {
            const int64_t begin = data.offsets[chosen[i]], end = data.offsets[chosen[i] + 1];
            to = std::copy(data.values + begin * features_, data.values + end * features_, to);
        }
    }
    Input input = w.input;
    const Batch* batch = &w.batch;
    for (size_t i = 0; i < layers_.size(); ++i) {
        const Layer& layer = *layers_[i];
        if (layer.one_row_each) {
            w.rows = count;
            mode.one_row_each = true;
        } else if (layer.changes_lengths) {
            w.rows = 0;
            for (int64_t k = 0; k < count; ++k) w.rows += length_after(i, data, chosen[k]);
        }
        float* output = w.outputs[i].reserve(checked_product(w.rows, layer.output_width));
        layer.forward(*batch, input, output, w.scratch[i], mode);
        if (layer.changes_lengths) batch = &w.scratch[i].after;
        input = {output, batch->start.data(), w.rows};
    }
    return input.data;
}

// What a layer read, whose rows were as many as the batch last had.
Input Network::input_of(const Workspace& w, size_t layer) const {
    return layer ? Input{w.outputs[layer - 1].data(), batch_before(w, layer).start.data(), w.rows} : w.input;
}

// The rows of a sequence that leave a layer which is not behind one that makes a single row of it.
int64_t Network::length_after(size_t layer, const bilstm_data& data, int64_t sequence) const {
    int64_t length = data.offsets[sequence + 1] - data.offsets[sequence];
    for (size_t i = 0; i <= layer; ++i) length = layers_[i]->length_after(length);
    return length;
}

const Batch& Network::batch_before(const Workspace& w, size_t layer) const {
    while (layer-- > 0)
        if (layers_[layer]->changes_lengths) return w.scratch[layer].after;
    return w.batch;
}

bool Workspace::settle() {
    if (++calls % kCallsBetween) return false;
    for (Scratch& own : scratch) own.settle();
    for (Buffer& buffer : outputs) buffer.settle();
    for (Buffer* buffer : {&gathered, &gradients[0], &gradients[1]}) buffer->settle();
    batch.settle();
    for (auto* numbers : {&chosen, &pieces, &target_rows}) bilstm::settle(*numbers);
    return true;
}

std::unique_ptr<Workspace> Network::borrow() {
    std::unique_ptr<Workspace> workspace(spare_.exchange(nullptr, std::memory_order_acquire));
    if (!workspace) {
        const std::lock_guard lock(idle_guard_);
        if (!idle_.empty()) {
            workspace = std::move(idle_.back());
            idle_.pop_back();
            fewest_idle_ = std::min(fewest_idle_, idle_.size());
        }
    }
    if (!workspace) return std::make_unique<Workspace>(layers_.size());
    if (workspace->settle()) {  // those that no call needed meanwhile are at the front
        const std::lock_guard lock(idle_guard_);
        idle_.erase(idle_.begin(), idle_.begin() + static_cast<std::ptrdiff_t>(fewest_idle_));
        fewest_idle_ = idle_.size();
    }
    return workspace;
}

void Network::give_back(std::unique_ptr<Workspace> workspace) {
    Workspace* none = nullptr;
    if (spare_.compare_exchange_strong(none, workspace.get(), std::memory_order_release)) {
        workspace.release();
        return;
    }
    const std::lock_guard lock(idle_guard_);
    idle_.push_back(std::move(workspace));
}

void Network::check_states(const float* states_in, const float* states_out) const {
    if (reads_around_ && (states_in || states_out))
        throw Invalid("a layer that reads several steps at once cannot continue from states: give it whole sequences");
}

// Each sequence's outputs are the same in any company. Small networks leave each piece to one thread.
void Network::predict(const bilstm_data& data, Loss loss, bool rounded, const float* states_in, float* states_out,
                      const int64_t* leave_at, float* output, bilstm_score* total, const Decoding* decoding) {
    check_states(states_in, states_out);
    auto w = borrow();
    Mode mode;
    mode.rounded = rounded;
    mode.words = words_of(data);
    mode.states_in = states_in;
    mode.states_out = states_out;
    mode.leave_at = leave_at;
    mode.state_width = state_width_;
    const auto& pieces = cut_in_pieces(*w, data);
    const int64_t count = static_cast<int64_t>(pieces.size()) - 1;
    static thread_local std::vector<Score> kept;
    std::vector<Score>& scores = kept;
    scores.assign(total ? static_cast<size_t>(count) : 0, {});
    const auto predict_piece = [&](Workspace& own, int64_t piece) {
        const auto i = static_cast<size_t>(piece);
        const int64_t* chosen = w->chosen.data() + pieces[i];
        const int64_t sequences = pieces[i + 1] - pieces[i];
        own.batch.arrange(data.offsets, chosen, sequences);
        const float* rows = forward(own, data, chosen, mode);
        const Targets targets{data.labels, data.targets, data.weights, outputs()};
        if (total || (decoding && decoding->log_likelihoods)) {
            own.target_rows.clear();
            add_target_rows(data, chosen, sequences, own.target_rows);
            count_labelled(loss, targets, own.target_rows.data(), own.rows);
        }
        if (total) scores[i] = judge(own, rows, loss, targets);
        if (decoding) {
            const size_t last = layers_.size() - 1;
            head_->decode(own.batch, input_of(own, last), own.scratch[last], targets, own.target_rows.data(),
                          *decoding);
        }
        for (int64_t n = 0; output && n < sequences; ++n) {
            const int64_t begin = data.offsets[chosen[n]], end = data.offsets[chosen[n] + 1];
            const int64_t numbers = (one_row_each_ ? 1 : end - begin) * outputs();
            copy_alike(rows, numbers, output + (one_row_each_ ? chosen[n] : begin) * outputs());
            rows += numbers;
        }
    };
    if (weights_per_step_ > kOwnWeightsToPredict || count < std::max(2, threads_here())) {
        for (int64_t piece = 0; piece < count; ++piece) predict_piece(*w, piece);
    } else {
        parallel(count, saturated_product(data.steps, weights_per_step_), [&](int64_t piece) {
            auto own = borrow();
            predict_piece(*own, piece);
            give_back(std::move(own));
        });
    }
    give_back(std::move(w));
    if (states_out) copy_alike(states_out, data.sequences * state_width_, states_out);
    if (!total) return;
    *total = {};
    for (const Score& sums : scores) {
        total->loss += sums.loss, total->rows += sums.rows, total->correct += sums.correct;
        total->squared_error += sums.squared_error, total->absolute_error += sums.absolute_error;
    }
}

std::unique_ptr<Workspace> Network::arranged(const bilstm_data& data) const {
    auto w = std::make_unique<Workspace>(layers_.size());
    if (cut_in_pieces(*w, data).size() != 2) return nullptr;
    w->batch.arrange(data.offsets, w->chosen.data(), data.sequences);
    return w;
}

void Network::predict_arranged(Workspace& w, const bilstm_data& data, bool rounded, float* output) const {
    Mode mode;
    mode.rounded = rounded;
    mode.words = words_of(data);
    const float* rows = forward(w, data, w.chosen.data(), mode);
    copy_alike(rows, w.rows * outputs(), output);
}

// Sequences of similar length go together. The cuts depend on the sequences alone, since sums of scores depend on them.
const std::vector<int64_t>& Network::cut_in_pieces(Workspace& w, const bilstm_data& data) const {
    constexpr int64_t kMostSequences = 96, kMostSteps = 1 << 16, kPieces = 8;
    const auto length = [&](int64_t i) { return data.offsets[i + 1] - data.offsets[i]; };
    w.chosen.resize(static_cast<size_t>(data.sequences));
    std::iota(w.chosen.begin(), w.chosen.end(), int64_t{0});
    if (data.sequences > kMostSequences)
        std::stable_sort(w.chosen.begin(), w.chosen.end(), [&](int64_t a, int64_t b) { return length(a) > length(b); });
    const bool small = weights_per_step_ <= kOwnWeightsToPredict;
    const int64_t most = small ? std::clamp(data.sequences / kPieces, kShareSequences, kMostSequences) : kMostSequences;
    w.pieces.assign(1, 0);
    int64_t steps = 0;
    for (int64_t i = 0; i < data.sequences; ++i) {
        const int64_t own = length(w.chosen[static_cast<size_t>(i)]);
        if (i > w.pieces.back() && (i - w.pieces.back() == most || steps + own > kMostSteps)) {
            w.pieces.push_back(i);
            steps = 0;
        }
        steps += own;
    }
    if (data.sequences) w.pieces.push_back(data.sequences);
    return w.pieces;
}

}  // namespace bilstm
