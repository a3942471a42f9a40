#include "network.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "attention.h"
#include "dropout.h"
#include "embedding.h"
#include "pooling.h"
#include "recurrent.h"

namespace bilstm {
namespace {

constexpr int64_t kMostUnits = 1 << 20;
constexpr int64_t kMostWidth = 2 * kMostUnits;  // two directions side by side
constexpr double kDiverged = 1e30;              // its square root's square still fits float32

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
    if (layer.directions != 1 && layer.directions != 2) throw Invalid("an LSTM has 1 or 2 directions");
    std::vector<std::unique_ptr<Direction>> directions;
    for (int32_t d = 0; d < layer.directions; ++d) {
        const bilstm_direction& way = layer.ways[d];
        directions.push_back(
            std::make_unique<Direction>(width, checked_size(way.units, "units"), way.reverse != 0, way.flip != 0));
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

}  // namespace

Network::Network(const bilstm_layer* layers, int32_t count, int64_t features)
    : features_(checked_size(features, "features")) {
    if (count < 1 || count > 1000) throw Invalid("a network has 1 to 1000 layers");
    for (int32_t i = 0; i < count; ++i) add(layers[i], i ? this->outputs() : features);
    for (auto& layer : layers_) {
        const auto own = layer->parameters();
        if (own.empty() && parameters_.empty()) ++first_learnt_;
        parameters_.insert(parameters_.end(), own.begin(), own.end());
    }
    last_dense_ = dynamic_cast<Dense*>(layers_.back().get());
    training_.scratch.resize(layers_.size());
    training_.outputs.resize(layers_.size());
}

void Network::add(const bilstm_layer& layer, int64_t width) {
    std::unique_ptr<Layer> made;
    switch (layer.kind) {
        case BILSTM_LSTM:
            if (one_row_each_) throw Invalid("an LSTM cannot follow a layer that returns one row for a sequence");
            made = make_recurrent(layer, width);
            break;
        case BILSTM_DENSE:
            made = std::make_unique<Dense>(width, checked_size(layer.units, "units"),
                                           checked_enum(layer.activation, Activation::relu, "activation"));
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
        case BILSTM_ATTENTION_POOLING:
            if (one_row_each_) throw Invalid("pooling cannot follow a layer that returns one row for a sequence");
            made = std::make_unique<AttentionPooling>(width, checked_size(layer.units, "units"));
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
            return parameter.gradient;
        case Network::kFirstMoments:
            return parameter.first_moment;
        case Network::kSecondMoments:
            return parameter.second_moment;
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
    for (Parameter* parameter : parameters_) {
        float* to = buffer_of(*parameter, which).data();
        parameter->each([&](int64_t position) { to[position] = *from++; });
    }
}

void Network::set_recompute(bool recompute) {
    for (auto& layer : layers_) layer->recompute = recompute;
}

// Returns the last layer's output, in the batch's order.
const float* Network::forward(Workspace& w, const bilstm_data& data, const int64_t* chosen, int64_t count,
                              const Mode& mode) const {
    w.batch.arrange(data.offsets, data.sequences, data.steps, chosen, count);
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
    for (size_t i = 0; i < layers_.size(); ++i) {
        const Layer& layer = *layers_[i];
        if (layer.one_row_each) w.rows = count;
        float* output = w.outputs[i].reserve(checked_product(w.rows, layer.output_width));
        layer.forward(w.batch, input, output, w.scratch[i], mode);
        input = {output, w.batch.start.data(), w.rows};
    }
    return input.data;
}

// `gradient`: of the last layer's output, in gradients[0].
void Network::backward(Workspace& w, float* gradient) {
    int next = 1;
    for (size_t i = layers_.size(); i-- > first_learnt_;) {
        Layer& layer = *layers_[i];
        const int64_t rows = layer.one_row_each ? w.batch.steps : w.rows;
        const Input input = i ? Input{w.outputs[i - 1].data(), w.batch.start.data(), rows} : w.input;
        float* before =
            i == first_learnt_ ? nullptr : w.gradients[next].reserve(checked_product(rows, layer.input_width));
        layer.backward(w.batch, input, w.outputs[i].data(), gradient, before, w.scratch[i]);
        w.rows = rows;
        gradient = before;
        next = 1 - next;
    }
}

Score Network::score_batch(Workspace& w, const bilstm_data& data, const int64_t* chosen, int64_t count, Loss loss,
                           const float* output, float* gradient) const {
    w.target_rows.clear();
    for (int64_t i = 0; i < count; ++i) {
        if (one_row_each_) {
            w.target_rows.push_back(chosen[i]);
            continue;
        }
        for (int64_t row = data.offsets[chosen[i]]; row < data.offsets[chosen[i] + 1]; ++row)
            w.target_rows.push_back(row);
    }
    const Targets targets{data.labels, data.targets, data.weights, outputs()};
    return score(loss, last_activation(), output, w.rows, targets, w.target_rows.data(), gradient);
}

void Network::gradient(const bilstm_data& data, const int64_t* chosen, int64_t count, Loss loss, bool training,
                       uint64_t seed, bilstm_score* score) {
    Workspace& w = training_;
    const auto no_gradient = [&] {
        for (Parameter* parameter : parameters_) std::fill_n(parameter->gradient.data(), parameter->shape.size(), 0.0f);
    };
    *score = {};
    if (!count) return no_gradient();
    Mode mode;
    mode.training = true;
    mode.dropping = training;
    mode.seed = seed;
    mode.iteration = static_cast<uint32_t>(iteration);
    const float* output = forward(w, data, chosen, count, mode);
    float* gradient = w.gradients[0].reserve(checked_product(w.rows, outputs()));
    const Score sums = score_batch(w, data, chosen, count, loss, output, gradient);
    *score = {sums.loss, sums.rows, sums.correct, sums.squared_error, sums.absolute_error};
    if (sums.rows == 0) return no_gradient();  // nothing labelled
    if (last_dense_) last_dense_->skip_activation_gradient(matched(loss, last_activation()));
    backward(w, gradient);
}

void Network::update(const Optimizer& optimizer) {
    optimizer.update(parameters_, iteration);
    ++iteration;
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

std::unique_ptr<Workspace> Network::borrow() {
    {
        const std::lock_guard lock(idle_guard_);
        if (!idle_.empty()) {
            auto workspace = std::move(idle_.back());
            idle_.pop_back();
            return workspace;
        }
    }
    auto workspace = std::make_unique<Workspace>();
    workspace->scratch.resize(layers_.size());
    workspace->outputs.resize(layers_.size());
    return workspace;
}

void Network::give_back(std::unique_ptr<Workspace> workspace) {
    const std::lock_guard lock(idle_guard_);
    idle_.push_back(std::move(workspace));
}

void Network::predict(const bilstm_data& data, Loss loss, const float* states_in, float* states_out, float* output,
                      bilstm_score* total) {
    constexpr int64_t kMostSequences = 96, kMostSteps = 1 << 16;
    auto w = borrow();
    Mode mode;
    mode.states_in = states_in;
    mode.states_out = states_out;
    mode.state_width = state_width_;
    // Sequences of similar length go together; their outputs do not depend on the company.
    std::vector<int64_t>& sorted = w->chosen;
    sorted.resize(static_cast<size_t>(data.sequences));
    std::iota(sorted.begin(), sorted.end(), int64_t{0});
    const auto length = [&](int64_t i) { return data.offsets[i + 1] - data.offsets[i]; };
    if (data.sequences > kMostSequences)
        std::stable_sort(sorted.begin(), sorted.end(), [&](int64_t a, int64_t b) { return length(a) > length(b); });
    if (total) *total = {};
    for (int64_t begin = 0; begin < data.sequences;) {
        int64_t end = begin, steps = 0;
        for (; end < data.sequences && end - begin < kMostSequences; ++end) {
            steps += length(sorted[static_cast<size_t>(end)]);
            if (end > begin && steps > kMostSteps) break;
        }
        const int64_t* chosen = sorted.data() + begin;
        const float* rows = forward(*w, data, chosen, end - begin, mode);
        if (total) {
            const Score sums = score_batch(*w, data, chosen, end - begin, loss, rows, nullptr);
            total->loss += sums.loss, total->rows += sums.rows, total->correct += sums.correct;
            total->squared_error += sums.squared_error, total->absolute_error += sums.absolute_error;
        }
        for (int64_t i = 0; output && i < end - begin; ++i) {
            const int64_t first = one_row_each_ ? chosen[i] : data.offsets[chosen[i]];
            const int64_t count = (one_row_each_ ? 1 : length(chosen[i])) * outputs();
            std::copy_n(rows, count, output + first * outputs());
            rows += count;
        }
        begin = end;
    }
    give_back(std::move(w));
}

}  // namespace bilstm
