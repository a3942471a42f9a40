#include "making.h"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "attention.h"
#include "batch_normalization.h"
#include "convolution.h"
#include "crf.h"
#include "dense.h"
#include "dropout.h"
#include "embedding.h"
#include "pooling.h"
#include "recurrent.h"
#include "window_pooling.h"
#include "words.h"

namespace bilstm {

constexpr int64_t kMostUnits = 1 << 20;
constexpr int64_t kMostWidth = 2 * kMostUnits;  // two directions side by side

int64_t checked_size(int64_t size, const char* what) {
    if (size < 1 || size > kMostUnits)
        throw Invalid(std::string(what) + " must be from 1 to 1048576, not " + std::to_string(size));
    return size;
}

namespace {

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
        const float dropout = layer.index_dropout ? checked_rate(layer.index_dropout[i]) : 0.0f;
        tables.push_back({vocabulary, checked_size(layer.dimensions[i], "an embedding's dimension"),
                          layer.frozen && layer.frozen[i], dropout});
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

std::unique_ptr<Layer> make_words(const bilstm_layer& layer, int64_t width) {
    if (!layer.encoder || layer.encoder_layers < 1 || layer.encoder_layers > 100)
        throw Invalid("words are encoded by 1 to 100 layers");
    std::vector<std::unique_ptr<Layer>> encoder;
    const int64_t features = checked_size(layer.word_features, "features of words");
    bool one_row = false;
    for (int32_t i = 0; i < layer.encoder_layers; ++i) {
        const bilstm_layer& own = layer.encoder[i];
        for (const int32_t kind : {BILSTM_DROPOUT, BILSTM_SPATIAL_DROPOUT, BILSTM_WINDOW_POOLING,
                                   BILSTM_BATCH_NORMALIZATION, BILSTM_CRF, BILSTM_WORDS})
            if (own.kind == kind)
                throw Invalid(
                    "words are encoded by layers that do not drop values, pool windows, normalize batches, "
                    "label steps or encode words");
        if (own.index_dropout) throw Invalid("the encoder of words drops no indices");
        encoder.push_back(make_layer(own, i ? encoder.back()->output_width : features, {one_row, true, false}));
        one_row = one_row || encoder.back()->one_row_each;
    }
    if (!one_row) throw Invalid("the encoder of words must return one row for each word");
    return std::make_unique<WordEncoder>(std::move(encoder), width);
}

}  // namespace

std::unique_ptr<Layer> make_layer(const bilstm_layer& layer, int64_t width, const Before& before) {
    if (before.ended) throw Invalid("no layer can follow a CRF");
    std::unique_ptr<Layer> made;
    switch (layer.kind) {
        case BILSTM_RECURRENT:
            if (before.one_row_each)
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
            if (before.one_row_each)
                throw Invalid("spatial dropout cannot follow a layer that returns one row for a sequence");
            made = std::make_unique<SpatialDropout>(width, checked_rate(layer.rate));
            break;
        case BILSTM_EMBEDDING:
            made = make_embedding(layer, width);
            break;
        case BILSTM_POOLING:
            if (before.one_row_each) throw Invalid("pooling cannot follow a layer that returns one row for a sequence");
            made = std::make_unique<Pooling>(width, checked_enum(layer.pool, Pool::maximum, "kind of pooling"));
            break;
        case BILSTM_WINDOW_POOLING:
            if (before.one_row_each) throw Invalid("pooling cannot follow a layer that returns one row for a sequence");
            made = std::make_unique<WindowPooling>(width, checked_enum(layer.pool, Pool::maximum, "kind of pooling"),
                                                   checked_size(layer.window, "a window"),
                                                   checked_size(layer.stride, "a stride"), layer.same != 0);
            break;
        case BILSTM_ATTENTION_POOLING:
            if (before.one_row_each) throw Invalid("pooling cannot follow a layer that returns one row for a sequence");
            made = std::make_unique<AttentionPooling>(width, checked_size(layer.units, "units"));
            break;
        case BILSTM_CONVOLUTION:
            if (before.one_row_each)
                throw Invalid("a convolution cannot follow a layer that returns one row for a sequence");
            made = make_convolution(layer, width);
            break;
        case BILSTM_CRF:
            if (before.one_row_each || !before.keeps_lengths) throw Invalid("a CRF labels all steps of a sequence");
            if (layer.units != width)
                throw Invalid("a CRF of " + std::to_string(layer.units) + " labels takes a score for each, not " +
                              std::to_string(width));
            made = std::make_unique<Crf>(checked_size(layer.units, "labels"), layer.forbidden);
            break;
        case BILSTM_BATCH_NORMALIZATION:
            made = make_batch_normalization(layer, width);
            break;
        case BILSTM_WORDS:
            made = make_words(layer, width);
            break;
        default:
            throw Invalid("unknown layer kind " + std::to_string(layer.kind));
    }
    if (made->output_width > kMostWidth)
        throw Invalid("a layer's output must be at most " + std::to_string(kMostWidth) + " wide, not " +
                      std::to_string(made->output_width));
    made->index = layer.index;
    return made;
}

}  // namespace bilstm
