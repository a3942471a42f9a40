// The engine's C interface. Every function returns 0, or an error code; bilstm_last_error() then says what was wrong,
// for the calling thread. Nothing is kept of the arrays passed in, but by bilstm_prepare. Null and misaligned pointers,
// sizes, offsets and indexes that contradict each other are refused before anything is read through them; that an array
// has the stated length, only the caller can know. A call that fails leaves the weights as the last whole training step
// left them.
#pragma once

#include <stdint.h>

#if defined(_WIN32)
#define BILSTM_API __declspec(dllexport)
#else
#define BILSTM_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum { BILSTM_OK = 0, BILSTM_INVALID = 1, BILSTM_OUT_OF_MEMORY = 2, BILSTM_FAILED = 3, BILSTM_INTERRUPTED = 4 };
enum { BILSTM_ABI = 12 };
enum { BILSTM_MOST_SHARES = 8 };  // of a batch

typedef struct bilstm_network bilstm_network;
typedef struct bilstm_prediction bilstm_prediction;
typedef struct bilstm_pass bilstm_pass;

enum {
    BILSTM_RECURRENT = 0,
    BILSTM_DENSE = 1,
    BILSTM_DROPOUT = 2,
    BILSTM_EMBEDDING = 3,
    BILSTM_POOLING = 4,
    BILSTM_SPATIAL_DROPOUT = 5,  // one mask for all steps of a sequence
    BILSTM_ATTENTION_POOLING = 6,
    BILSTM_CONVOLUTION = 7,
    BILSTM_WINDOW_POOLING = 8,  // the windows' averages or maxima: sequences become shorter
    BILSTM_BATCH_NORMALIZATION = 9,
    BILSTM_CRF = 10,   // the last layer: probabilities of labels from their scores, given the whole sequence
    BILSTM_WORDS = 11  // replaces a row's last column, the index of a word, by the word's encoding, which comes first
};

// What predictions multiply by: weights as they are, or those of recurrent, dense, attention pooling and convolution
// layers, but no biases, queries, embeddings or transitions, rounded to bfloat16, which halves what is read of them.
// All arithmetic is float32's.
enum { BILSTM_FLOAT32 = 0, BILSTM_BFLOAT16 = 1 };

// What training minimises. A row's loss is the mean over its outputs, but for categorical cross-entropy their sum.
typedef enum bilstm_loss {
    BILSTM_NO_LOSS = -1,              // of predictions that are not scored
    BILSTM_BINARY_CROSSENTROPY,       // labels 0 and 1 for a single output; or targets from 0 to 1
    BILSTM_CATEGORICAL_CROSSENTROPY,  // labels, the number of an output; or targets from 0 to 1
    BILSTM_MEAN_SQUARED_ERROR,        // targets, any numbers
    BILSTM_MEAN_ABSOLUTE_ERROR,       // targets, any numbers
    BILSTM_HUBER,                     // targets, any numbers; linear from an error of 1 on
    // Of networks that end with a CRF, which have no other: minus the logarithm of the probability of a sequence's
    // labels, or of all labels that have a target above 0 or are unlabelled. Weights are sequences'.
    BILSTM_CRF_LIKELIHOOD,
    BILSTM_LOSSES  // how many there are
} bilstm_loss;

// A GRU's reset gate comes after the recurrent product, or before it.
enum { BILSTM_LSTM = 0, BILSTM_GRU = 1, BILSTM_GRU_RESET_BEFORE = 2, BILSTM_SIMPLE_TANH = 3, BILSTM_SIMPLE_RELU = 4 };

// What squashes the sums of an LSTM's or a GRU's gates: of hard sigmoids, Keras 3's is clip(x / 6 + 1/2, 0, 1), Keras
// 2's clip(x / 5 + 1/2, 0, 1).
enum { BILSTM_SIGMOID = 0, BILSTM_HARD_SIGMOID = 1, BILSTM_HARD_SIGMOID_KERAS2 = 2 };

// One direction of a recurrent layer.
typedef struct bilstm_direction {
    int64_t units;
    int32_t reverse;  // processes sequences from their last step
    int32_t flip;     // stores its n-th output at the n-th place from the end
    int32_t cell;     // BILSTM_LSTM, …
    int32_t gates;    // BILSTM_SIGMOID, …
    int32_t without_bias;
} bilstm_direction;

