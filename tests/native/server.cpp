// Answers calls of the engine's C interface over standard input and output, so that tests can use a build for another
// processor under an emulator. tests/oracles/engines.py is the other end.
//
// A request is a number that says which call, and its arguments in order; an array is its count (-1 for null), then its
// items. A reply is the error code, then the message, or the results.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <vector>

#include "api.h"

namespace {

void read_bytes(void* to, size_t count) {
    if (count && std::fread(to, 1, count, stdin) != count) std::exit(0);  // the caller has gone
}

template <typename Item>
Item read_one() {
    Item item;
    read_bytes(&item, sizeof item);
    return item;
}

template <typename Item>
struct Array {
    bool there;
    std::vector<Item> items;

    Item* data() { return there ? items.data() : nullptr; }
    int64_t size() const { return static_cast<int64_t>(items.size()); }
};

template <typename Item>
Array<Item> read_array() {
    const auto count = read_one<int64_t>();
    Array<Item> array{count >= 0, std::vector<Item>(count > 0 ? static_cast<size_t>(count) : 0)};
    array.items.reserve(1);  // an empty array is not null
    read_bytes(array.items.data(), array.items.size() * sizeof(Item));
    return array;
}

void write_bytes(const void* from, size_t count) {
    if (count && std::fwrite(from, 1, count, stdout) != count) std::exit(1);
}

template <typename Item>
void write_array(const Array<Item>& array) {
    write_bytes(array.items.data(), array.items.size() * sizeof(Item));
}

void write_code(int32_t code, const char* message = bilstm_last_error()) {
    write_bytes(&code, sizeof code);
    if (!code) return;
    const auto length = static_cast<int64_t>(std::strlen(message));
    write_bytes(&length, sizeof length);
    write_bytes(message, static_cast<size_t>(length));
}

// What a call gives back besides its code, which comes first.
template <typename... Items>
void reply(int32_t code, const Array<Items>&... results) {
    write_code(code);
    if (!code) (write_array(results), ...);
    std::fflush(stdout);
}

template <typename Item>
Array<Item> room(int64_t count) {
    return {count >= 0, std::vector<Item>(count > 0 ? static_cast<size_t>(count) : 0)};
}

struct Data {
    Array<float> values = read_array<float>();
    Array<int64_t> offsets = read_array<int64_t>();
    int64_t steps = read_one<int64_t>(), sequences = read_one<int64_t>();
    Array<int32_t> labels = read_array<int32_t>();
    Array<float> targets = read_array<float>(), weights = read_array<float>();
    Array<float> word_values = read_array<float>();
    Array<int64_t> word_offsets = read_array<int64_t>();
    int64_t words = read_one<int64_t>(), word_features = read_one<int64_t>();
    bilstm_data data{values.data(),       offsets.data(), steps,          sequences,
                     labels.data(),       targets.data(), weights.data(), word_values.data(),
                     word_offsets.data(), words,          word_features};
};

bilstm_network* read_network() {
    return reinterpret_cast<bilstm_network*>(read_one<uint64_t>());
}

// Layers and the arrays that they point to.
struct Plan {
    Array<bilstm_layer> layers = read_array<bilstm_layer>();
    std::deque<Array<int64_t>> sizes;
    std::deque<Array<uint8_t>> flags;
    std::deque<Array<float>> rates;
    std::deque<Plan> encoders;

    Plan() {
        for (auto& layer : layers.items) {
            for (auto** array : {&layer.vocabularies, &layer.dimensions}) *array = read_into<int64_t>(sizes);
            for (auto** array : {&layer.forbidden, &layer.frozen}) *array = read_into<uint8_t>(flags);
            layer.index_dropout = read_into<float>(rates);
            if (!layer.encoder_layers) continue;
            encoders.emplace_back();
            layer.encoder = encoders.back().layers.data();
        }
    }

    template <typename Item>
    static Item* read_into(std::deque<Array<Item>>& arrays) {
        arrays.push_back(read_array<Item>());
        return arrays.back().data();
    }
};

void create() {
    Plan plan;
    auto& layers = plan.layers;
    const auto features = read_one<int64_t>();
    auto handle = room<bilstm_network*>(1);
    reply(bilstm_create(layers.data(), static_cast<int32_t>(layers.size()), features, handle.data()), handle);
}

void describe() {
    auto numbers = room<int64_t>(4);
    int32_t one_row_each = 0;
    const int32_t code =
        bilstm_describe(read_network(), &numbers.items[0], &numbers.items[1], &one_row_each, &numbers.items[3]);
    numbers.items[2] = one_row_each;
    reply(code, numbers);
}

void read() {
    bilstm_network* network = read_network();
    const auto which = read_one<int32_t>();
    auto numbers = room<float>(read_one<int64_t>());
    reply(bilstm_read(network, which, numbers.data(), numbers.size()), numbers);
}

void write() {
    bilstm_network* network = read_network();
    const auto which = read_one<int32_t>();
    auto numbers = read_array<float>();
    reply(bilstm_write(network, which, numbers.data(), numbers.size()));
}

void iteration() {
    bilstm_network* network = read_network();
    auto number = read_array<int64_t>();
    const auto set = read_one<int32_t>();
    reply(bilstm_iteration(network, number.data(), set), number);
}

void train() {
    bilstm_network* network = read_network();
    Data data;
    auto chosen = read_array<int64_t>(), starts = read_array<int64_t>();
    const auto loss = read_one<int32_t>();
    const auto optimizer = read_one<bilstm_optimizer>();
    const auto seed = read_one<uint64_t>();
    auto scores = room<bilstm_score>(starts.size() - 1);
    reply(bilstm_train(network, &data.data, chosen.data(), chosen.size(), starts.data(), starts.size() - 1, loss,
                       &optimizer, seed, scores.data()),
          scores);
}

void gradient() {
    bilstm_network* network = read_network();
    Data data;
    auto chosen = read_array<int64_t>();
    const auto loss = read_one<int32_t>(), training = read_one<int32_t>();
    const auto seed = read_one<uint64_t>();
    auto score = room<bilstm_score>(1);
    reply(bilstm_gradient(network, &data.data, chosen.data(), chosen.size(), loss, training, seed, nullptr, nullptr,
                          score.data()),
          score);
}

void update() {
    bilstm_network* network = read_network();
    const auto optimizer = read_one<bilstm_optimizer>();
    reply(bilstm_update(network, &optimizer));
}

void predict() {
    bilstm_network* network = read_network();
    Data data;
    const auto loss = read_one<int32_t>(), precision = read_one<int32_t>();
    auto states_in = read_array<float>();
    auto states_out = room<float>(read_one<int64_t>()), output = room<float>(read_one<int64_t>());
    auto score = room<bilstm_score>(read_one<int64_t>());
    reply(bilstm_predict(network, &data.data, loss, precision, states_in.data(), states_out.data(), nullptr,
                         output.data(), score.data()),
          states_out, output, score);
}

void set_threads() {
    reply(bilstm_set_threads(read_one<int32_t>()));
}

void destroy() {
    bilstm_destroy(read_network());
    reply(0);
}

// The name goes back as a message does.
void target() {
    write_code(-1, bilstm_target());
    std::fflush(stdout);
}

constexpr void (*kCalls[])() = {create,   describe, read,    write,   iteration,   train,
                                gradient, update,   predict, destroy, set_threads, target};

}  // namespace

int main() {
    for (;;) {
        const auto call = read_one<uint32_t>();
        if (call >= sizeof kCalls / sizeof *kCalls) return 2;
        kCalls[call]();
    }
}
