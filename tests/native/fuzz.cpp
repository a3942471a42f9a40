// Feeds the C interface plans, offsets, batches and numbers made of arbitrary bytes. Whatever it is given, it answers
// with a result, or with an error code and a message; sanitizers watch that nothing else happens.
//
// With libFuzzer (Clang) the bytes are led by the code they reach; without it they are random: fuzz SECONDS [SEED].
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <limits>
#include <memory>
#include <vector>

#include "api.h"

#if !defined(BILSTM_LIBFUZZER)
#include <chrono>
#include <random>
#endif

// Visible, or the sanitizer does not find it.
extern "C" __attribute__((visibility("default"))) const char* __asan_default_options() {
    return "allocator_may_return_null=1:max_allocation_size_mb=64";
}

namespace {

constexpr int64_t kLargest = std::numeric_limits<int64_t>::max();

void check(bool condition, const char* what) {
    if (condition) return;
    std::fprintf(stderr, "not so: %s (last message: %s)\n", what, bilstm_last_error());
    std::abort();
}

bool answered(int32_t code) {
    check(code >= 0 && code <= BILSTM_OUT_OF_MEMORY, "a result, or a known mistake of the caller");
    check(code == 0 || *bilstm_last_error(), "an error has a message");
    return code == 0;
}

class Bytes {
  public:
    Bytes(const uint8_t* data, size_t size) : data_(data), size_(size) {}

    template <typename Item>
    Item any() {
        Item item{};
        const size_t count = std::min(size_, sizeof item);
        std::memcpy(static_cast<void*>(&item), data_, count);
        data_ += count;
        size_ -= count;
        return item;
    }
    uint8_t byte() { return any<uint8_t>(); }
    bool rarely() { return byte() >= 248; }
    int64_t below(int64_t end) { return byte() % end; }
    // Mostly a usable size up to `most`; else one that is at an edge or beyond.
    int64_t size(int64_t most) {
        if (!rarely()) return 1 + below(most);
        constexpr int64_t kEdges[] = {
            0, -1, 1 << 20, (1 << 20) + 1, int64_t{1} << 31, int64_t{1} << 44, kLargest / 4, kLargest, -kLargest - 1};
        return kEdges[below(9)];
    }
    // Sizes that no array has, in place of the one it has.
    int64_t claim(int64_t size) {
        if (!rarely()) return size;
        constexpr int64_t kImpossible[] = {-1, -kLargest - 1, kLargest, int64_t{1} << 61, (int64_t{1} << 44) + 1};
        return kImpossible[below(5)];
    }
    int64_t index(int64_t end) { return rarely() ? any<int64_t>() : below(std::max<int64_t>(1, end)); }
    float number() { return rarely() ? any<float>() : static_cast<float>(static_cast<int8_t>(byte())) / 16.0f; }
    template <typename Item, typename Make>
    std::vector<Item> array(int64_t count, Make&& make) {
        std::vector<Item> items;  // of the exact size, so that a step beyond it is noticed
        items.reserve(static_cast<size_t>(count));
        for (int64_t i = 0; i < count; ++i) items.push_back(make());
        return items;
    }
    template <typename Item>
    Item* or_null(std::vector<Item>& items) {
        return rarely() ? nullptr : items.data();
    }

  private:
    const uint8_t* data_;
    size_t size_;
};

struct Plan {
    std::vector<bilstm_layer> layers;
    std::deque<std::vector<int64_t>> sizes;
    std::deque<std::vector<uint8_t>> flags;
    std::deque<std::vector<float>> rates;
    std::deque<Plan> encoders;
    int64_t features;

    explicit Plan(Bytes& bytes, bool encodes = false) : features(encodes ? bytes.size(3) : bytes.size(5)) {
        const int64_t count = bytes.below(encodes ? 4 : 5);
        for (int64_t i = 0; i < count; ++i) layers.push_back(layer(bytes, static_cast<int32_t>(i), encodes));
    }