typedef struct bilstm_layer {
    int32_t kind;
    int32_t index;             // position in the model: part of dropout's counter
    int32_t directions;        // recurrent: 1 or 2
    bilstm_direction ways[2];  // recurrent
    int32_t merge;             // recurrent, of two directions: 0 concat, 1 sum, 2 mul, 3 ave
    int32_t return_sequences;  // recurrent
    int64_t units;             // dense, attention pooling, convolution, CRF
    int32_t activation;        // dense, convolution: 0 linear, 1 sigmoid, 2 softmax, 3 tanh, 4 relu
    float rate;                // dropout, spatial dropout; batch normalization: what moving averages take of a batch
    int64_t numeric;           // embedding: columns passed on
    int64_t tables;            // embedding
    const int64_t* vocabularies;
    const int64_t* dimensions;
    int32_t pool;          // pooling, window pooling: 0 average, 1 maximum
    int64_t window;        // convolution, window pooling: rows of a window
    int64_t stride;        // window pooling: steps from a window to the next
    int64_t dilation;      // convolution: steps from a row of a window to the next
    int32_t same;          // window pooling: Keras's padding="same", else "valid"
    int32_t causal;        // convolution: a window ends at its step, rather than lying around it
    int32_t without_bias;  // dense, convolution, batch normalization
    // CRF: null, or (units + 2, units): which transitions are forbidden, from each label and, in the last two rows, to
    // and from the labels at a sequence's ends.
    const uint8_t* forbidden;
    int32_t without_scale;  // batch normalization
    float epsilon;          // batch normalization: added to variances
    // Embedding: null, or (tables): tables that training leaves as they are; and shares of indices that in training
    // become 0, a value that is not known.
    const uint8_t* frozen;
    const float* index_dropout;
    // Words: the layers that make one row of a word's rows, and the columns of these. They must neither drop values nor
    // normalize batches nor know states.
    const struct bilstm_layer* encoder;
    int32_t encoder_layers;
    int64_t word_features;
} bilstm_layer;

// Sequences, and what their rows should be. A row is a step, or a sequence where the network's output has one row for
// each sequence.
typedef struct bilstm_data {
    const float* values;     // (steps, features)
    const int64_t* offsets;  // (sequences + 1)
    int64_t steps;
    int64_t sequences;
    const int32_t* labels;  // (rows) or null; -1 is unlabelled
    const float* targets;   // (rows, outputs) or null; NaN is unlabelled
    const float* weights;   // (rows) or null
    // Of networks with a layer of words, else null: their rows one after the other, such as indices of characters, and
    // where each begins and ends. All layers of a network have the words in common.
    const float* word_values;     // (word_offsets[words], word_features)
    const int64_t* word_offsets;  // (words + 1)
    int64_t words;
    int64_t word_features;
} bilstm_data;

typedef struct bilstm_optimizer {
    int32_t kind;  // 0 Adam, 1 gradient descent
    float learning_rate, beta_1, beta_2, epsilon;
    float clipnorm, global_clipnorm, clipvalue;  // 0: none
    float weight_decay;  // a step also takes learning_rate * weight_decay of each weight away; 0: none
} bilstm_optimizer;

// How long calls ask their caller, a few times a second, whether to end: with BILSTM_INTERRUPTED, if pending() is not
// 0. enter() and leave() go around it; keep() may put away why. Of Python: PyGILState_Ensure, PyErr_CheckSignals,
// PyErr_Fetch and PyGILState_Release.
typedef struct bilstm_interrupt {
    int32_t (*enter)(void);
    int32_t (*pending)(void);
    void (*keep)(void** first, void** second, void** third);
    void (*leave)(int32_t entered);
} bilstm_interrupt;

// What keep() put away.
typedef struct bilstm_interruption {
    void *first, *second, *third;
} bilstm_interruption;

// Sums over the labelled rows of a batch.
typedef struct bilstm_score {
    double loss, rows, correct, squared_error, absolute_error;
} bilstm_score;

