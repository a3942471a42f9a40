#include "dropout.h"

#include <algorithm>
#include <cmath>

#include "threads.h"

namespace bilstm {
namespace {

constexpr int kBlocks = 16;  // Philox blocks computed side by side, so that the compiler can use vectors

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

}  // namespace

Dropout::Dropout(int64_t width, float rate)
    : threshold_(static_cast<uint32_t>(std::floor(static_cast<double>(rate) * 4294967296.0))),
      scale_(static_cast<float>(1.0 / (1.0 - static_cast<double>(rate)))) {
    input_width = output_width = width;
}

void Dropout::forward(const Batch&, const Input& input, float* output, Scratch& scratch, const Mode& mode) const {
    const int64_t count = input.rows * input_width;
    if (!mode.dropping) {
        std::copy_n(input.data, count, output);
        if (mode.training) std::fill_n(scratch[kMask].reserve(count), count, 1.0f);
        return;
    }
    constexpr int64_t kChunk = 64 * 4 * kBlocks;
    float* mask = scratch[kMask].reserve(checked_product(input.rows, input_width));
    // A number's counter is its place in the whole batch, `before` numbers of which are in other shares.
    const int64_t before = mode.rows_before * input_width, first = before / kChunk;
    parallel((before + count + kChunk - 1) / kChunk - first, count * 16, [&](int64_t chunk) {
        uint32_t words[4][kBlocks];
        const int64_t begin = (first + chunk) * kChunk, end = std::min(before + count, begin + kChunk);
        for (int64_t at = begin; at < end; at += 4 * kBlocks) {
            philox(mode.seed, static_cast<uint64_t>(at / 4), static_cast<uint32_t>(index), mode.iteration, words);
            for (int64_t i = std::max(at, before); i < std::min(end, at + 4 * kBlocks); ++i) {
                mask[i - before] = words[i % 4][(i - at) / 4] >= threshold_ ? scale_ : 0.0f;
                output[i - before] = input.data[i - before] * mask[i - before];
            }
        }
    });
}

void Dropout::backward(const Batch&, const Input& input, const float*, float* output_gradient, float* input_gradient,
                       Scratch& scratch) {
    if (!input_gradient) return;
    const float* mask = scratch[kMask].data();
    for (int64_t i = 0; i < input.rows * input_width; ++i) input_gradient[i] = output_gradient[i] * mask[i];
}

}  // namespace bilstm