    int64_t word_features() const {
        for (const bilstm_layer& layer : layers)
            if (layer.kind == BILSTM_WORDS) return layer.word_features;
        return 0;
    }

    bilstm_layer layer(Bytes& bytes, int32_t index, bool encodes) {
        bilstm_layer layer{};
        layer.kind = bytes.rarely() ? bytes.any<int32_t>() : static_cast<int32_t>(bytes.below(12));
        layer.index = index;
        layer.directions = bytes.rarely() ? bytes.any<int32_t>() : static_cast<int32_t>(1 + bytes.below(2));
        const int64_t units = bytes.size(40);
        for (auto& way : layer.ways)
            way = {bytes.rarely() ? bytes.size(40) : units,
                   bytes.byte() & 1,
                   bytes.byte() & 1,
                   bytes.rarely() ? bytes.any<int32_t>() : static_cast<int32_t>(bytes.below(5)),
                   bytes.rarely() ? bytes.any<int32_t>() : static_cast<int32_t>(bytes.below(3)),
                   bytes.byte() & 1};
        layer.merge = bytes.rarely() ? bytes.any<int32_t>() : static_cast<int32_t>(bytes.below(4));
        layer.return_sequences = !(bytes.below(4) == 0);
        layer.units = units;
        layer.activation = bytes.rarely() ? bytes.any<int32_t>() : static_cast<int32_t>(bytes.below(5));
        layer.pool = bytes.rarely() ? bytes.any<int32_t>() : static_cast<int32_t>(bytes.below(2));
        layer.causal = bytes.byte() & 1;
        layer.same = bytes.byte() & 1;
        layer.without_bias = bytes.byte() & 1;
        layer.without_scale = bytes.byte() & 1;
        layer.epsilon = bytes.number();
        layer.window = bytes.size(6);
        layer.stride = bytes.size(3);
        layer.dilation = bytes.size(3);
        layer.rate = bytes.rarely() ? bytes.any<float>() : static_cast<float>(bytes.byte()) / 256.0f;
        layer.tables = 1 + bytes.below(4);
        for (auto** array : {&layer.vocabularies, &layer.dimensions}) {
            sizes.push_back(bytes.array<int64_t>(layer.tables, [&] { return bytes.size(20); }));
            *array = bytes.or_null(sizes.back());
        }
        layer.numeric = bytes.rarely() ? bytes.any<int64_t>() : std::max<int64_t>(features, 0) - layer.tables;
        if (bytes.byte() & 1) {
            flags.push_back(bytes.array<uint8_t>(layer.tables, [&] { return bytes.byte() & 1; }));
            layer.frozen = flags.back().data();
        }
        if (bytes.byte() & 1) {
            rates.push_back(
                bytes.array<float>(layer.tables, [&] { return static_cast<float>(bytes.byte()) / 250.0f; }));
            layer.index_dropout = rates.back().data();
        }
        layer.tables = bytes.claim(layer.tables);
        const int64_t cells = units > 0 && units <= 40 ? (units + 2) * units : 0;
        flags.push_back(bytes.array<uint8_t>(cells, [&] { return bytes.byte() % 4 == 0; }));
        layer.forbidden = cells && bytes.byte() & 1 ? flags.back().data() : nullptr;
        if (!encodes) {
            encoders.emplace_back(bytes, true);
            layer.encoder = bytes.or_null(encoders.back().layers);
            layer.encoder_layers = static_cast<int32_t>(encoders.back().layers.size());
            layer.word_features = encoders.back().features;
        }
        return layer;
    }
};

struct Data {
    std::vector<float> values, targets, weights, word_values;
    std::vector<int64_t> offsets, word_offsets;
    std::vector<int32_t> labels;
    int64_t steps, sequences, rows;
    bilstm_data data{};

