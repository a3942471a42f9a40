#include "dropout.h"

#include <algorithm>
#include <cmath>

#include "threads.h"

namespace bilstm {
namespace {

constexpr int kBlocks = kDrawn / 4;  // Philox blocks computed side by side, so that the compiler can use vectors
constexpr int64_t kMostDrawn = int64_t{4} << 32;  // for a sequence: there are as many blocks as 32 bits count

// Philox4x32-10: J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Fills words[w][b] with
// word w of the block whose counter is (first + b, position, layer, iteration).
void philox(uint64_t seed, uint32_t first, uint32_t position, uint32_t layer, uint32_t iteration,
            uint32_t (&words)[4][kBlocks]) {
    uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
    for (int b = 0; b < kBlocks; ++b) {
        words[0][b] = first + static_cast<uint32_t>(b);
        words[1][b] = position;
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

void draw_words(const Mode& mode, int layer, int64_t position, int64_t first, uint32_t (&words)[kDrawn]) {
    uint32_t drawn[4][kBlocks];
    philox(mode.seed, static_cast<uint32_t>(first / 4), static_cast<uint32_t>(position), static_cast<uint32_t>(layer),
           mode.iteration, drawn);
    for (int64_t i = 0; i < kDrawn; ++i) words[i] = drawn[i % 4][i / 4];
}

uint32_t drop_below(float rate) {
    return static_cast<uint32_t>(std::floor(static_cast<double>(rate) * 4294967296.0));
}

DropoutMask::DropoutMask(float rate)
    : threshold_(drop_below(rate)), scale_(static_cast<float>(1.0 / (1.0 - static_cast<double>(rate)))) {}

template <typename Use>
void DropoutMask::draw(const Mode& mode, int layer, int64_t position, int64_t first, int64_t count, Use&& use) const {
    uint32_t words[kDrawn];
    for (int64_t begin = 0; begin < count; begin += kDrawn) {
        draw_words(mode, layer, position, first + begin, words);
        for (int64_t i = 0; i < std::min(kDrawn, count - begin); ++i)
            use(begin + i, words[i] >= threshold_ ? scale_ : 0.0f);
    }
}

Dropout::Dropout(int64_t width, float rate) : drawn_(rate) {
    input_width = output_width = width;
}

void Dropout::forward(const Batch& batch, const Input& input, float* output, Scratch& scratch, const Mode& mode) const {
    const int64_t count = checked_product(input.rows, input_width);
    if (!mode.dropping) {
        std::copy_n(input.data, count, output);
        if (mode.training) std::fill_n(scratch[kMask].reserve(count), count, 1.0f);
        return;
    }
    constexpr int64_t kChunk = 64 * kDrawn;
    float* mask = scratch[kMask].reserve(count);
    const int64_t work = saturated_product(count, 16);
    parallel(batch.sequences, work, [&](int64_t sorted) {
        const auto i = static_cast<size_t>(sorted);
        const int64_t first = (mode.one_row_each ? batch.order[i] : batch.start[i]) * input_width;
        const int64_t own = (mode.one_row_each ? 1 : batch.length[i]) * input_width;
        if (own > kMostDrawn) throw Invalid("a sequence has more numbers than dropout can tell apart");
        parallel((own + kChunk - 1) / kChunk, work, [&](int64_t chunk) {
            const int64_t begin = chunk * kChunk, at = first + begin;
            drawn_.draw(mode, index, mode.positions[batch.order[i]], begin, std::min(kChunk, own - begin),
                        [&](int64_t k, float factor) {
                            mask[at + k] = factor;
                            output[at + k] = input.data[at + k] * factor;
                        });
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
    if (!mode.dropping) std::fill_n(mask, count, 1.0f);
    for (int64_t n = 0; mode.dropping && n < batch.sequences; ++n)
        drawn_.draw(mode, index, mode.positions[n], 0, width,
                    [&](int64_t k, float factor) { mask[n * width + k] = factor; });
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
