#include "loss.h"

#include <cmath>
#include <string>

#include "elementary.h"

namespace bilstm {
namespace {

constexpr double kEpsilon = 1e-7;

double clipped(double p) {
    return p < kEpsilon ? kEpsilon : p > 1 - kEpsilon ? 1 - kEpsilon : p;
}

bool inside(double p) {
    return p >= kEpsilon && p <= 1 - kEpsilon;
}

// One labelled row. `target` are the numbers wanted, or null where `label` is its class: then 1 for that class's
// output, or for a single output the label itself where it is `binary`. `scale` is its weight over the number of
// labelled rows.
struct Row {
    const float* output;
    const float* target;
    int64_t label, width;
    float scale;
    float* gradient;
    bool binary;

    float wanted(int64_t i) const {
        if (target) return target[i];
        return binary ? static_cast<float>(label) : i == label ? 1.0f : 0.0f;
    }
};

// Without the division, which takes as long as all the rest, where there is one number only.
template <typename Number>
Number mean(Number sum, int64_t count) {
    return count == 1 ? sum : sum / static_cast<Number>(count);
}

double binary(const Row& row, bool is_matched) {
    double loss = 0;
    const float share = row.gradient ? mean(row.scale, row.width) : 0.0f;
    for (int64_t i = 0; i < row.width; ++i) {
        const double p = clipped(row.output[i]), y = row.wanted(i);
        if (y == 0 || y == 1) {
            loss -= natural_logarithm(y == 1 ? p : 1 - p);  // no branch that depends on the label
        } else {
            loss -= y * natural_logarithm(p);
            loss -= (1 - y) * natural_logarithm(1 - p);
        }
        if (!row.gradient) continue;
        if (is_matched)
            row.gradient[i] = (row.output[i] - row.wanted(i)) * share;
        else
            row.gradient[i] = inside(row.output[i]) ? static_cast<float>((1 - y) / (1 - p) - y / p) * share : 0.0f;
    }
    return mean(loss, row.width);
}

double categorical(const Row& row, bool is_matched) {
    double loss = 0, total = 0, mass = 0;
    for (int64_t i = 0; i < row.width; ++i) total += row.output[i], mass += row.wanted(i);
    if (is_matched) total = 1;  // softmax
    for (int64_t i = 0; i < row.width; ++i) {
        const double y = row.wanted(i);
        if (y != 0) loss -= y * natural_logarithm(clipped(row.output[i] / total));
    }
    if (!row.gradient) return loss;
    if (is_matched) {
        for (int64_t i = 0; i < row.width; ++i)
            row.gradient[i] = (row.output[i] * static_cast<float>(mass) - row.wanted(i)) * row.scale;
        return loss;
    }
    double dot = 0;
    const auto by_share = [&](int64_t i) {
        const double q = row.output[i] / total;
        return inside(q) ? -row.wanted(i) / q : 0.0;
    };
    for (int64_t i = 0; i < row.width; ++i) dot += by_share(i) * row.output[i] / total;
    for (int64_t i = 0; i < row.width; ++i)
        row.gradient[i] = static_cast<float>((by_share(i) - dot) / total) * row.scale;
    return loss;
}

double squared(const Row& row) {
    double loss = 0;
    const float share = row.gradient ? mean(row.scale, row.width) : 0.0f;
    for (int64_t i = 0; i < row.width; ++i) {
        const float difference = row.output[i] - row.wanted(i);
        loss += static_cast<double>(difference) * difference;
        if (row.gradient) row.gradient[i] = 2.0f * difference * share;
    }
    return mean(loss, row.width);
}

// Whether the row's prediction is right: Keras's binary accuracy counts single outputs, so a part of a row may be.
double correct(Loss loss, const Row& row) {
    if (loss != Loss::categorical_crossentropy && (row.binary || row.width == 1)) {
        int64_t right = 0;
        for (int64_t i = 0; i < row.width; ++i) right += (row.output[i] > 0.5f ? 1.0f : 0.0f) == row.wanted(i);
        return mean(static_cast<double>(right), row.width);
    }
    int64_t best = 0, wanted = 0;
    for (int64_t i = 1; i < row.width; ++i) {
        if (row.output[i] > row.output[best]) best = i;
        if (row.wanted(i) > row.wanted(wanted)) wanted = i;
    }
    return best == wanted ? 1 : 0;
}

bool labelled(const Targets& targets, int64_t at, int64_t classes) {
    if (targets.weights && !(targets.weights[at] >= 0 && std::isfinite(targets.weights[at])))
        throw Invalid("weight " + std::to_string(targets.weights[at]) + " of row " + std::to_string(at) +
                      " is not a finite number from 0");
    if (targets.labels) {
        const int32_t label = targets.labels[at];
        if (label < -1 || label >= classes)
            throw Invalid("label " + std::to_string(label) + " of row " + std::to_string(at) +
                          " is not -1 (unlabelled) or 0 to " + std::to_string(classes - 1));
        return label >= 0;
    }
    for (int64_t i = 0; i < targets.width; ++i)
        if (std::isnan(targets.targets[at * targets.width + i])) return false;
    return true;
}

}  // namespace

bool matched(Loss loss, Activation activation) {
    return (loss == Loss::binary_crossentropy && activation == Activation::sigmoid) ||
           (loss == Loss::categorical_crossentropy && activation == Activation::softmax);
}

int64_t count_labelled(Loss loss, const Targets& targets, const int64_t* target_rows, int64_t rows) {
    const int64_t classes = loss == Loss::binary_crossentropy ? 2 : targets.width;
    int64_t count = 0;
    for (int64_t i = 0; i < rows; ++i) count += labelled(targets, target_rows[i], classes);
    return count;
}

Score score(Loss loss, Activation activation, const float* output, int64_t rows, const Targets& targets,
            const int64_t* target_rows, int64_t all_labelled, float* gradient) {
    const int64_t width = targets.width, classes = loss == Loss::binary_crossentropy ? 2 : width;
    const bool is_matched = matched(loss, activation);
    const float unweighted = 1.0f / static_cast<float>(all_labelled);
    Score sums;
    for (int64_t i = 0; i < rows; ++i) {
        const int64_t at = target_rows[i];
        float* row_gradient = gradient ? gradient + i * width : nullptr;
        if (!labelled(targets, at, classes)) {
            if (gradient)
                for (int64_t k = 0; k < width; ++k) row_gradient[k] = 0.0f;
            continue;
        }
        const float weight = targets.weights ? targets.weights[at] : 1.0f;
        const Row row{output + i * width,
                      targets.labels ? nullptr : targets.targets + at * width,
                      targets.labels ? targets.labels[at] : -1,
                      width,
                      targets.weights ? weight / static_cast<float>(all_labelled) : unweighted,
                      row_gradient,
                      loss == Loss::binary_crossentropy};
        const double value = loss == Loss::binary_crossentropy        ? binary(row, is_matched)
                             : loss == Loss::categorical_crossentropy ? categorical(row, is_matched)
                                                                      : squared(row);
        sums.rows += 1;
        sums.loss += weight * value;
        sums.correct += correct(loss, row);
        double squares = 0, magnitudes = 0;
        for (int64_t k = 0; k < width; ++k) {
            const double difference = static_cast<double>(row.output[k]) - row.wanted(k);
            squares += difference * difference;
            magnitudes += std::fabs(difference);
        }
        sums.squared_error += mean(squares, width);
        sums.absolute_error += mean(magnitudes, width);
    }
    return sums;
}

}  // namespace bilstm
