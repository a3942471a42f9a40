#include "dropout.h"

#include <algorithm>
#include <cmath>

#include "threads.h"

namespace bilstm {
namespace {

constexpr int kBlocks = 16;              // Philox blocks computed side by side, so that the compiler can use vectors
constexpr int64_t kDrawn = 4 * kBlocks;  // numbers of these

// Philox4x32-10: J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Fills words[w][b] with
// word w of the block whose counter is (first + b, layer, iteration).
void philox(uint64_t seed, uint64_t first, uint32_t layer, uint32_t iteration, uint32_t (&words)[4][kBlocks]) {
    uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
    for (int b = 0; b < kBlocks; ++b) {
        words[0][b] = static_cast<uint32_t>(first + static_cast<uint64_t>(b));
        words[1][b] = static_cast<uint32_t>((first + static_cast<uint64_t>(b)) >> 32);
        words[2][b] = layer;
        words[3][b] = iteration;
    }
    for (int round = 0; round < 10; ++round) {
        for (int b = 0; b < kBlocks; ++b) {
            const uint64_t product0 = uint64_t{0xD2511F53} * words[0][b], product1 = uint64_t{0xCD9E8D57} * words[2][b];
            const uint32_t word1 = words[1][b], word3 = words[3][b];
            words[0][b] = static_cast<uint32_t>(product1 >> 32) ^ word1 ^ key0;
            words[1][b] = static_cast<uint32_t>(product1);
            words[2][b] = static_cast<uint32_t>(product0 >> 32) ^ word3 ^ key1;
            words[3][b] = static_cast<uint32_t>(product0);
        }
        key0 += 0x9E3779B9;
        key1 += 0xBB67AE85;
    }
}

// Each row of a sequence times the sequence's mask.
void multiply_rows(const float* rows, const float* mask, int64_t steps, int64_t width, float* to) {
    for (int64_t i = 0; i < steps * width; i += width)
        for (int64_t k = 0; k < width; ++k) to[i + k] = rows[i + k] * mask[k];
}

}  // namespace

DropoutMask::DropoutMask(float rate)
    : threshold_(static_cast<uint32_t>(std::floor(static_cast<double>(rate) * 4294967296.0))),
      scale_(static_cast<float>(1.0 / (1.0 - static_cast<double>(rate)))) {}

template <typename Use>
void DropoutMask::draw(const Mode& mode, int layer, int64_t first, int64_t count, Use&& use) const {
    uint32_t words[4][kBlocks];
    const int64_t end = first + count;
    for (int64_t at = first / kDrawn * kDrawn; at < end; at += kDrawn) {
        philox(mode.seed, static_cast<uint64_t>(at / 4), static_cast<uint32_t>(layer), mode.iteration, words);
        for (int64_t i = std::max(at, first); i < std::min(end, at + kDrawn); ++i)
            use(i - first, words[i % 4][(i - at) / 4] >= threshold_ ? scale_ : 0.0f);
    }
}

Dropout::Dropout(int64_t width, float rate) : drawn_(rate) {
    input_width = output_width = width;
}

void Dropout::forward(const Batch&, const Input& input, float* output, Scratch& scratch, const Mode& mode) const {
    const int64_t count = input.rows * input_width;
    if (!mode.dropping) {
        std::copy_n(input.data, count, output);
        if (mode.training) std::fill_n(scratch[kMask].reserve(count), count, 1.0f);
        return;
    }
    constexpr int64_t kChunk = 64 * kDrawn;
    float* mask = scratch[kMask].reserve(checked_product(input.rows, input_width));
    // A number's counter is its place in the whole batch, `before` numbers of which are in other shares.
    const int64_t before = mode.rows_before * input_width, first = before / kChunk;
    parallel((before + count + kChunk - 1) / kChunk - first, count * 16, [&](int64_t chunk) {
        const int64_t begin = std::max((first + chunk) * kChunk - before, int64_t{0});
        const int64_t end = std::min((first + chunk + 1) * kChunk - before, count);
        drawn_.draw(mode, index, before + begin, end - begin, [&](int64_t i, float factor) {
            mask[begin + i] = factor;
            output[begin + i] = input.data[begin + i] * factor;
        });
    });
}

void Dropout::backward(const Batch&, const Input& input, const float*, float* output_gradient, float* input_gradient,
                       Scratch& scratch) {
    if (!input_gradient) return;
    const float* mask = scratch[kMask].data();
    for (int64_t i = 0; i < input.rows * input_width; ++i) input_gradient[i] = output_gradient[i] * mask[i];
}

SpatialDropout::SpatialDropout(int64_t width, float rate) : drawn_(rate) {
    input_width = output_width = width;
    takes_gaps = true;
}

void SpatialDropout::forward(const Batch& batch, const Input& input, float* output, Scratch& scratch,
                             const Mode& mode) const {
    const int64_t width = input_width, count = checked_product(batch.sequences, width);
    float* mask = scratch[kMask].reserve(count);
    if (mode.dropping)
        drawn_.draw(mode, index, mode.sequences_before * width, count,
                    [&](int64_t i, float factor) { mask[i] = factor; });
    else
        std::fill_n(mask, count, 1.0f);
    parallel(batch.sequences, input.rows * width, [&](int64_t sorted) {
        const auto i = static_cast<size_t>(sorted);
        multiply_rows(input.data + input.starts[i] * width, mask + batch.order[i] * width, batch.length[i], width,
                      output + batch.start[i] * width);
    });
}

void SpatialDropout::backward(const Batch& batch, const Input& input, const float*, float* output_gradient,
                              float* input_gradient, Scratch& scratch) {
    if (!input_gradient) return;
    const int64_t width = input_width;
    const float* mask = scratch[kMask].data();
    parallel(batch.sequences, input.rows * width, [&](int64_t sorted) {
        const auto i = static_cast<size_t>(sorted);
        const int64_t row = batch.start[i] * width;
        multiply_rows(output_gradient + row, mask + batch.order[i] * width, batch.length[i], width,
                      input_gradient + row);
    });
}

}  // namespace bilstm
