// Layers from their descriptions.
#pragma once

#include <memory>

#include "api.h"
#include "layer.h"

namespace bilstm {

// What the layers before a layer have made of sequences.
struct Before {
    bool one_row_each;   // one row of each
    bool keeps_lengths;  // a row of each step
    bool ended;          // nothing that a layer can follow
};

// Throws Invalid for a size that no layer has; `what` says of what.
int64_t checked_size(int64_t size, const char* what);

// A layer that reads rows of `width` numbers. Throws Invalid for a description that makes no sense.
std::unique_ptr<Layer> make_layer(const bilstm_layer& layer, int64_t width, const Before& before);

}  // namespace bilstm
