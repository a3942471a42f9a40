#include "optimizer.h"

#include <cmath>

#include "elementary.h"
#include "threads.h"

namespace bilstm {
namespace {

// Sum of squares over some rows of a parameter: a chain down each column, then the columns one by one in the order of
// the outside. So it does not depend on how columns are packed.
double squared_norm(const Parameter& parameter, const Variable& variable) {
    std::vector<double> sums(static_cast<size_t>(parameter.shape.columns), 0.0);
    const float* gradient = parameter.gradient.data();
    for (int64_t row = 0; row < variable.rows; ++row) {
        const int64_t at = variable.packed_row(row);
        if (parameter.plain) {
            for (size_t column = 0; column < sums.size(); ++column) {
                const double value = gradient[at * parameter.shape.columns + static_cast<int64_t>(column)];
                sums[column] += value * value;
            }
            continue;
        }
        for (int64_t panel = 0; panel < parameter.shape.panels(); ++panel) {
            const float* from = gradient + parameter.shape.position(at, panel * parameter.shape.panel);
            double* to = sums.data() + panel * parameter.shape.panel;
            for (int64_t i = 0; i < parameter.shape.width(panel); ++i) to[i] += static_cast<double>(from[i]) * from[i];
        }
    }
    double total = 0;
    for (const int64_t column : parameter.columns) total += sums[static_cast<size_t>(column)];
    return total;
}

void scale_rows(Parameter& parameter, const Variable& variable, float scale) {
    for (int64_t row = 0; row < variable.rows; ++row)
        for (const int64_t column : parameter.columns)
            parameter.gradient.data()[parameter.position(variable.packed_row(row), column)] *= scale;
}

void scale_all(Parameter& parameter, float scale) {
    float* gradient = parameter.gradient.data();
    for (int64_t i = 0; i < parameter.shape.size(); ++i) gradient[i] *= scale;
}

constexpr int64_t kChunk = 1 << 14;

// kSettle: moments that have all but vanished become zero. Without gradients they decay, and would stay subnormal for
// ever; to look now and then is enough.
constexpr int64_t kSettleEvery = 64;

template <bool kSettle>
void adam_step(Parameter& parameter, int64_t begin, int64_t end, float rate, float keep, const Optimizer& settings) {
    constexpr float kMostRoot = 1e19f;  // the root of an infinite moment: its step is 0, not NaN
    constexpr float kSmallest = 0x1p-56f;
    const float keep_1 = 1.0f - settings.beta_1, keep_2 = 1.0f - settings.beta_2, epsilon = settings.epsilon;
    const float* gradients = parameter.gradient.data();
    float* firsts = parameter.first_moment.data();
    float* seconds = parameter.second_moment.data();
    float* values = parameter.value.data();
    for (int64_t i = begin; i < end; i += kLanes) {
        const int64_t count = end - i;
        const Vec g = without_vanishing(load_partial(gradients + i, count), kSmallest);
        Vec first = load_partial(firsts + i, count), second = load_partial(seconds + i, count);
        first += (g - first) * keep_1;
        second += (g * g - second) * keep_2;
        if constexpr (kSettle) {
            first = without_vanishing(first);
            second = without_vanishing(second, kSmallest * kSmallest);
        }
        // The root keeps the processor's divider busy, and the reciprocal its multipliers, at the same time.
        const Vec scale = reciprocal(at_most(square_root(second), kMostRoot) + epsilon);
        store_partial(values + i, load_partial(values + i, count) * keep - first * rate * scale, count);
        store_partial(firsts + i, first, count);
        store_partial(seconds + i, second, count);
    }
}

}  // namespace

void Optimizer::clip(const std::vector<Parameter*>& parameters) const {
    if (global_clipnorm > 0) {
        double total = 0;
        for (const Parameter* parameter : parameters)
            for (const Variable& variable : parameter->variables) total += squared_norm(*parameter, variable);
        const double norm = std::sqrt(total);
        if (norm > global_clipnorm)
            for (Parameter* parameter : parameters) scale_all(*parameter, static_cast<float>(global_clipnorm / norm));
    }
    if (clipnorm > 0)
        for (Parameter* parameter : parameters)
            for (const Variable& variable : parameter->variables) {
                const double norm = std::sqrt(squared_norm(*parameter, variable));
                if (norm > clipnorm) scale_rows(*parameter, variable, static_cast<float>(clipnorm / norm));
            }
    if (clipvalue > 0)
        for (Parameter* parameter : parameters)
            for (int64_t i = 0; i < parameter->shape.size(); ++i) {
                float& g = parameter->gradient.data()[i];
                g = g > clipvalue ? clipvalue : g < -clipvalue ? -clipvalue : g;
            }
}

void Optimizer::update(const std::vector<Parameter*>& parameters, int64_t iteration) const {
    clip(parameters);
    const int64_t step = iteration + 1;
    const auto rate = static_cast<float>(static_cast<double>(learning_rate) * std::sqrt(1 - whole_power(beta_2, step)) /
                                         (1 - whole_power(beta_1, step)));
    const auto keep = static_cast<float>(1 - static_cast<double>(learning_rate) * weight_decay);  // exactly 1 without
    for (Parameter* parameter : parameters) {
        const int64_t size = parameter->shape.size();
        parallel((size + kChunk - 1) / kChunk, 4 * size, [&](int64_t chunk) {
            const int64_t begin = chunk * kChunk, end = std::min(size, begin + kChunk);
            if (kind == adam)
                return iteration % kSettleEvery ? adam_step<false>(*parameter, begin, end, rate, keep, *this)
                                                : adam_step<true>(*parameter, begin, end, rate, keep, *this);
            float* values = parameter->value.data();
            for (int64_t i = begin; i < end; ++i)
                values[i] = values[i] * keep - learning_rate * parameter->gradient.data()[i];
        });
    }
}

}  // namespace bilstm
