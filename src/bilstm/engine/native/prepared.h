// Sequences that all have the same number of steps, and predictions of such that are made over and over.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "network.h"

namespace bilstm {

// Their offsets and numbers, kept between calls.
class EqualSequences {
  public:
    // Throws Invalid where they cannot be a network's input.
    bilstm_data of(const Network* network, const float* values, int64_t sequences, int64_t steps);
    const int64_t* chosen();  // all of them

  private:
    std::vector<int64_t> offsets_, chosen_;
};

// Predicts from one array into another, which both stay where they are, whatever they and the weights then hold. What
// is the same each time is done once. For one thread at a time. Needs the network to predict, not to end.
class Prepared {
  public:
    Prepared(Network& network, const float* values, int64_t sequences, int64_t steps, bool rounded, float* output);
    Prepared(const Prepared&) = delete;
    Prepared& operator=(const Prepared&) = delete;

    Network& network() { return network_; }
    bool rounded() const { return rounded_; }
    void predict();  // throws Invalid while another thread is at it

  private:
    Network& network_;
    EqualSequences sequences_;
    bilstm_data data_;
    float* output_;
    bool rounded_;
    std::unique_ptr<Workspace> arranged_;  // null where there are several pieces
    std::atomic<bool> busy_{false};
};

}  // namespace bilstm
