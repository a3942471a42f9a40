#include "threads.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <system_error>
#include <thread>
#include <utility>

#if !defined(_WIN32)
#include <pthread.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "floats.h"

namespace bilstm {
namespace {

void pause() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

thread_local bool within_task = false;

struct Pool {
    std::atomic<bool> in_use{false};
    int workers = 0;
    std::atomic<uint32_t> generation{0};
    std::atomic<bool> open{false};  // the current section has, or may have, tasks left
    std::atomic<int> active{0};     // workers that are looking at it
    std::atomic<int64_t> next{0};
    int64_t tasks = 0;
    std::atomic<int> helpers{0};  // workers that take part in the current section
    void (*task)(void*, int64_t) = nullptr;
    void* context = nullptr;
    std::atomic<bool> failed{false};
    std::exception_ptr failure;  // the first exception of a task

    void take_tasks() {
        within_task = true;
        try {
            for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) task(context, i);
        } catch (...) {
            if (!failed.exchange(true)) failure = std::current_exception();
            next.store(tasks, std::memory_order_relaxed);  // the others' results would be thrown away
        }
        within_task = false;
    }

    void work(int index, uint32_t seen) {
        const StandardFloats floats;
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

    // A system that allows no more threads leaves the work to those there are.
    void start_workers(int wanted) {
        try {
            for (; workers < wanted; ++workers)
                std::thread([this, index = workers, seen = generation.load()] { work(index, seen); }).detach();
        } catch (const std::system_error&) {
        }
    }

    void run(int64_t count, void (*function)(void*, int64_t), void* argument, int threads) {
        start_workers(threads - 1);
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
        if (failed.exchange(false)) std::rethrow_exception(std::exchange(failure, nullptr));
    }
};

// The pool for one section at a time.
class Turn {
  public:
    explicit Turn(Pool& pool) : pool_(pool), got_(!pool.in_use.exchange(true, std::memory_order_acquire)) {}
    ~Turn() {
        if (got_) pool_.in_use.store(false, std::memory_order_release);
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    explicit operator bool() const { return got_; }

  private:
    Pool& pool_;
    const bool got_;
};

std::atomic<int> requested{0};
std::atomic<Pool*> pool{nullptr};

std::atomic<int> forks{0};

// A fork copies the pool's memory but not its threads. The child leaves the old pool alone and starts another.
void after_fork() {
    pool.store(nullptr, std::memory_order_relaxed);
    forks.fetch_add(1);
}

// Not when the library is loaded: this processor may not be able to run it.
void notice_forks() {
#if !defined(_WIN32)
    static const int registered = pthread_atfork(nullptr, nullptr, after_fork);
    (void)registered;
#endif
}

Pool& current_pool() {
    Pool* existing = pool.load(std::memory_order_acquire);
    if (existing) return *existing;
    notice_forks();
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

int threads_here() {
    return within_task ? 1 : thread_count();
}

void set_thread_count(int count) {
    requested.store(count, std::memory_order_relaxed);
}

namespace detail {

void run_tasks(int64_t tasks, void (*task)(void*, int64_t), void* context) {
    Pool& shared = current_pool();
    if (const Turn turn(shared); turn) return shared.run(tasks, task, context, thread_count());
    for (int64_t i = 0; i < tasks; ++i) task(context, i);
}

}  // namespace detail
ForkedLock::ForkedLock() : state_(new State{forks.load()}) {
    notice_forks();
}

ForkedLock::State& ForkedLock::state() {
    State* found = state_.load(std::memory_order_acquire);
    const int now = forks.load(std::memory_order_relaxed);
    if (found->forks == now) return *found;
    // The first to come after a fork makes a new one; the old one may be locked for ever, so it is not destroyed.
    auto* made = new State{now, found->torn || found->writing.load()};
    if (state_.compare_exchange_strong(found, made)) return *made;
    delete made;
    return *found;
}

void ForkedLock::lock() {
    State& own = state();
    if (own.torn) throw Forked();
    own.mutex.lock();
    own.writing.store(true);
}

void ForkedLock::unlock() {
    State& own = state();
    own.writing.store(false);
    own.mutex.unlock();
}

void ForkedLock::lock_shared() {
    State& own = state();
    if (own.torn) throw Forked();
    own.mutex.lock_shared();
}

}  // namespace bilstm
