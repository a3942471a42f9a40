// A chain of layers with a loss and an optimizer: prediction, gradients, training steps.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "api.h"
#include "head.h"
#include "layer.h"
#include "loss.h"
#include "optimizer.h"
#include "shares.h"
#include "threads.h"

namespace bilstm {

// A network with at most this number of weights has each thread compute shares or pieces of its own, from all weights,
// which its processor's cache then holds; with more, threads go through one after the other together. To predict there
// is less to gain from going through all layers in one thread.
inline constexpr int64_t kOwnWeights = 300'000, kOwnWeightsToPredict = 200'000;

// All buffers of one running call, or share of it. Kept between calls.
struct Workspace {
    explicit Workspace(size_t layers) : scratch(layers), outputs(layers) {}

    Batch batch;
    std::vector<Scratch> scratch;
    std::vector<Buffer> outputs;
    Buffer gathered, gradients[2];
    std::vector<int64_t> chosen, pieces, target_rows;
    Input input{};  // of the first layer
    int64_t rows = 0;
    int64_t calls = 0;

    // Before a call: now and then gives back what the latest did not need. Returns whether it did.
    bool settle();
};

// Shares of a batch, or those that one of several workers computes: chosen sequences, one share after the other. Share
// i is chosen[bounds[i]] … chosen[bounds[i + 1] - 1].
struct Shares {
    const int64_t* chosen;
    const int64_t* positions;  // of these sequences in the whole batch
    const int64_t* bounds;
    int64_t count;
};

inline WordTable words_of(const bilstm_data& data) {
    return {data.word_values, data.word_offsets, data.words, data.word_features};
}

// Calls after which memory that they did not need is given back.
inline constexpr int64_t kCallsBetween = 16;

// Safe to use from many threads: predictions run side by side; training waits for them and they for it.
class Network {
  public:
    Network(const bilstm_layer* layers, int32_t count, int64_t features);
    ~Network() { delete spare_.load(); }
    Network(const Network&) = delete;
    Network& operator=(const Network&) = delete;

    int64_t parameter_count() const;
    int64_t features() const { return features_; }
    int64_t outputs() const { return layers_.back()->output_width; }
    bool one_row_each() const { return one_row_each_; }
    int64_t state_width() const { return state_width_; }
    bool has_head() const { return head_; }
    int64_t most_shares() const { return needs_whole_batch_ ? 1 : kMostShares; }  // of a batch
    bool complete() const { return keeps_lengths_ || one_row_each_; }  // there is a row for each step or sequence

    enum Which : int32_t { kWeights = 0, kGradients = 1, kFirstMoments = 2, kSecondMoments = 3, kAverages = 4 };
    void read(Which which, float* to);
    void write(Which which, const float* from);
    void set_recompute(bool recompute);
    int64_t iteration = 0;
    ForkedLock guard;

    void train(const bilstm_data& data, const int64_t* chosen, const int64_t* starts, int64_t batches, Loss loss,
               const Optimizer& optimizer, uint64_t seed, bilstm_score* scores);
    void gradient(const bilstm_data& data, const int64_t* chosen, int64_t count, Loss loss, bool training,
                  uint64_t seed, const float* states_in, float* states_out, bilstm_score* score);
    // A forward pass over all sequences, whose workspace keeps what `backward` needs, while weights_version is the
    // same.
    std::unique_ptr<Workspace> forward_kept(const bilstm_data& data, bool training, uint64_t seed,
                                            const float* states_in, float* states_out, float* output);
    // From the gradient of these outputs, those of weights and, unless null, of inputs.
    void backward_kept(Workspace&, const float* output_gradient, const StateGradients&, float* input_gradient);
    void give_back(std::unique_ptr<Workspace> workspace);
    int64_t weights_version() const { return weights_version_; }
    // A worker's part of a step: computes the gradients of some shares of a batch that has `labelled` rows, and a score
    // for each share. Returns the gradients' largest magnitude.
    float gradient_of_shares(const bilstm_data& data, const Shares& shares, int64_t labelled, Loss loss, bool training,
                             uint64_t seed, bilstm_score* scores);
    // Writes the sum of these gradients, of a batch of all_shares whose largest magnitude is given: sums of several
    // workers may be added in any order.
    void sum_shares(int64_t all_shares, float magnitude, double* sums);
    void update(const Optimizer& optimizer);
    void average(float fraction);
    // With weights rounded to bfloat16 if asked for, which round_weights must have prepared since they last changed.
    void predict(const bilstm_data& data, Loss loss, bool rounded, const float* states_in, float* states_out,
                 const int64_t* leave_at, float* output, bilstm_score* score, const Decoding* decoding = nullptr);
    // For sequences that are one piece, a workspace in which they are arranged; else null. Then predictions of them
    // from the same place.
    std::unique_ptr<Workspace> arranged(const bilstm_data& data) const;
    void predict_arranged(Workspace&, const bilstm_data& data, bool rounded, float* output) const;
    bool weights_rounded() const { return weights_rounded_; }
    void round_weights();

