#include "loss.h"

#include <algorithm>
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

// Without the division, which takes as long as all the rest, where there is one number only.
template <typename Number>
Number mean(Number sum, int64_t count) {
    return count == 1 ? sum : sum / static_cast<Number>(count);
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
    // What the gradient of one output of a mean is multiplied by.
    float output_scale() const { return gradient ? mean(scale, width) : 0.0f; }
};

double binary(const Row& row, bool is_matched) {
    double loss = 0;
    const float scale = row.output_scale();
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
            row.gradient[i] = (row.output[i] - row.wanted(i)) * scale;
        else
            row.gradient[i] = inside(row.output[i]) ? static_cast<float>((1 - y) / (1 - p) - y / p) * scale : 0.0f;
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
    const auto by_probability = [&](int64_t i) {
        const double q = row.output[i] / total;
        return inside(q) ? -row.wanted(i) / q : 0.0;
    };
    for (int64_t i = 0; i < row.width; ++i) dot += by_probability(i) * row.output[i] / total;
    for (int64_t i = 0; i < row.width; ++i)
        row.gradient[i] = static_cast<float>((by_probability(i) - dot) / total) * row.scale;
    return loss;
}

double squared(const Row& row) {
    double loss = 0;
    const float scale = row.output_scale();
    for (int64_t i = 0; i < row.width; ++i) {
        const float difference = row.output[i] - row.wanted(i);
        loss += static_cast<double>(difference) * difference;
        if (row.gradient) row.gradient[i] = 2.0f * difference * scale;
    }
    return mean(loss, row.width);
}

// The gradient where output and target are equal is 0.
double absolute(const Row& row) {
    double loss = 0;
    const float scale = row.output_scale();
    for (int64_t i = 0; i < row.width; ++i) {
        const float difference = row.output[i] - row.wanted(i);
        loss += std::fabs(static_cast<double>(difference));
        if (row.gradient) row.gradient[i] = difference > 0 ? scale : difference < 0 ? -scale : 0.0f;
    }
    return mean(loss, row.width);
}

// Half the square of errors up to 1, and linear from there on: Keras's with its delta of 1.
double huber(const Row& row) {
    double loss = 0;
    const float scale = row.output_scale();
    for (int64_t i = 0; i < row.width; ++i) {
        const float difference = row.output[i] - row.wanted(i);
        const double error = std::fabs(static_cast<double>(difference));
        loss += error <= 1 ? 0.5 * error * error : error - 0.5;
        if (row.gradient) row.gradient[i] = std::clamp(difference, -1.0f, 1.0f) * scale;
    }
    return mean(loss, row.width);
}

double loss_of(Loss loss, Activation activation, const Row& row) {
    switch (loss) {
        case BILSTM_BINARY_CROSSENTROPY:
            return binary(row, matched(loss, activation));
        case BILSTM_CATEGORICAL_CROSSENTROPY:
            return categorical(row, matched(loss, activation));
        case BILSTM_MEAN_SQUARED_ERROR:
            return squared(row);
        case BILSTM_MEAN_ABSOLUTE_ERROR:
            return absolute(row);
        case BILSTM_HUBER:
            return huber(row);
        case BILSTM_CRF_LIKELIHOOD:  // a head's
        case BILSTM_NO_LOSS:
        case BILSTM_LOSSES:
            break;
    }
    throw Invalid("no loss of rows");
}

// Whether the row's prediction is right: Keras's binary accuracy counts single outputs, so a part of a row may be.
double correct(TargetKind kind, const Row& row) {
    if (kind == TargetKind::binary || (kind == TargetKind::numbers && row.width == 1)) {
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

bool labelled(const Targets& targets, int64_t at, int64_t all_classes) {
    if (targets.weights && !(targets.weights[at] >= 0 && std::isfinite(targets.weights[at])))
        throw Invalid("weight " + std::to_string(targets.weights[at]) + " of row " + std::to_string(at) +
                      " is not a finite number from 0");
    if (targets.labels) {
        const int32_t label = targets.labels[at];
        if (label < -1 || label >= all_classes)
            throw Invalid("label " + std::to_string(label) + " of row " + std::to_string(at) +
                          " is not -1 (unlabelled) or 0 to " + std::to_string(all_classes - 1));
        return label >= 0;
    }
    for (int64_t i = 0; i < targets.width; ++i)
        if (std::isnan(targets.targets[at * targets.width + i])) return false;
    return true;
}

}  // namespace

TargetKind target_kind(Loss loss) {
    switch (loss) {
        case BILSTM_BINARY_CROSSENTROPY:
            return TargetKind::binary;
        case BILSTM_CATEGORICAL_CROSSENTROPY:
        case BILSTM_CRF_LIKELIHOOD:
            return TargetKind::categorical;
        case BILSTM_MEAN_SQUARED_ERROR:
        case BILSTM_MEAN_ABSOLUTE_ERROR:
        case BILSTM_HUBER:
            return TargetKind::numbers;
        case BILSTM_NO_LOSS:
        case BILSTM_LOSSES:
            break;
    }
    throw Invalid("unknown loss");
}

int64_t classes(Loss loss, int64_t outputs) {
    switch (target_kind(loss)) {
        case TargetKind::binary:
            return outputs == 1 ? 2 : 0;
        case TargetKind::categorical:
            return outputs;
        case TargetKind::numbers:
            break;
    }
    return 0;
}

bool matched(Loss loss, Activation activation) {
    return (loss == BILSTM_BINARY_CROSSENTROPY && activation == Activation::sigmoid) ||
           (loss == BILSTM_CATEGORICAL_CROSSENTROPY && activation == Activation::softmax);
}

int64_t count_labelled(Loss loss, const Targets& targets, const int64_t* target_rows, int64_t rows) {
    const int64_t all_classes = classes(loss, targets.width);
    int64_t count = 0;
    for (int64_t i = 0; i < rows; ++i) count += labelled(targets, target_rows[i], all_classes);
    return count;
}

Score score(Loss loss, Activation activation, const float* output, int64_t rows, const Targets& targets,
            const int64_t* target_rows, int64_t all_labelled, float* gradient) {
    const int64_t width = targets.width, all_classes = classes(loss, width);
    const TargetKind kind = target_kind(loss);
    const float unweighted = 1.0f / static_cast<float>(all_labelled);
    Score sums;
    for (int64_t i = 0; i < rows; ++i) {
        const int64_t at = target_rows[i];
        float* row_gradient = gradient ? gradient + i * width : nullptr;
        if (!labelled(targets, at, all_classes)) {
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
                      kind == TargetKind::binary};
        sums.rows += 1;
        sums.loss += weight * loss_of(loss, activation, row);
        sums.correct += correct(kind, row);
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
