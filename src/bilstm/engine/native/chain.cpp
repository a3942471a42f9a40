#include "chain.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "elementary.h"

namespace bilstm {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();

double largest_finite(const std::vector<double>& numbers, size_t begin, size_t end) {
    double most = kNever;
    for (size_t i = begin; i < end; ++i) most = std::max(most, numbers[i]);
    return most > kNever ? most : 0;
}

// row[j] of factors times the exponentials of scores, for labels that are allowed. Returns the logarithm that was taken
// out of them.
double exponentials(const float* scores, const uint8_t* allowed, int64_t labels, double* row) {
    double most = kNever;
    for (int64_t j = 0; j < labels; ++j) most = std::max(most, static_cast<double>(scores[j]));
    for (int64_t j = 0; j < labels; ++j) row[j] = natural_exponential(static_cast<double>(scores[j]) - most);
    for (int64_t j = 0; allowed && j < labels; ++j)
        if (!allowed[j]) row[j] = 0;
    return most;
}

// sums[j] += factor * row[j]: a vector's lanes are different labels, so each label's sum has one order.
void add_multiple(double factor, const double* row, int64_t stride, double* sums) {
    for (int64_t j = 0; j < stride; ++j) sums[j] = std::fma(factor, row[j], sums[j]);
}

double sum(const double* row, int64_t count) {
    double total = 0;
    for (int64_t j = 0; j < count; ++j) total += row[j];
    return total;
}

// Returns whether the sums are as exact as they should be: where all that was above zero at a step leads nowhere, what
// was rounded to zero would have been needed.
bool fill_scaled(const ChainWeights& w, const float* scores, const uint8_t* allowed, int64_t steps, Lattice& lattice,
                 float* marginals) {
    constexpr double kTolerance = 1e-9, kMost = 1e200;  // what may be added up and multiplied by 0
    const int64_t labels = w.labels, stride = w.stride;
    static thread_local std::vector<double> kept;
    kept.assign(static_cast<size_t>(3 * stride), 0.0);
    std::vector<double> rows(static_cast<size_t>(steps * stride), 0.0);  // exponentials, then by each step's sum
    double* from = kept.data();
    double* own = from + stride;
    double* next = own + stride;
    lattice.logarithms = false;
    lattice.total = w.start_shift + w.end_shift + static_cast<double>(steps - 1) * w.shift;
    for (int64_t t = 0; t < steps; ++t) {
        double* before = lattice.before + t * stride;
        double* row = rows.data() + t * stride;
        lattice.total += exponentials(scores + t * labels, allowed ? allowed + t * labels : nullptr, labels, row);
        if (t == 0) {
            std::copy_n(w.start_factors.data(), stride, before);
        } else {
            std::fill_n(before, stride, 0.0);
            for (int64_t i = 0; i < labels; ++i) add_multiple(from[i], w.factors.data() + i * stride, stride, before);
        }
        for (int64_t j = 0; j < stride; ++j) before[j] *= row[j];
        const double total = sum(before, labels);
        if (!(total > 0)) return false;
        lattice.total += natural_logarithm(std::max(total, std::numeric_limits<double>::min()));
        const double scale = 1 / total;
        for (int64_t j = 0; j < stride; ++j) before[j] *= scale, row[j] *= scale;
        from = before;
    }
    double last = 0;
    for (int64_t j = 0; j < labels; ++j) last = std::fma(from[j], w.end_factors[static_cast<size_t>(j)], last);
    if (!(last > 0)) return false;
    lattice.total += natural_logarithm(std::max(last, std::numeric_limits<double>::min()));
    for (int64_t j = 0; j < stride; ++j) own[j] = w.end_factors[static_cast<size_t>(j)] / last;
    for (int64_t t = steps; t-- > 0;) {
        const double* before = lattice.before + t * stride;
        double total = 0;
        for (int64_t j = 0; j < labels; ++j) {
            const double probability = before[j] * own[j];
            total += probability;
            marginals[t * labels + j] = static_cast<float>(probability);
        }
        if (!(std::fabs(total - 1) < kTolerance)) return false;
        const double* row = rows.data() + t * stride;
        double* after = lattice.after ? lattice.after + t * stride : next;
        for (int64_t j = 0; j < stride; ++j) after[j] = row[j] * own[j];
        for (int64_t j = 0; j < labels; ++j)
            if (after[j] > kMost) return false;
        std::fill_n(own, stride, 0.0);
        for (int64_t j = 0; t > 0 && j < labels; ++j)
            add_multiple(after[j], w.columns.data() + j * stride, stride, own);
    }
    return true;
}

// log(exp(terms[0]) + …), of terms that may be minus infinity.
double log_of_sum(const double* terms, int64_t count) {
    double most = kNever;
    for (int64_t i = 0; i < count; ++i) most = std::max(most, terms[i]);
    if (!(most > kNever)) return most;
    double total = 0;
    for (int64_t i = 0; i < count; ++i) total += natural_exponential(terms[i] - most);
    return most + natural_logarithm(total);
}

void fill_logarithmic(const ChainWeights& w, const float* scores, const uint8_t* allowed, int64_t steps,
                      Lattice& lattice, float* marginals) {
    const int64_t labels = w.labels, stride = w.stride;
    static thread_local std::vector<double> kept;
    kept.assign(static_cast<size_t>(3 * stride), 0.0);
    double* terms = kept.data();
    double* own = terms + stride;
    double* next = own + stride;
    lattice.logarithms = true;
    const auto score = [&](int64_t t, int64_t j) {
        return allowed && !allowed[t * labels + j] ? kNever : static_cast<double>(scores[t * labels + j]);
    };
    for (int64_t t = 0; t < steps; ++t)
        for (int64_t j = 0; j < labels; ++j) {
            double& before = lattice.before[t * stride + j];
            if (t == 0) {
                before = w.start[static_cast<size_t>(j)] + score(t, j);
                continue;
            }
            const double* from = lattice.before + (t - 1) * stride;
            for (int64_t i = 0; i < labels; ++i) terms[i] = from[i] + w.scores[static_cast<size_t>(i * stride + j)];
            before = log_of_sum(terms, labels) + score(t, j);
        }
    const double* last = lattice.before + (steps - 1) * stride;
    for (int64_t j = 0; j < labels; ++j) terms[j] = last[j] + w.end[static_cast<size_t>(j)];
    lattice.total = log_of_sum(terms, labels);
    std::copy_n(w.end.data(), labels, own);
    for (int64_t t = steps; t-- > 0;) {
        for (int64_t j = 0; j < labels; ++j) {
            const double part = lattice.before[t * stride + j] + own[j];
            marginals[t * labels + j] = static_cast<float>(natural_exponential(part - lattice.total));
        }
        double* after = lattice.after ? lattice.after + t * stride : next;
        for (int64_t j = 0; j < labels; ++j) after[j] = score(t, j) + own[j];
        for (int64_t i = 0; t > 0 && i < labels; ++i) {
            for (int64_t j = 0; j < labels; ++j) terms[j] = w.scores[static_cast<size_t>(i * stride + j)] + after[j];
            own[i] = log_of_sum(terms, labels);
        }
    }
}

// What a thread keeps for its next sequence, unless this one was very long.
template <typename Item>
void release_large(std::vector<Item>& items) {
    if (items.capacity() > (1 << 20)) std::vector<Item>().swap(items);
}

// A path's end: its score, and which path of which label it continues.
struct Partial {
    double score = kNever;
    int32_t label = -1, rank = -1;
};

// The best path (Viterbi 1967). All labels that come after one are looked at together.
double find_best(const ChainWeights& w, const float* emissions, int64_t steps, int32_t* labels) {
    const int64_t count = w.labels, stride = w.stride;
    static thread_local std::vector<double> kept;
    static thread_local std::vector<int32_t> from;
    kept.assign(static_cast<size_t>(3 * stride), kNever);
    from.resize(static_cast<size_t>(steps * count));
    double* scores = kept.data();
    double* best = scores + stride;
    double* origins = best + stride;  // as float64, so that one comparison chooses both
    for (int64_t j = 0; j < count; ++j) scores[j] = w.start[static_cast<size_t>(j)] + static_cast<double>(emissions[j]);
    for (int64_t t = 1; t < steps; ++t) {
        std::fill_n(best, stride, kNever);
        std::fill_n(origins, stride, 0.0);
        for (int64_t i = 0; i < count; ++i) {
            const double before = scores[i], origin = static_cast<double>(i);
            const double* row = w.scores.data() + i * stride;
            for (int64_t j = 0; j < stride; ++j) {
                const double score = before + row[j];
                const bool better = score > best[j];
                best[j] = better ? score : best[j];
                origins[j] = better ? origin : origins[j];
            }
        }
        for (int64_t j = 0; j < count; ++j) {
            scores[j] = best[j] + static_cast<double>(emissions[t * count + j]);
            from[static_cast<size_t>(t * count + j)] = static_cast<int32_t>(origins[j]);
        }
    }
    int32_t at = 0;
    double score = kNever;
    for (int64_t j = 0; j < count; ++j)
        if (const double own = scores[j] + w.end[static_cast<size_t>(j)]; own > score)
            score = own, at = static_cast<int32_t>(j);
    for (int64_t t = steps; t-- > 0;) {
        labels[t] = at;
        if (t) at = from[static_cast<size_t>(t * count + at)];
    }
    release_large(from);
    return score;
}

// Of each label's best paths those of the labels before it are continued (Seshadri and Sundberg 1994, list Viterbi).
void find_several(const ChainWeights& w, const float* emissions, int64_t steps, int64_t paths, int32_t* labels,
                  int64_t row, std::vector<double>& scores) {
    const int64_t count = w.labels;
    static thread_local std::vector<Partial> all, ends;
    std::vector<Partial> found;
    all.assign(static_cast<size_t>(steps * count * paths), {});
    const auto ends_at = [&](int64_t t, int64_t j) { return all.data() + (t * count + j) * paths; };
    const auto keep_best = [&](Partial* to) {
        const auto better = [](const Partial& a, const Partial& b) {
            if (a.score != b.score) return a.score > b.score;
            return a.label != b.label ? a.label < b.label : a.rank < b.rank;
        };
        const auto most = std::min(found.size(), static_cast<size_t>(paths));
        std::partial_sort(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(most), found.end(), better);
        std::copy_n(found.begin(), most, to);
    };
    const auto collect = [&](int64_t t, int64_t i, double further) {
        for (int64_t n = 0; n < paths; ++n) {
            const double score = ends_at(t, i)[n].score + further;
            if (!(score > kNever)) break;
            found.push_back({score, static_cast<int32_t>(i), static_cast<int32_t>(n)});
        }
    };
    for (int64_t t = 0; t < steps; ++t)
        for (int64_t j = 0; j < count; ++j) {
            const double own = static_cast<double>(emissions[t * count + j]);
            found.clear();
            if (t == 0)
                found.push_back({w.start[static_cast<size_t>(j)], -1, -1});
            else
                for (int64_t i = 0; i < count; ++i) collect(t - 1, i, w.scores[static_cast<size_t>(i * w.stride + j)]);
            for (Partial& partial : found) partial.score += own;
            keep_best(ends_at(t, j));
        }
    found.clear();
    for (int64_t j = 0; j < count; ++j) collect(steps - 1, j, w.end[static_cast<size_t>(j)]);
    ends.assign(static_cast<size_t>(paths), {});
    keep_best(ends.data());
    for (int64_t path = 0; path < paths; ++path) {
        Partial at = ends[static_cast<size_t>(path)];
        scores.push_back(at.score);
        for (int64_t t = steps; t-- > 0;) {
            labels[path * row + t] = at.label;
            if (at.label >= 0) at = ends_at(t, at.label)[at.rank];
        }
    }
    release_large(all);
}

}  // namespace

