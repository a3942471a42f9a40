#include "threads.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>

#if !defined(_WIN32)
#include <pthread.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace bilstm {
namespace {

void pause() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

struct Pool {
    std::mutex in_use;
    int workers = 0;
    std::atomic<uint32_t> generation{0};
    std::atomic<bool> open{false};  // the current section has, or may have, tasks left
    std::atomic<int> active{0};     // workers that are looking at it
    std::atomic<int64_t> next{0};
    int64_t tasks = 0;
    std::atomic<int> helpers{0};  // workers that take part in the current section
    void (*task)(void*, int64_t) = nullptr;
    void* context = nullptr;

    void take_tasks() {
        for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) task(context, i);
    }

    void work(int index, uint32_t seen) {
        for (;;) {
            // Sections follow each other closely within a training step: look for a while before sleeping.
            for (int spins = 0; spins < 4000 && generation.load(std::memory_order_acquire) == seen; ++spins) pause();
            generation.wait(seen, std::memory_order_acquire);
            seen = generation.load(std::memory_order_acquire);
            if (index >= helpers.load(std::memory_order_relaxed)) continue;
            active.fetch_add(1);
            if (open.load()) take_tasks();
            active.fetch_sub(1, std::memory_order_release);
        }
    }

    void run(int64_t count, void (*function)(void*, int64_t), void* argument, int threads) {
        for (; workers < threads - 1; ++workers) {
            std::thread([this, index = workers, seen = generation.load()] { work(index, seen); }).detach();
        }
        tasks = count;
        helpers = threads - 1;
        task = function;
        context = argument;
        next.store(0, std::memory_order_relaxed);
        open.store(true);
        generation.fetch_add(1, std::memory_order_release);
        generation.notify_all();
        take_tasks();
        // All tasks are taken: wait for the workers that took some, not for those that have yet to wake up.
        open.store(false);
        while (active.load() != 0) pause();
    }
};

std::atomic<int> requested{0};
std::atomic<Pool*> pool{nullptr};

// A fork copies the pool's memory but not its threads. The child leaves the old pool alone and starts another.
void forget_pool() {
    pool.store(nullptr, std::memory_order_relaxed);
}

Pool& current_pool() {
    Pool* existing = pool.load(std::memory_order_acquire);
    if (existing) return *existing;
#if !defined(_WIN32)
    static const int registered = pthread_atfork(nullptr, nullptr, forget_pool);
    (void)registered;
#endif
    auto* created = new Pool;
    if (pool.compare_exchange_strong(existing, created)) return *created;
    delete created;
    return *existing;
}

}  // namespace

int thread_count() {
    const int count = requested.load(std::memory_order_relaxed);
    if (count > 0) return count;
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

void set_thread_count(int count) {
    requested.store(count, std::memory_order_relaxed);
}

namespace detail {

void run_tasks(int64_t tasks, void (*task)(void*, int64_t), void* context) {
    Pool& shared = current_pool();
    std::unique_lock<std::mutex> lock(shared.in_use, std::try_to_lock);
    if (!lock.owns_lock()) {
        for (int64_t i = 0; i < tasks; ++i) task(context, i);
        return;
    }
    shared.run(tasks, task, context, thread_count());
}

}  // namespace detail
}  // namespace bilstm
