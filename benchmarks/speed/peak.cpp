// The most float32 multiply-adds that the processors do: chains of them in registers, on one thread and on all.
// Prints GFLOP/s of each, a multiply-add being two operations.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#if defined(__AVX512F__)
constexpr int bytes = 64;
#elif defined(__AVX__)
constexpr int bytes = 32;
#else
constexpr int bytes = 16;
#endif
constexpr int lanes = bytes / sizeof(float);
constexpr int chains = 12;  // enough to hide the latency, few enough for the registers of every processor
typedef float Vector __attribute__((vector_size(bytes)));

static double multiply_adds(long repeats, float seed) {
    Vector sums[chains];
    for (int chain = 0; chain < chains; ++chain) {
        sums[chain] = Vector{} + (seed + float(chain));  // all different, or the compiler would need only one
    }
    Vector factor = Vector{} + 0.999f;
    Vector term = Vector{} + 1e-3f;
    for (long i = 0; i < repeats; ++i) {
        asm volatile("" : "+g"(i));  // the loop is to be run, not reasoned away
#pragma GCC unroll 12
        for (int chain = 0; chain < chains; ++chain) {
            sums[chain] = sums[chain] * factor + term;
        }
    }
    double total = 0;
    for (const Vector& sum : sums) {
        total += sum[0];
    }
    return total;
}

static double gflops(int threads) {
    constexpr long repeats = 30'000'000;
    std::vector<double> results(threads);
    auto started = std::chrono::steady_clock::now();
    std::vector<std::thread> others;
    for (double& result : results) {
        others.emplace_back([&result, threads] { result = multiply_adds(repeats, float(threads)); });
    }
    for (std::thread& other : others) {
        other.join();
    }
    double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
    for (double result : results) {
        if (!(result > 0)) {
            std::abort();
        }
    }
    return 2.0 * threads * repeats * chains * lanes / seconds / 1e9;
}

int main(int, char** arguments) {
    std::printf("%.1f %.1f\n", gflops(1), gflops(std::atoi(arguments[1])));
}
