#include "prepared.h"

#include "checks.h"

namespace bilstm {

bilstm_data EqualSequences::of(const Network* network, const float* values, int64_t sequences, int64_t steps) {
    require(network, "no network");
    check_complete(*network);
    require(steps >= 1, "sequences must have steps");
    check_rows(sequences, 1, "sequences");
    const int64_t total = checked_product(sequences, steps);
    check_rows(total, network->features(), "steps");
    check_rows(total, network->outputs(), "steps");
    check_array(values, "values", total == 0);
    offsets_.resize(static_cast<size_t>(sequences) + 1);
    for (size_t i = 0; i < offsets_.size(); ++i) offsets_[i] = static_cast<int64_t>(i) * steps;
    bilstm_data data{};
    data.values = values;
    data.offsets = offsets_.data();
    data.steps = total;
    data.sequences = sequences;
    return data;
}

const int64_t* EqualSequences::chosen() {
    while (chosen_.size() < offsets_.size()) chosen_.push_back(static_cast<int64_t>(chosen_.size()));
    return chosen_.data();
}

Prepared::Prepared(Network& network, const float* values, int64_t sequences, int64_t steps, bool rounded, float* output)
    : network_(network),
      data_(sequences_.of(&network, values, sequences, steps)),
      output_(output),
      rounded_(rounded),
      arranged_(network.arranged(data_)) {}

void Prepared::predict() {
    struct Turn {
        std::atomic<bool>& busy;
        ~Turn() { busy.store(false, std::memory_order_release); }
    };
    require(!busy_.exchange(true, std::memory_order_acquire),
            "a predictor is for one thread at a time: make one for each");
    const Turn turn{busy_};
    if (arranged_)
        network_.predict_arranged(*arranged_, data_, rounded_, output_);
    else
        network_.predict(data_, BILSTM_NO_LOSS, rounded_, nullptr, nullptr, nullptr, output_, nullptr);
}

}  // namespace bilstm