BILSTM_API int32_t bilstm_abi(void);
BILSTM_API int32_t bilstm_supported(void);   // whether this processor can run this build; the only call safe before
BILSTM_API const char* bilstm_target(void);  // the instruction set's name
BILSTM_API const char* bilstm_last_error(void);
BILSTM_API int32_t bilstm_set_threads(int32_t threads);  // 0: as many as there are processors
BILSTM_API int32_t bilstm_threads(void);
BILSTM_API int32_t bilstm_set_interrupt(const bilstm_interrupt* hooks);          // null: none; they must stay there
BILSTM_API int32_t bilstm_last_interruption(bilstm_interruption* interruption);  // of the calling thread

BILSTM_API int32_t bilstm_create(const bilstm_layer* layers, int32_t count, int64_t features, bilstm_network** out);
BILSTM_API void bilstm_destroy(bilstm_network* network);
BILSTM_API int32_t bilstm_describe(const bilstm_network* network, int64_t* parameters, int64_t* outputs,
                                   int32_t* one_row_each, int64_t* state_width);

// All weights (0), gradients (1), first (2) or second moments (3), or averages (4: at first the weights), one after the
// other as get_weights() orders them. Among weights are a batch normalization's moving averages, which optimizers do
// not change; as their gradients count how far they are from the batch's numbers, of which bilstm_update takes a
// fraction away.
BILSTM_API int32_t bilstm_read(bilstm_network* network, int32_t which, float* to, int64_t count);
BILSTM_API int32_t bilstm_write(bilstm_network* network, int32_t which, const float* from, int64_t count);
// Training steps taken; counts for Adam's bias correction and for dropout.
BILSTM_API int32_t bilstm_iteration(bilstm_network* network, int64_t* iteration, int32_t set);
// Whether training keeps less of a batch in memory, by a third more arithmetic. The results are the same.
BILSTM_API int32_t bilstm_set_recompute(bilstm_network* network, int32_t recompute);

// `loss` is a bilstm_loss, here and below.
// One training step for each of `batches` batches; batch i is chosen[starts[i]] … chosen[starts[i + 1] - 1] of the
// `count` chosen sequences. scores has one entry per batch.
BILSTM_API int32_t bilstm_train(bilstm_network* network, const bilstm_data* data, const int64_t* chosen, int64_t count,
                                const int64_t* starts, int64_t batches, int32_t loss, const bilstm_optimizer* optimizer,
                                uint64_t seed, bilstm_score* scores);
// One training step on all of `sequences` sequences of `steps` steps each, for callers to whom microseconds matter.
// targets: (rows, outputs), from 0 to 1, or NaN or -1 where unlabelled; anything else, or a value that is not finite,
// is invalid.
BILSTM_API int32_t bilstm_train_equal(bilstm_network* network, const float* values, const float* targets,
                                      int64_t sequences, int64_t steps, int32_t loss, const bilstm_optimizer* optimizer,
                                      uint64_t seed, bilstm_score* score);
// The two halves of a training step. `training` says whether dropout drops. The states are those of bilstm_predict:
// gradients go no further back than the first steps.
BILSTM_API int32_t bilstm_gradient(bilstm_network* network, const bilstm_data* data, const int64_t* chosen,
                                   int64_t count, int32_t loss, int32_t training, uint64_t seed, const float* states_in,
                                   float* states_out, bilstm_score* score);
// A training step by several workers, who have the same weights and each some shares of the batch: each computes its
// shares' gradients (bilstm_gradient_of_shares) and, once the largest magnitude of all workers is known, their sum
// (bilstm_sum_shares). The sums, added up in float64 in any order, are written as gradients (bilstm_write) by all, who
// update alike. However the shares are given out, the weights have the bits that bilstm_train gives them.
// How a batch of sequences of these lengths is divided into shares: `order` (count) gets positions in the batch, and
// share i is order[bounds[i]] … order[bounds[i + 1] - 1]; `bounds` (BILSTM_MOST_SHARES + 1). A batch that is normalized
// is one share.
BILSTM_API int32_t bilstm_divide(const bilstm_network* network, const int64_t* lengths, int64_t count, int64_t* order,
                                 int64_t* bounds, int64_t* shares);
// Share i is the sequences chosen[bounds[i]] … chosen[bounds[i + 1] - 1], with these `positions` (count) in the batch.
// `labelled`: rows of the whole batch that are. `scores`: one for each share; the batch's is their sum, first to last.
BILSTM_API int32_t bilstm_gradient_of_shares(bilstm_network* network, const bilstm_data* data, const int64_t* chosen,
                                             const int64_t* positions, int64_t count, const int64_t* bounds,
                                             int64_t shares, int64_t labelled, int32_t loss, int32_t training,
                                             uint64_t seed, bilstm_score* scores, float* magnitude);
