// Losses and what is counted in addition.
#pragma once

#include <cstdint>

#include "api.h"
#include "dense.h"

namespace bilstm {

using Loss = bilstm_loss;

// What a loss takes as targets.
enum class TargetKind {
    binary,       // labels 0 and 1 for a single output, or numbers from 0 to 1
    categorical,  // labels, or numbers from 0 to 1
    numbers       // no labels; any numbers
};
TargetKind target_kind(Loss loss);

// How many classes the labels of a loss may name: 0 where it takes targets only.
int64_t classes(Loss loss, int64_t outputs);

// What rows should have been. `labels` for classes (-1: unlabelled), else `targets` of `width` numbers per row (a NaN
// among them: unlabelled). `weights` may be null. Row `i` of the batch is row rows[i] of these arrays.
struct Targets {
    const int32_t* labels = nullptr;
    const float* targets = nullptr;
    const float* weights = nullptr;
    int64_t width = 0;
};

// Sums over labelled rows.
struct Score {
    double loss = 0;     // weighted
    double rows = 0;     // labelled
    double correct = 0;  // by threshold one half for binary targets and single numbers, else by the largest output
    double squared_error = 0, absolute_error = 0;  // means over a row's outputs
};

// True where the gradient of the loss joins with that of the activation: gradient = output - target.
bool matched(Loss loss, Activation activation);

// How many of some rows are labelled. Throws Invalid for a label that is no class.
int64_t count_labelled(Loss loss, const Targets& targets, const int64_t* target_rows, int64_t rows);

// Scores rows of outputs, which count_labelled has seen. Unless it is null, `gradient` gets d(loss / all_labelled) /
// d output, or, for a matched loss, / d the activation's input.
// As Keras does it: cross-entropy from probabilities clipped to [1e-7, 1 - 1e-7] unless matched.
Score score(Loss loss, Activation activation, const float* output, int64_t rows, const Targets& targets,
            const int64_t* target_rows, int64_t all_labelled, float* gradient);

}  // namespace bilstm
