#include "window_pooling.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "threads.h"

namespace bilstm {

WindowPooling::WindowPooling(int64_t width, Pool pool, int64_t window, int64_t stride, bool same)
    : pool_(pool), window_(window), stride_(stride), same_(same) {
    input_width = output_width = width;
    takes_gaps = true;
    changes_lengths = reads_around = true;
}

int64_t WindowPooling::length_after(int64_t length) const {
    if (same_) return (length + stride_ - 1) / stride_;
    return length < window_ ? 0 : (length - window_) / stride_ + 1;
}

WindowPooling::Rows WindowPooling::window_of(int64_t n, int64_t length) const {
    const int64_t beyond = same_ ? std::max<int64_t>(0, (length_after(length) - 1) * stride_ + window_ - length) : 0;
    const int64_t begin = n * stride_ - beyond / 2;
    return {std::max<int64_t>(0, begin), std::min(length, begin + window_)};
}

void WindowPooling::forward(const Batch& batch, const Input& input, float* output, Scratch& scratch,
                            const Mode&) const {
    const int64_t width = input_width;
    const auto count = static_cast<size_t>(batch.sequences);
    std::vector<int64_t>& offsets = scratch.offsets;
    offsets.assign(count + 1, 0);
    for (size_t i = 0; i < count; ++i) {
        const int64_t after = length_after(batch.length[i]);
        if (!after)
            throw Invalid("sequence " + std::to_string(batch.sequence[i]) +
                          " is too short for pooling: " + std::to_string(batch.length[i]) +
                          " steps are left of it, and a window has " + std::to_string(window_));
        offsets[static_cast<size_t>(batch.order[i]) + 1] = after;
    }
    std::partial_sum(offsets.begin(), offsets.end(), offsets.begin());
    std::vector<int64_t>& all = scratch.chosen;
    all.resize(count);
    std::iota(all.begin(), all.end(), int64_t{0});
    scratch.after.arrange(offsets.data(), all.data(), batch.sequences);
    for (size_t i = 0; i < count; ++i) all[static_cast<size_t>(batch.order[i])] = batch.sequence[i];
    for (size_t i = 0; i < count; ++i) scratch.after.sequence[i] = all[static_cast<size_t>(scratch.after.order[i])];
    parallel(batch.sequences, input.rows * width, [&](int64_t sorted) {
        const auto i = static_cast<size_t>(sorted);
        const int64_t length = batch.length[i], position = batch.order[i];
        const float* rows = input.data + input.starts[i] * width;
        float* to = output + offsets[static_cast<size_t>(position)] * width;
        for (int64_t n = 0; n < length_after(length); ++n, to += width) {
            const Rows own = window_of(n, length);
            std::copy_n(rows + own.begin * width, width, to);
            for (int64_t row = own.begin + 1; row < own.end; ++row)
                for (int64_t k = 0; k < width; ++k) {
                    const float value = rows[row * width + k];
                    if (pool_ == Pool::average)
                        to[k] += value;
                    else
                        to[k] = value > to[k] || value != value ? value : to[k];
                }
            if (pool_ == Pool::average)
                for (int64_t k = 0; k < width; ++k) to[k] /= static_cast<float>(own.end - own.begin);
        }
    });
}

void WindowPooling::backward(const Batch& batch, const Input& input, const float* output, float* output_gradient,
                             float* input_gradient, Scratch& scratch) {
    if (!input_gradient) return;
    const int64_t width = input_width;
    parallel(batch.sequences, input.rows * width, [&](int64_t sorted) {
        const auto i = static_cast<size_t>(sorted);
        const int64_t length = batch.length[i], first = scratch.offsets[static_cast<size_t>(batch.order[i])];
        const float* rows = input.data + input.starts[i] * width;
        float* to = input_gradient + batch.start[i] * width;
        std::fill_n(to, length * width, 0.0f);
        for (int64_t n = 0; n < length_after(length); ++n) {
            const Rows own = window_of(n, length);
            const float* gradient = output_gradient + (first + n) * width;
            if (pool_ == Pool::average) {
                for (int64_t row = own.begin; row < own.end; ++row)
                    for (int64_t k = 0; k < width; ++k)
                        to[row * width + k] += gradient[k] / static_cast<float>(own.end - own.begin);
                continue;
            }
            const float* most = output + (first + n) * width;
            for (int64_t k = 0; k < width; ++k) {  // of equal maxima the first has the gradient, as in Keras
                int64_t row = own.begin;
                while (row + 1 < own.end && rows[row * width + k] != most[k]) ++row;
                to[row * width + k] += gradient[k];
            }
        }
    });
}

}  // namespace bilstm
