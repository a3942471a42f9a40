#include "network.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "attention.h"
#include "batch_normalization.h"
#include "convolution.h"
#include "crf.h"
#include "dropout.h"
#include "embedding.h"
#include "floats.h"
#include "pooling.h"
#include "recurrent.h"
#include "window_pooling.h"

namespace bilstm {
namespace {

constexpr int64_t kMostUnits = 1 << 20;
constexpr int64_t kMostWidth = 2 * kMostUnits;  // two directions side by side

int64_t checked_size(int64_t size, const char* what) {
    if (size < 1 || size > kMostUnits)
        throw Invalid(std::string(what) + " must be from 1 to 1048576, not " + std::to_string(size));
    return size;
}

template <typename Enum>
Enum checked_enum(int32_t value, Enum last, const char* what) {
    if (value < 0 || value > static_cast<int32_t>(last))
        throw Invalid(std::string("unknown ") + what + " " + std::to_string(value));
    return static_cast<Enum>(value);
}

float checked_rate(float rate) {
    if (!(rate >= 0.0f && rate < 1.0f)) throw Invalid("a dropout rate must be at least 0 and below 1");
    return rate;
}

std::unique_ptr<Layer> make_recurrent(const bilstm_layer& layer, int64_t width) {
    if (layer.directions != 1 && layer.directions != 2) throw Invalid("a recurrent layer has 1 or 2 directions");
    std::vector<std::unique_ptr<Direction>> directions;
    for (int32_t d = 0; d < layer.directions; ++d) {
        const bilstm_direction& way = layer.ways[d];
        directions.push_back(
            make_direction({checked_enum(way.cell, CellKind::simple_relu, "recurrent cell"),
                            checked_enum(way.gates, GateKind::hard_sigmoid_keras2, "kind of gates"), width,
                            checked_size(way.units, "units"), way.reverse != 0, way.flip != 0, way.without_bias == 0}));
    }
    return std::make_unique<Recurrent>(std::move(directions), checked_enum(layer.merge, Merge::average, "merge mode"),
                                       layer.return_sequences != 0);
}

std::unique_ptr<Layer> make_embedding(const bilstm_layer& layer, int64_t width) {
    if (layer.tables < 1 || layer.tables > width || layer.numeric != width - layer.tables)
        throw Invalid("an embedding's columns must add up to its input's");
    if (!layer.vocabularies || !layer.dimensions) throw Invalid("an embedding's tables need sizes");
    std::vector<Embedding::Table> tables;
    for (int64_t i = 0; i < layer.tables; ++i) {
        const int64_t vocabulary = layer.vocabularies[i];
        if (vocabulary < 1 || vocabulary > (1 << 24)) throw Invalid("a vocabulary must have 1 to 16777216 entries");
        tables.push_back({vocabulary, checked_size(layer.dimensions[i], "an embedding's dimension")});
    }
    return std::make_unique<Embedding>(layer.numeric, tables);
}

std::unique_ptr<Layer> make_convolution(const bilstm_layer& layer, int64_t width) {
    return std::make_unique<Convolution>(
        width, checked_size(layer.units, "units"), checked_size(layer.window, "a kernel size"),
        checked_size(layer.dilation, "a dilation"), layer.causal != 0,
        checked_enum(layer.activation, Activation::relu, "activation"), layer.without_bias == 0);
}

std::unique_ptr<Layer> make_batch_normalization(const bilstm_layer& layer, int64_t width) {
    if (!(layer.rate >= 0.0f && layer.rate <= 1.0f)) throw Invalid("moving averages move by a fraction from 0 to 1");
    if (!(layer.epsilon > 0.0f && std::isfinite(layer.epsilon)))
        throw Invalid("a normalization's epsilon must be above 0, in float32 too");
    return std::make_unique<BatchNormalization>(width, layer.rate, layer.epsilon, layer.without_bias == 0,
                                                layer.without_scale == 0);
}

}  // namespace

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
        for (Parameter* parameter : own) (parameter->moves ? averages_ : learnt_).push_back(parameter);
    }
    parameters_before_.push_back(parameters_.size());
    last_dense_ = dynamic_cast<Dense*>(layers_.back().get());
}

