#include "crf.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "elementary.h"
#include "threads.h"

namespace bilstm {
namespace {

double* reserve_doubles(Buffer& buffer, int64_t count) {
    static_assert(sizeof(double) == 2 * sizeof(float));
    return reinterpret_cast<double*>(buffer.reserve(checked_product(2, count)));
}

const double* doubles(Buffer& buffer) {
    return reinterpret_cast<const double*>(buffer.data());
}

std::string named(int64_t sequence) {
    return "sequence " + std::to_string(sequence);
}

}  // namespace

// One sequence of a batch, and what is known of its labels.
struct Crf::Part {
    int64_t sorted = 0, sequence = 0, row = 0, steps = 0;
    const float* scores = nullptr;
    std::vector<int32_t> labels;    // of each step, where each has one
    std::vector<uint8_t> allowed;   // (steps, labels), where some have several; both are empty where nothing is known
    std::vector<uint8_t> labelled;  // of each step, whether it is
    bool known = false;             // whether any is
    float weight = 1;
    Lattice all{}, some{};  // of all labels, and of those allowed
};

Crf::Crf(int64_t labels, const uint8_t* forbidden) {
    input_width = output_width = labels;
    reads_around = true;
    table_.shape = {labels + 2, round_up(labels, kLanes)};
    table_.variables = {{labels, labels, 0}, {1, labels, labels}, {1, labels, labels + 1}};
    for (int64_t label = 0; label < labels; ++label) table_.columns.push_back(label);
    table_.plain = true;
    table_.allocate();
    if (forbidden) forbidden_.assign(forbidden, forbidden + checked_product(labels + 2, labels));
}

void Crf::forward(const Batch& batch, const Input& input, float* output, Scratch& scratch, const Mode& mode) const {
    static thread_local ChainWeights kept;
    ChainWeights& weights = kept;
    weights.set(table_.value.data(), table_.shape.columns, input_width, forbidden());
    const int64_t labels = input_width, stride = weights.stride, numbers = checked_product(input.rows, stride);
    double* before = reserve_doubles(scratch[kBefore], numbers);
    double* after = mode.training ? reserve_doubles(scratch[kAfter], numbers) : nullptr;
    double* totals = reserve_doubles(scratch[kTotals], 2 * batch.sequences);
    parallel(batch.sequences, saturated_product(3, numbers, labels), [&](int64_t sorted) {
        const auto i = static_cast<size_t>(sorted);
        const int64_t row = batch.start[i], steps = batch.length[i];
        const float* scores = input.data + input.starts[i] * labels;
        Lattice lattice{before + row * stride, after ? after + row * stride : nullptr};
        if (bilstm_first_not_finite(scores, steps * labels) < 0) {
            fill_lattice(weights, scores, nullptr, steps, lattice, output + row * labels);
            if (lattice.total == -std::numeric_limits<double>::infinity())
                throw Invalid("no labels of " + named(batch.sequence[i]) + ", " + std::to_string(steps) +
                              " steps, are without a forbidden transition");
        } else {  // weights that have diverged: the loss says so
            lattice.total = std::numeric_limits<double>::quiet_NaN();
            std::fill_n(output + row * labels, steps * labels, std::numeric_limits<float>::quiet_NaN());
            std::fill_n(lattice.before, steps * stride, 0.0);
            if (after) std::fill_n(lattice.after, steps * stride, 0.0);
        }
        totals[2 * sorted] = lattice.total;
        totals[2 * sorted + 1] = lattice.logarithms;
    });
}

void Crf::backward(const Batch&, const Input&, const float*, float*, float*, Scratch&) {
    throw Invalid("a CRF is trained by the likelihood of labels, and has no gradient of other losses");
}

Crf::Part Crf::part_of(const Batch& batch, int64_t sorted, const Input& input, Scratch& scratch, const Targets& targets,
                       const int64_t* target_rows) const {
    const auto i = static_cast<size_t>(sorted);
    const int64_t labels = input_width, stride = chain_stride(labels);
    Part part;
    part.sorted = sorted;
    part.sequence = batch.sequence[i];
    part.row = batch.start[i];
    part.steps = batch.length[i];
    part.scores = input.data + input.starts[i] * labels;
    const double* totals = doubles(scratch[kTotals]) + 2 * sorted;
    auto* before = reinterpret_cast<double*>(scratch[kBefore].data());
    auto* after = reinterpret_cast<double*>(scratch[kAfter].data());  // null where nothing was ever trained
    part.all = {before + part.row * stride, after ? after + part.row * stride : nullptr, totals[0], totals[1] != 0};
    bool complete = true;
    for (int64_t t = 0; t < part.steps; ++t) {
        const int64_t at = target_rows[part.row + t];
        const float weight = targets.weights ? targets.weights[at] : 1.0f;
        if (t == 0) part.weight = weight;
        if (weight != part.weight)
            throw Invalid("a CRF's loss is a sequence's: all steps of " + named(part.sequence) + " need one weight");
        if (targets.labels) {
            part.labels.push_back(targets.labels[at]);
            part.labelled.push_back(targets.labels[at] >= 0);
            part.known = part.known || part.labelled.back();
            complete = complete && targets.labels[at] >= 0;
            continue;
        }
        const float* own = targets.targets + at * labels;
        const bool unlabelled = std::any_of(own, own + labels, [](float p) { return p != p; });
        int64_t some = 0;
        int32_t label = -1;
        for (int64_t j = 0; j < labels; ++j) {
            const bool is = unlabelled || own[j] > 0;
            part.allowed.push_back(is);
            if (is) ++some, label = static_cast<int32_t>(j);
        }
        if (!some) throw Invalid("step " + std::to_string(t) + " of " + named(part.sequence) + " may have no label");
        part.labels.push_back(some == 1 ? label : -1);
        part.labelled.push_back(!unlabelled);
        part.known = part.known || !unlabelled;
        complete = complete && some == 1;
    }
    if (complete || !part.known) {
        part.allowed.clear();
    } else {
        if (part.allowed.empty())
            for (const int32_t label : part.labels)
                for (int64_t j = 0; j < labels; ++j) part.allowed.push_back(label < 0 || label == j);
        part.labels.clear();
    }
    return part;
}

Score Crf::score(const Batch& batch, const Input& input, const float* output, Scratch& scratch, const Targets& targets,
                 const int64_t* target_rows, int64_t all_labelled, float* input_gradient) const {
    static thread_local ChainWeights kept;
    ChainWeights& weights = kept;
    weights.set(table_.value.data(), table_.shape.columns, input_width, forbidden());
    const int64_t labels = input_width, stride = weights.stride, numbers = checked_product(input.rows, stride);
    std::vector<Part> parts(static_cast<size_t>(batch.sequences));
    for (int64_t i = 0; i < batch.sequences; ++i)
        parts[static_cast<size_t>(batch.order[static_cast<size_t>(i)])] =
            part_of(batch, i, input, scratch, targets, target_rows);
    float* marginals = scratch[kAllowedMarginals].reserve(checked_product(input.rows, labels));
    double* before = nullptr;
    double* after = nullptr;
    if (std::any_of(parts.begin(), parts.end(), [](const Part& part) { return !part.allowed.empty(); })) {
        before = reserve_doubles(scratch[kAllowedBefore], numbers);
        after = reserve_doubles(scratch[kAllowedAfter], numbers);
    }
    std::vector<Score> scores(parts.size());
    parallel(batch.sequences, saturated_product(3, numbers, labels), [&](int64_t position) {
        Part& part = parts[static_cast<size_t>(position)];
        Score& own = scores[static_cast<size_t>(position)];
        const float* probabilities = output + part.row * labels;
        const float scale = part.weight / static_cast<float>(all_labelled);
        float* gradient = input_gradient ? input_gradient + part.row * labels : nullptr;
        if (!part.known) {
            if (gradient) std::fill_n(gradient, part.steps * labels, 0.0f);
            return;
        }
        double known = 0;
        const float* wanted = marginals + part.row * labels;
        if (part.allowed.empty()) {
            known = path_score(weights, part.scores, part.labels.data(), part.steps);
        } else {
            part.some = {before + part.row * stride, after + part.row * stride};
            fill_lattice(weights, part.scores, part.allowed.data(), part.steps, part.some,
                         marginals + part.row * labels);
            known = part.some.total;
        }
        if (gradient && known == -std::numeric_limits<double>::infinity())
            throw Invalid("the labels of " + named(part.sequence) + " have a transition that is forbidden");
        own.loss = static_cast<double>(part.weight) * (part.all.total - known);
        const auto may_be = [&](int64_t t, int64_t j) {
            return part.allowed.empty() ? part.labels[static_cast<size_t>(t)] == j
                                        : part.allowed[static_cast<size_t>(t * labels + j)] != 0;
        };
        for (int64_t t = 0; t < part.steps; ++t) {
            const float* row = probabilities + t * labels;
            double squares = 0, magnitudes = 0;
            for (int64_t j = 0; j < labels; ++j) {
                const bool is = may_be(t, j);
                const double difference = static_cast<double>(row[j]) - is;
                squares += difference * difference;
                magnitudes += std::fabs(difference);
                if (!gradient) continue;
                const float target = part.allowed.empty() ? static_cast<float>(is) : wanted[t * labels + j];
                gradient[t * labels + j] = (row[j] - target) * scale;
            }
            if (!part.labelled[static_cast<size_t>(t)]) continue;
            own.rows += 1;
            own.correct += may_be(t, std::max_element(row, row + labels) - row);
            own.squared_error += squares / static_cast<double>(labels);
            own.absolute_error += magnitudes / static_cast<double>(labels);
        }
    });
    if (input_gradient) fill_gradients(parts, weights, scratch, input_gradient, all_labelled);
    Score total;
    for (const Score& own : scores) {
        total.loss += own.loss, total.rows += own.rows, total.correct += own.correct;
        total.squared_error += own.squared_error, total.absolute_error += own.absolute_error;
    }
    return total;
}

// Each transition's expected number less its known one. Threads divide the labels that transitions come from.
void Crf::fill_gradients(const std::vector<Part>& parts, const ChainWeights& w, Scratch& scratch,
                         const float* input_gradient, int64_t all_labelled) const {
    const int64_t labels = w.labels, stride = w.stride, width = table_.shape.columns;
    float* gradient = scratch.gradients[0];
    int64_t steps = 0;
    for (const Part& part : parts) steps += part.steps;
    parallel(labels, saturated_product(steps, labels, stride), [&](int64_t from) {
        // Sums that are still to be multiplied by factors, and probabilities.
        std::vector<double> sums(static_cast<size_t>(stride)), numbers(static_cast<size_t>(stride));
        const double* scores = w.scores.data() + from * stride;
        for (const Part& part : parts) {
            if (!part.known) continue;
            const double scale = static_cast<double>(part.weight / static_cast<float>(all_labelled));
            const auto add = [&](const Lattice& lattice, double times) {
                for (int64_t t = 1; t < part.steps; ++t) {
                    const double before = lattice.before[(t - 1) * stride + from];
                    const double* after = lattice.after + t * stride;
                    if (!lattice.logarithms) {
                        const double factor = before * times;
                        for (int64_t j = 0; j < stride; ++j)
                            sums[static_cast<size_t>(j)] = std::fma(factor, after[j], sums[static_cast<size_t>(j)]);
                    } else {
                        for (int64_t j = 0; j < labels; ++j)
                            numbers[static_cast<size_t>(j)] +=
                                times * natural_exponential(before + scores[j] + after[j] - lattice.total);
                    }
                }
            };
            add(part.all, scale);
            if (!part.allowed.empty()) {
                add(part.some, -scale);
                continue;
            }
            for (int64_t t = 1; t < part.steps; ++t)
                if (part.labels[static_cast<size_t>(t - 1)] == from)
                    numbers[static_cast<size_t>(part.labels[static_cast<size_t>(t)])] -= scale;
        }
        const double* factors = w.factors.data() + from * stride;
        for (int64_t j = 0; j < labels; ++j) {
            const auto at = static_cast<size_t>(j);
            gradient[from * width + j] = static_cast<float>(std::fma(sums[at], factors[j], numbers[at]));
        }
    });
    float* starts = gradient + labels * width;
    float* ends = starts + width;
    for (int64_t j = 0; j < labels; ++j) {
        double start = 0, end = 0;
        for (const Part& part : parts) {
            start += static_cast<double>(input_gradient[part.row * labels + j]);
            end += static_cast<double>(input_gradient[(part.row + part.steps - 1) * labels + j]);
        }
        starts[j] = static_cast<float>(start);
        ends[j] = static_cast<float>(end);
    }
}

void Crf::decode(const Batch& batch, const Input& input, Scratch& scratch, const Targets& targets,
                 const int64_t* target_rows, const Decoding& to) const {
    static thread_local ChainWeights kept;
    ChainWeights& weights = kept;
    weights.set(table_.value.data(), table_.shape.columns, input_width, forbidden());
    const int64_t labels = input_width, stride = weights.stride;
    const double* totals = doubles(scratch[kTotals]);
    parallel(batch.sequences, saturated_product(input.rows, labels, labels, to.paths), [&](int64_t sorted) {
        const auto i = static_cast<size_t>(sorted);
        const int64_t steps = batch.length[i], sequence = batch.sequence[i];
        const float* scores = input.data + input.starts[i] * labels;
        const double total = totals[2 * sorted];
        if (to.paths) {
            std::vector<int32_t> paths(static_cast<size_t>(checked_product(to.paths, steps)), -1);
            std::vector<double> of_paths(static_cast<size_t>(to.paths), total);
            if (total == total) find_paths(weights, scores, steps, to.paths, paths.data(), steps, of_paths);
            for (int64_t path = 0; path < to.paths; ++path) {
                std::copy_n(paths.data() + path * steps, steps, to.labels + path * to.steps + batch.source[i]);
                to.log_probabilities[path * to.sequences + sequence] =
                    std::min(0.0, of_paths[static_cast<size_t>(path)] - total);
            }
        }
        if (!to.log_likelihoods) return;
        Part part = part_of(batch, sorted, input, scratch, targets, target_rows);
        double known = total;
        if (part.known && part.allowed.empty()) {
            known = path_score(weights, scores, part.labels.data(), steps);
        } else if (part.known) {
            std::vector<double> before(static_cast<size_t>(steps * stride));
            std::vector<float> marginals(static_cast<size_t>(steps * labels));
            part.some = {before.data(), nullptr};
            fill_lattice(weights, scores, part.allowed.data(), steps, part.some, marginals.data());
            known = part.some.total;
        }
        to.log_likelihoods[sequence] = std::min(0.0, known - total);
    });
}

}  // namespace bilstm
