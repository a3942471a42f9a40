// Linear chains of labels: a sequence's labels have a score, the sum of each step's score of its label and of each
// transition's, and a probability, the exponential of it divided by the sum of all sequences' exponentials (Lafferty,
// McCallum and Pereira 2001, "Conditional Random Fields").
//
// Computed in float64, one sequence by itself, each sum in one fixed order, so that the bits depend on nothing else.
#pragma once

#include <cstdint>
#include <vector>

namespace bilstm {

// Scores of transitions, their exponentials, and those of beginning and ending with a label. Rows of `stride` numbers,
// of which those after the labels are zeros in factors.
struct ChainWeights {
    int64_t labels = 0, stride = 0;
    std::vector<double> scores, factors, columns;  // (labels, stride): from, to; columns: factors transposed
    std::vector<double> start, end, start_factors, end_factors;
    double shift = 0, start_shift = 0, end_shift = 0;  // what factors are divided by, as a logarithm

    // From `table`: rows of `width` numbers, one for each label that comes before, then one of starts and one of ends.
    // Where `forbidden` (labels + 2, labels), unless it is null, is not 0, a transition has no probability.
    void set(const float* table, int64_t width, int64_t labels, const uint8_t* forbidden);
};

inline int64_t chain_stride(int64_t labels) {
    return (labels + 7) / 8 * 8;
}

// What is known of one sequence's labels. Rows of `stride` numbers for each step. With `before` for the sum over all
// that may come before a step, and `after` the same for a step and all that may follow, the probability of a transition
// from i to j is before[i] factors[i][j] after[j], or, where both are logarithms,
// exp(before[i] + scores[i][j] + after[j] - total).
struct Lattice {
    double* before;
    double* after;     // null: not kept
    double total = 0;  // the logarithm of the sum over all sequences of labels: minus infinity if there are none
    bool logarithms = false;
};

// Of the labels where `allowed` (steps, labels) is not 0, or of all where it is null. Fills `marginals` (steps,
// labels): each label's probability, rows of which add up to 1. `scores`: (steps, labels). Sums are scaled to 1 at each
// step (Rabiner 1989). Where that loses what is needed, it is done again with logarithms.
void fill_lattice(const ChainWeights&, const float* scores, const uint8_t* allowed, int64_t steps, Lattice&,
                  float* marginals);

// The `paths` best sequences of labels, the best first; of equal ones first that which has the lowest label at the last
// step, then at the one before. `labels`: rows of `row` numbers, one for each path, -1 where there are fewer. `scores`:
// of each, minus infinity where there are fewer. There must be one at least.
void find_paths(const ChainWeights&, const float* emissions, int64_t steps, int64_t paths, int32_t* labels, int64_t row,
                std::vector<double>& scores);

// The score of these labels: minus infinity where a transition is forbidden.
double path_score(const ChainWeights&, const float* emissions, const int32_t* labels, int64_t steps);

}  // namespace bilstm