void Network::add(const bilstm_layer& layer, int64_t width) {
    if (head_) throw Invalid("no layer can follow a CRF");
    std::unique_ptr<Layer> made;
    switch (layer.kind) {
        case BILSTM_RECURRENT:
            if (one_row_each_)
                throw Invalid("a recurrent layer cannot follow a layer that returns one row for a sequence");
            made = make_recurrent(layer, width);
            break;
        case BILSTM_DENSE:
            made = std::make_unique<Dense>(width, checked_size(layer.units, "units"),
                                           checked_enum(layer.activation, Activation::relu, "activation"),
                                           layer.without_bias == 0);
            break;
        case BILSTM_DROPOUT:
            made = std::make_unique<Dropout>(width, checked_rate(layer.rate));
            break;
        case BILSTM_SPATIAL_DROPOUT:
            if (one_row_each_)
                throw Invalid("spatial dropout cannot follow a layer that returns one row for a sequence");
            made = std::make_unique<SpatialDropout>(width, checked_rate(layer.rate));
            break;
        case BILSTM_EMBEDDING:
            made = make_embedding(layer, width);
            break;
        case BILSTM_POOLING:
            if (one_row_each_) throw Invalid("pooling cannot follow a layer that returns one row for a sequence");
            made = std::make_unique<Pooling>(width, checked_enum(layer.pool, Pool::maximum, "kind of pooling"));
            break;
        case BILSTM_WINDOW_POOLING:
            if (one_row_each_) throw Invalid("pooling cannot follow a layer that returns one row for a sequence");
            made = std::make_unique<WindowPooling>(width, checked_enum(layer.pool, Pool::maximum, "kind of pooling"),
                                                   checked_size(layer.window, "a window"),
                                                   checked_size(layer.stride, "a stride"), layer.same != 0);
            break;
        case BILSTM_ATTENTION_POOLING:
            if (one_row_each_) throw Invalid("pooling cannot follow a layer that returns one row for a sequence");
            made = std::make_unique<AttentionPooling>(width, checked_size(layer.units, "units"));
            break;
        case BILSTM_CONVOLUTION:
            if (one_row_each_) throw Invalid("a convolution cannot follow a layer that returns one row for a sequence");
            made = make_convolution(layer, width);
            break;
        case BILSTM_CRF:
            if (one_row_each_ || !keeps_lengths_) throw Invalid("a CRF labels all steps of a sequence");
            if (layer.units != width)
                throw Invalid("a CRF of " + std::to_string(layer.units) + " labels takes a score for each, not " +
                              std::to_string(width));
            made = std::make_unique<Crf>(checked_size(layer.units, "labels"), layer.forbidden);
            break;
        case BILSTM_BATCH_NORMALIZATION:
            made = make_batch_normalization(layer, width);
            break;
        default:
            throw Invalid("unknown layer kind " + std::to_string(layer.kind));
    }
    if (made->output_width > kMostWidth)
        throw Invalid("a layer's output must be at most " + std::to_string(kMostWidth) + " wide, not " +
                      std::to_string(made->output_width));
    made->index = layer.index;
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
        const float* from = buffer_of(*parameter, which).data();
        parameter->each([&](int64_t position) { *to++ = from[position]; });
    }
}

void Network::write(Which which, const float* from) {
    if (which == kWeights) {
        weights_rounded_ = false;
        ++weights_version_;
    }
    for (Parameter* parameter : parameters_) {
        float* to = buffer_of(*parameter, which).data();
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
    for (Scratch& own : scratch)
        for (Buffer& buffer : own.buffers) buffer.settle();
    for (Buffer& buffer : outputs) buffer.settle();
    for (Buffer* buffer : {&gathered, &gradients[0], &gradients[1]}) buffer->settle();
    for (auto* numbers : {&chosen, &pieces, &target_rows, &batch.order, &batch.sequence, &batch.length, &batch.start,
                          &batch.source, &batch.active, &batch.step_start})
        bilstm::settle(*numbers);
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