// `all_shares`: of the batch. `sums` (count): for each weight, in the order of bilstm_read.
BILSTM_API int32_t bilstm_sum_shares(bilstm_network* network, int64_t all_shares, float magnitude, double* sums,
                                     int64_t count);
BILSTM_API int32_t bilstm_update(bilstm_network* network, const bilstm_optimizer* optimizer);
// For callers whose loss is their own. A forward pass over all sequences, with outputs as bilstm_predict gives them,
// which keeps what its backward pass needs; `training` says whether dropout drops. The values of the data and states_in
// must stay as they are, and the network must stay, until bilstm_forget_pass.
BILSTM_API int32_t bilstm_forward(bilstm_network* network, const bilstm_data* data, int32_t training, uint64_t seed,
                                  const float* states_in, float* states_out, float* output, bilstm_pass** out);
// From the gradient of the outputs and, unless it is null, of the states after the last steps: the gradients of weights
// (bilstm_read) and, unless null, of inputs (steps, features) and of states_in. As often as wanted, while the weights
// are the same.
BILSTM_API int32_t bilstm_backward(bilstm_pass* pass, const float* output_gradient, const float* states_gradient,
                                   float* input_gradient, float* first_states_gradient);
BILSTM_API void bilstm_forget_pass(bilstm_pass* pass);
// Moves the averages a fraction, from 0 to 1, of the way to the weights.
BILSTM_API int32_t bilstm_average(bilstm_network* network, float fraction);

// Outputs for all sequences, in the order of the data. Unless `score` is null, scores them by `loss`, which is not read
// otherwise; `output` may then be null.
// The states may be null; else (sequences, state_width), before the first and after the last step. They are invalid
// where a layer reads the rows of several steps, since they do not say what those before were. Unless it is null,
// `leave_at` says for each sequence after how many of its steps, from 1 to all, those of directions that read it
// forwards are left instead: so a piece can hold steps that the next will read again.
BILSTM_API int32_t bilstm_predict(bilstm_network* network, const bilstm_data* data, int32_t loss, int32_t precision,
                                  const float* states_in, float* states_out, const int64_t* leave_at, float* output,
                                  bilstm_score* score);
// Of a network that ends with a CRF, besides its outputs, each null or: `labels` (paths, steps) and `log_probabilities`
// (paths, sequences) of each sequence's likeliest labels, -1 and minus infinity where there are fewer; of equally
// likely ones first that with the lowest label at the last step where they differ; and `log_likelihoods` (sequences) of
// the data's labels or targets.
BILSTM_API int32_t bilstm_decode(bilstm_network* network, const bilstm_data* data, int32_t precision, int64_t paths,
                                 float* output, int32_t* labels, double* log_probabilities, double* log_likelihoods);
// What bilstm_predict gives for sequences of `steps` steps each, without states: for callers to whom microseconds
// matter.
BILSTM_API int32_t bilstm_predict_equal(bilstm_network* network, const float* values, int64_t sequences, int64_t steps,
                                        int32_t precision, float* output);
// The same, made ready once: each bilstm_predict_prepared predicts from what `values` then holds, with the weights of
// the moment, into `output`. Both arrays and the network must stay until the last; bilstm_forget ends it.
// For one thread at a time: a second is refused.
BILSTM_API int32_t bilstm_prepare(bilstm_network* network, const float* values, int64_t sequences, int64_t steps,
                                  int32_t precision, float* output, bilstm_prediction** out);
BILSTM_API int32_t bilstm_predict_prepared(bilstm_prediction* prediction);
BILSTM_API void bilstm_forget(bilstm_prediction* prediction);

// The index of the first number that is NaN or infinite, or -1.
BILSTM_API int64_t bilstm_first_not_finite(const float* values, int64_t count);
// Replaces -1, which people write for "unlabelled", by NaN. Returns the index of the first number that is neither that
// nor NaN nor from 0 to 1, or -1.
BILSTM_API int64_t bilstm_mark_unlabelled(float* targets, int64_t count);

#ifdef __cplusplus
}
#endif
