// @title@ Written by bilstm @version@: the engine's sources for prediction, then the model. See @name@.h.
#include "@name@.h"

#if !defined(__x86_64__) && !defined(__aarch64__)
#error "the model runs on x86-64 and 64-bit Arm"
#elif defined(__x86_64__) && !(defined(__AVX2__) && defined(__FMA__))
#error "compile with -march=x86-64-v3: exact results need fused multiply-add, which came with AVX2"
#endif

@includes@

namespace {

@engine@
// --- The model --------------------------------------------------------------------------------------------------------

@data@
// What the compiler's options must not change.
bool gives_the_right_bits(bilstm::Network& network, bilstm::Workspace& workspace, int64_t steps, float* outputs) {
    const int64_t offsets[2] = {0, steps};
    workspace.batch.arrange(offsets, workspace.chosen.data(), 1);
    float inputs[std::size(kTestInputs)];
    std::memcpy(inputs, kTestInputs, sizeof inputs);
    network.predict_arranged(workspace, {inputs, offsets, steps, 1, nullptr, nullptr, nullptr}, false, outputs);
    return std::memcmp(outputs, kTestOutputs, sizeof kTestOutputs) == 0;
}

std::vector<bilstm_layer> layers() {
    std::vector<bilstm_layer> all(@layer_count@);
@layers@    return all;
}

}  // namespace

@names@
struct @name@_model {
    explicit @name@_model(int64_t steps)
        : network(make().data(), @layer_count@, kInputs),
          workspace(@layer_count@),
          inputs(static_cast<size_t>(steps * kInputs)),
          outputs(static_cast<size_t>(kRows(steps) * kOutputs)),
          most_steps(steps) {
        std::vector<float> weights(static_cast<size_t>(network.parameter_count()));
        std::memcpy(weights.data(), kWeights, weights.size() * sizeof(float));
        network.write(bilstm::Network::kWeights, weights.data());
        workspace.chosen.assign(1, 0);
    }
    static std::vector<bilstm_layer> make() { return layers(); }

    void predict(int64_t steps, float* to) {
        const int64_t offsets[2] = {0, steps};
        workspace.batch.arrange(offsets, workspace.chosen.data(), 1);
        network.predict_arranged(workspace, {inputs.data(), offsets, steps, 1, nullptr, nullptr, nullptr}, false, to);
    }

    bilstm::Network network;
    bilstm::Workspace workspace;
    std::vector<float> inputs, outputs;
    int64_t most_steps;
};

@name@_model* @name@_open(int64_t most_steps, const char** problem) {
    static const char* none;
    const char*& why = problem ? *problem : none;
    why = "the number of steps must be from 1 to 2^40";
    if (most_steps < 1 || most_steps > (int64_t{1} << 40)) return nullptr;
    why = "not enough memory";
    try {
        const bilstm::StandardFloats floats;
        bilstm::set_thread_count(1);
        const int64_t room = std::max<int64_t>(most_steps, kTestSteps);
        auto model = std::make_unique<@name@_model>(room);
        if (!gives_the_right_bits(model->network, model->workspace, kTestSteps, model->outputs.data())) {
            why = "it was compiled with other options than @name@.h says, which change results";
            return nullptr;
        }
        model->predict(room, model->outputs.data());  // takes all memory
        model->most_steps = most_steps;
        why = nullptr;
        return model.release();
    } catch (const std::exception&) {
        return nullptr;
    }
}

int @name@_predict(@name@_model* model, @parameters@, int64_t steps, @output@* outputs) {
    if (!model || steps < 1 || steps > model->most_steps) return 1;
    try {
        const bilstm::StandardFloats floats;
@encode@
@answer@
        return 0;
    } catch (const std::exception&) {
        return 2;
    }
}

void @name@_close(@name@_model* model) {
    delete model;
}