    Data(Bytes& bytes, int64_t features, int64_t outputs, bool one_row_each, int64_t word_features) {
        sequences = bytes.below(9);
        offsets.push_back(0);
        for (int64_t i = 0; i < sequences; ++i) offsets.push_back(offsets.back() + 1 + bytes.below(7));
        steps = offsets.back();
        if (bytes.byte() & 1) offsets[static_cast<size_t>(bytes.below(sequences + 1))] += bytes.any<int8_t>();
        if (bytes.rarely()) offsets[static_cast<size_t>(bytes.below(sequences + 1))] = bytes.any<int64_t>();
        rows = one_row_each ? sequences : steps;
        const bool index = bytes.byte() & 1;
        const auto value = [&] { return index ? static_cast<float>(bytes.index(20)) : bytes.number(); };
        const auto label = [&] { return static_cast<int32_t>(bytes.index(outputs) - (bytes.rarely() ? 2 : 0)); };
        values = bytes.array<float>(steps * features, value);
        labels = bytes.array<int32_t>(rows, label);
        targets = bytes.array<float>(rows * outputs, [&] { return bytes.number(); });
        weights = bytes.array<float>(rows, [&] { return bytes.rarely() ? bytes.any<float>() : 1.0f; });
        const bool classes = bytes.byte() & 1;
        data = {bytes.or_null(values),
                bytes.or_null(offsets),
                bytes.claim(steps),
                bytes.claim(sequences),
                classes != bytes.rarely() ? labels.data() : nullptr,
                classes != bytes.rarely() ? nullptr : targets.data(),
                bytes.byte() & 1 ? weights.data() : nullptr,
                nullptr,
                nullptr,
                0,
                0};
        if (word_features <= 0 || word_features > 64 || bytes.rarely()) return;
        const int64_t words = bytes.below(12);
        word_offsets.push_back(0);
        for (int64_t i = 0; i < words; ++i) word_offsets.push_back(word_offsets.back() + 1 + bytes.below(5));
        const int64_t word_rows = word_offsets.back();
        if (bytes.rarely()) word_offsets[static_cast<size_t>(bytes.below(words + 1))] -= bytes.below(9);
        word_values = bytes.array<float>(word_rows * word_features, value);
        data.word_values = bytes.or_null(word_values);
        data.word_offsets = bytes.or_null(word_offsets);
        data.words = words;
        data.word_features = bytes.rarely() ? 0 : word_features;
    }
};

void use(Bytes& bytes, bilstm_network* network, int64_t features, int64_t word_features) {
    int64_t parameters = 0, outputs = 0, state_width = 0;
    int32_t one_row_each = 0;
    check(answered(bilstm_describe(network, &parameters, &outputs, &one_row_each, &state_width)), "a network");
    if (parameters > (1 << 20) || outputs > (1 << 16) || features > (1 << 16)) return;  // time is short
    auto numbers = bytes.array<float>(parameters, [&] { return bytes.number(); });
    for (int32_t which = 0; which < 5; ++which) {
        for (float& number : numbers)
            if (which == 3) number = number < 0 ? -number : number;
        const bool possible = answered(bilstm_write(network, which, numbers.data(), bytes.claim(parameters)));
        if (possible) check(answered(bilstm_read(network, which, numbers.data(), parameters)), "what was written");
    }
    for (int calls = 0; calls < 4; ++calls) {
        Data d(bytes, features, outputs, one_row_each != 0, word_features);
        const int64_t count = bytes.below(12), batches = bytes.below(4);
        auto chosen = bytes.array<int64_t>(count, [&] { return bytes.index(d.sequences); });
        auto starts = bytes.array<int64_t>(batches + 1, [&] { return bytes.index(count + 1); });
        if (!bytes.rarely()) std::sort(starts.begin(), starts.end());
        std::vector<bilstm_score> scores(static_cast<size_t>(batches + 1));
        const bilstm_optimizer optimizer{static_cast<int32_t>(bytes.below(3)),
                                         bytes.number(),
                                         bytes.number(),
                                         0.9f,
                                         bytes.number(),
                                         bytes.rarely() ? bytes.number() : 0,
                                         bytes.rarely() ? bytes.number() : 0,
                                         bytes.rarely() ? bytes.number() : 0,
                                         bytes.rarely() ? bytes.number() : 0};
        const int32_t loss = bytes.rarely() ? bytes.any<int32_t>() : static_cast<int32_t>(bytes.below(BILSTM_LOSSES));
        const int32_t precision = bytes.rarely() ? bytes.any<int32_t>() : static_cast<int32_t>(bytes.below(2));
        std::vector<float> output(static_cast<size_t>(d.rows * outputs)), states;
        states.resize(static_cast<size_t>(d.sequences * state_width));
        const int64_t equal = bytes.claim(d.sequences);
        const int64_t steps = bytes.claim(d.sequences ? d.steps / d.sequences : 1);
        const int64_t shares = bytes.below(4);
        auto bounds = bytes.array<int64_t>(BILSTM_MOST_SHARES + 1, [&] { return bytes.index(count + 1); });
        if (!bytes.rarely()) {
            std::sort(bounds.begin(), bounds.begin() + shares + 1);
            bounds[0] = 0, bounds[static_cast<size_t>(shares)] = count;
        }
        const auto leave_at = bytes.array<int64_t>(d.sequences, [&] { return bytes.index(d.steps + 1); });
        float magnitude = 0;
        switch (bytes.below(14)) {
            case 0:
                answered(bilstm_train(network, &d.data, bytes.or_null(chosen), bytes.claim(count),
                                      bytes.or_null(starts), bytes.claim(batches), loss, &optimizer,
                                      bytes.any<uint64_t>(), bytes.or_null(scores)));
                break;
            case 1:
                answered(bilstm_gradient(network, &d.data, bytes.or_null(chosen), bytes.claim(count), loss,
                                         bytes.byte() & 1, bytes.any<uint64_t>(),
                                         bytes.byte() & 1 ? states.data() : nullptr,
                                         bytes.byte() & 1 ? states.data() : nullptr, scores.data()));
                break;
            case 2:
                answered(bilstm_update(network, &optimizer));
                break;
            case 3:
                answered(bilstm_predict(network, &d.data, loss, precision, bytes.byte() & 1 ? states.data() : nullptr,
                                        bytes.byte() & 1 ? states.data() : nullptr,
                                        bytes.byte() & 1 ? leave_at.data() : nullptr, bytes.or_null(output), nullptr));
                break;
            case 4:
                answered(bilstm_train_equal(network, bytes.or_null(d.values), bytes.or_null(d.targets), equal, steps,
                                            loss, &optimizer, bytes.any<uint64_t>(), bytes.or_null(scores)));
                break;
            case 5:
                answered(bilstm_predict_equal(network, bytes.or_null(d.values), equal, steps, precision,
                                              bytes.or_null(output)));
                break;
            case 6: {
                bilstm_prediction* prediction = nullptr;
                const bool made = answered(bilstm_prepare(network, bytes.or_null(d.values), equal, steps, precision,
                                                          bytes.or_null(output), &prediction));
                check(made == (prediction != nullptr), "a prediction, or none");
                for (int i = 0; i < 2; ++i) answered(bilstm_predict_prepared(prediction));
                bilstm_forget(prediction);
                break;
            }
            case 7:
                answered(bilstm_average(network, bytes.number()));
                break;
            case 8: {
                auto order = bytes.array<int64_t>(count, [] { return 0; });
                int64_t made = 0;
                if (answered(bilstm_divide(network, bytes.or_null(chosen), count, order.data(), bounds.data(), &made)))
                    check(made >= 1 && made <= BILSTM_MOST_SHARES && bounds[static_cast<size_t>(made)] == count,
                          "shares of all sequences");
                break;
            }
            case 9: {
                const bool whole = bytes.byte() & 1;
                int64_t next = 0;
                auto positions = bytes.array<int64_t>(count, [&] { return whole ? next++ : bytes.index(1 << 20); });
                std::vector<bilstm_score> each(BILSTM_MOST_SHARES);
                answered(bilstm_gradient_of_shares(network, &d.data, bytes.or_null(chosen), bytes.or_null(positions),
                                                   count, bounds.data(), bytes.claim(shares), bytes.index(1 << 10),
                                                   loss, bytes.byte() & 1, bytes.any<uint64_t>(), each.data(),
                                                   &magnitude));
                break;
            }
            case 10: {
                bilstm_pass* pass = nullptr;
                const float* first = bytes.byte() & 1 ? states.data() : nullptr;
                std::vector<float> last(states), before(states), inputs(d.values);
                const bool made =
                    answered(bilstm_forward(network, &d.data, bytes.byte() & 1, bytes.any<uint64_t>(), first,
                                            bytes.byte() & 1 ? last.data() : nullptr, bytes.or_null(output), &pass));
                check(made == (pass != nullptr), "a pass, or none");
                const std::vector<float> ones(output.size(), 1.0f);
                for (int i = 0; i < 2; ++i) {
                    answered(bilstm_backward(pass, ones.data(), bytes.byte() & 1 ? last.data() : nullptr,
                                             bytes.byte() & 1 ? inputs.data() : nullptr,
                                             bytes.byte() & 1 ? before.data() : nullptr));
                    if (bytes.rarely()) answered(bilstm_update(network, &optimizer));
                }
                bilstm_forget_pass(pass);
                break;
            }
            case 11: {
                std::vector<double> sums(static_cast<size_t>(parameters));
                answered(
                    bilstm_sum_shares(network, bytes.index(9), bytes.number(), sums.data(), bytes.claim(parameters)));
                break;
            }
            case 12: {
                const int64_t paths = bytes.size(4);
                const int64_t usable = paths > 0 && paths <= 4 ? paths : 1;
                std::vector<int32_t> labels(static_cast<size_t>(usable * d.steps));
                std::vector<double> logs(static_cast<size_t>(usable * d.sequences)), likelihoods(logs.size());
                answered(bilstm_decode(network, &d.data, precision, usable == paths ? paths : bytes.claim(0),
                                       bytes.byte() & 1 ? output.data() : nullptr, bytes.or_null(labels),
                                       bytes.or_null(logs), bytes.byte() & 1 ? likelihoods.data() : nullptr));
                break;
            }
            default:
                answered(bilstm_predict(network, &d.data, loss, precision, nullptr, nullptr, nullptr, nullptr,
                                        scores.data()));
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Bytes bytes(data, size);
    answered(bilstm_set_threads(static_cast<int32_t>(1 + bytes.below(3))));
    const Plan plan(bytes);
    bilstm_network* network = nullptr;
    const auto count = static_cast<int32_t>(plan.layers.size());
    const bool made = answered(bilstm_create(plan.layers.data(), count, plan.features, &network));
    check(made == (network != nullptr), "a network, or none");
    if (made) use(bytes, network, plan.features, plan.word_features());
    bilstm_destroy(network);
    return 0;
}

#if !defined(BILSTM_LIBFUZZER)
int main(int count, char** arguments) {
    const double seconds = count > 1 ? std::atof(arguments[1]) : 10;
    std::mt19937_64 random(count > 2 ? std::strtoull(arguments[2], nullptr, 10) : 1);
    const auto start = std::chrono::steady_clock::now();
    const auto elapsed = [&] {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    std::vector<uint8_t> bytes;
    int64_t runs = 0;
    for (; elapsed() < seconds; ++runs) {
        bytes.resize(1 + random() % 4096);
        const uint64_t shift = random() % 3;  // small bytes lead to plans that work
        for (uint8_t& byte : bytes) byte = static_cast<uint8_t>((random() & 255) >> shift);
        LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
    }
    std::printf("%lld inputs answered\n", static_cast<long long>(runs));
}
#endif