void ChainWeights::set(const float* table, int64_t width, int64_t count, const uint8_t* forbidden) {
    labels = count;
    stride = chain_stride(count);
    const auto rows = static_cast<size_t>(labels * stride), row = static_cast<size_t>(stride);
    for (auto* numbers : {&scores, &factors, &columns}) numbers->assign(rows, 0.0);
    for (auto* numbers : {&start, &end, &start_factors, &end_factors}) numbers->assign(row, 0.0);
    const auto score = [&](int64_t i, int64_t j) {
        return forbidden && forbidden[i * labels + j] ? kNever : static_cast<double>(table[i * width + j]);
    };
    for (int64_t j = 0; j < labels; ++j) {
        for (int64_t i = 0; i < labels; ++i) scores[static_cast<size_t>(i * stride + j)] = score(i, j);
        start[static_cast<size_t>(j)] = score(labels, j);
        end[static_cast<size_t>(j)] = score(labels + 1, j);
    }
    shift = kNever;
    for (int64_t i = 0; i < labels; ++i)
        for (int64_t j = 0; j < labels; ++j) shift = std::max(shift, scores[static_cast<size_t>(i * stride + j)]);
    if (!(shift > kNever)) shift = 0;
    start_shift = largest_finite(start, 0, static_cast<size_t>(labels));
    end_shift = largest_finite(end, 0, static_cast<size_t>(labels));
    for (int64_t i = 0; i < labels; ++i) {
        for (int64_t j = 0; j < labels; ++j) {
            const double factor = natural_exponential(scores[static_cast<size_t>(i * stride + j)] - shift);
            factors[static_cast<size_t>(i * stride + j)] = columns[static_cast<size_t>(j * stride + i)] = factor;
        }
        const auto at = static_cast<size_t>(i);
        start_factors[at] = natural_exponential(start[at] - start_shift);
        end_factors[at] = natural_exponential(end[at] - end_shift);
    }
}

void fill_lattice(const ChainWeights& w, const float* scores, const uint8_t* allowed, int64_t steps, Lattice& lattice,
                  float* marginals) {
    if (!fill_scaled(w, scores, allowed, steps, lattice, marginals))
        fill_logarithmic(w, scores, allowed, steps, lattice, marginals);
}

void find_paths(const ChainWeights& w, const float* emissions, int64_t steps, int64_t paths, int32_t* labels,
                int64_t row, std::vector<double>& scores) {
    scores.clear();
    if (paths == 1)
        scores.push_back(find_best(w, emissions, steps, labels));
    else
        find_several(w, emissions, steps, paths, labels, row, scores);
}

double path_score(const ChainWeights& w, const float* emissions, const int32_t* labels, int64_t steps) {
    double score = 0;
    for (int64_t t = 0; t < steps; ++t) {
        const int64_t own = labels[t];
        score += t ? w.scores[static_cast<size_t>(labels[t - 1] * w.stride + own)] : w.start[static_cast<size_t>(own)];
        score += static_cast<double>(emissions[t * w.labels + own]);
    }
    return score + w.end[static_cast<size_t>(labels[steps - 1])];
}

}  // namespace bilstm