  private:
    void add(const bilstm_layer& layer, int64_t width);
    // Of sequences that are arranged in the workspace, in the order they are `chosen` in.
    const float* forward(Workspace&, const bilstm_data&, const int64_t* chosen, Mode) const;
    // Of the layers before `end`, from the gradient of their output, in gradients[0].
    void backward(Workspace&, size_t end, float* gradient, float* input_gradient = nullptr);
    Input input_of(const Workspace&, size_t layer) const;
    // Scores an output; with the gradients of all weights, unless `labelled`, of the whole batch, is 0.
    Score learn(Workspace&, const float* output, Loss, const Targets&, const int64_t* target_rows, int64_t labelled);
    Score judge(Workspace&, const float* output, Loss, const Targets&) const;
    void check_states(const float* states_in, const float* states_out) const;
    void fill_gradients_of(Workspace&, size_t share, const StateGradients&);
    int64_t length_after(size_t layer, const bilstm_data&, int64_t sequence) const;
    // The sequences as they reach a layer: those before it may have changed their lengths.
    const Batch& batch_before(const Workspace&, size_t layer) const;
    void add_target_rows(const bilstm_data&, const int64_t* chosen, int64_t count, std::vector<int64_t>& rows) const;
    const std::vector<int64_t>& cut_in_pieces(Workspace&, const bilstm_data&) const;
    // The batch's sequences, share by share.
    Shares divide(const bilstm_data&, const int64_t* chosen, int64_t count);
    void reserve_shares(int64_t shares);
    // Fills scores_. `labelled`: of the whole batch, or -1 where these shares are all. Returns it.
    int64_t compute(const bilstm_data&, const Shares&, int64_t labelled, Loss, bool training, uint64_t seed,
                    const float* states_in = nullptr, float* states_out = nullptr);
    float* share_gradient(size_t share, size_t parameter);
    float largest_gradient();
    void add_shares();
    void clear_gradients();
    Activation last_activation() const { return last_dense_ ? last_dense_->activation() : Activation::linear; }
    std::unique_ptr<Workspace> borrow();

    int64_t features_;
    std::vector<std::unique_ptr<Layer>> layers_;
    std::vector<Parameter*> parameters_;
    std::vector<Parameter*> learnt_, averages_;  // of these, what optimizers change, and what moves (Parameter::moves)
    std::vector<size_t> parameters_before_;      // each layer, and all
    Dense* last_dense_ = nullptr;
    Head* head_ = nullptr;  // the last layer, if it is one
    bool one_row_each_ = false, reads_around_ = false, needs_whole_batch_ = false;
    bool keeps_lengths_ = true;     // a step of a sequence is one until the end, or until all become one row
    bool weights_rounded_ = false;  // from the weights as they are
    int64_t state_width_ = 0, weights_version_ = 0;
    size_t first_learnt_ = 0;  // the first layer with weights: gradients go no further back
    // Multiply-adds of a step, forward; without padding, since what is decided by it must not depend on a vector's
    // width.
    int64_t weights_per_step_ = 0;
    Division division_;
    std::vector<int64_t> lengths_, chosen_;          // of the batch's sequences; share by share
    std::vector<int64_t> target_rows_, first_rows_;  // of the shares' rows; where a share's begin
    std::vector<Score> scores_;                      // of the shares
    std::vector<float> first_states_;
    std::vector<std::unique_ptr<Workspace>> training_;  // for each share, or the first for one after the other
    std::vector<std::vector<Buffer>> further_;          // gradients of shares after the first: [share - 1][parameter]
    size_t computed_ = 0;                               // shares whose gradients there are
    size_t most_shares_ = 0, divided_ = 0;              // the most there were lately
    ForkedLock idle_guard_;
    std::vector<std::unique_ptr<Workspace>> idle_;
    size_t fewest_idle_ = 0;                  // there were lately
    std::atomic<Workspace*> spare_{nullptr};  // one more, without a lock: all that a single thread needs
};

}  // namespace bilstm
