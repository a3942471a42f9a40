#include "threads.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <exception>
#include <system_error>
#include <thread>
#include <utility>

#if !defined(_WIN32)
#include <pthread.h>
#include <time.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "floats.h"

namespace bilstm {

std::atomic<bool> detail::always_together{false};

namespace {

void pause() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

thread_local bool within_task = false;

// Waits while `word` is `seen`: sections follow each other closely within a training step, so it looks for a while, and
// lets others run, before it sleeps.
template <typename Word>
void await(const std::atomic<Word>& word, Word seen) {
    constexpr int kPauses = 4000, kYields = 50;
    const auto changed = [&] { return word.load(std::memory_order_acquire) != seen; };
    for (int i = 0; i < kPauses; ++i) {
        if (changed()) return;
        pause();
    }
    for (int i = 0; i < kYields; ++i) {
        if (changed()) return;
        std::this_thread::yield();
    }
    word.wait(seen, std::memory_order_acquire);
}

// The time that a thread has had a processor, in seconds; 0 where the system does not tell.
class ProcessorTime {
  public:
    void of_this_thread() {
#if defined(__linux__)
        known_ = pthread_getcpuclockid(pthread_self(), &clock_) == 0;
#endif
    }
    double seconds() const {
#if defined(__linux__)
        timespec time{};
        if (known_ && clock_gettime(clock_, &time) == 0)
            return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
#endif
        return 0;
    }

  private:
#if defined(__linux__)
    bool known_ = false;
    clockid_t clock_{};
#endif
};

struct alignas(64) Worker {
    std::atomic<uint32_t> calls{0};  // sections it was woken for
    std::atomic<bool> busy{false};   // with tasks; its clock is then known
    ProcessorTime time;
};

using Clock = std::chrono::steady_clock;

// Whether sections are better run by their caller alone for a while. A worker that has a task, but no processor, keeps
// its section from ending: then the next sections go without workers, for longer each time it happens again.
class Patience {
  public:
    bool alone() {
        alone_ = alone_ && Clock::now() < until_;
        return alone_;
    }
    void stalled() {
        alone_ = true;
        until_ = Clock::now() + pause_;
        pause_ = std::min(2 * pause_, kLongest);
    }
    void went_well() { pause_ = kShortest; }

  private:
    static constexpr std::chrono::milliseconds kShortest{10}, kLongest{320};
    bool alone_ = false;
    Clock::time_point until_{};
    std::chrono::milliseconds pause_ = kShortest;
};

struct Pool {
    std::atomic<bool> in_use{false};
    std::deque<Worker> workers;
    std::atomic<bool> open{false};     // the current section has, or may have, tasks left
    std::atomic<uint32_t> looking{0};  // workers that are looking at it
    std::atomic<int64_t> next{0};
    int64_t tasks = 0;
    void (*task)(void*, int64_t) = nullptr;
    void* context = nullptr;
    std::atomic<bool> failed{false};
    std::exception_ptr failure;  // the first exception of a task
    Patience patience;

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

    void work(Worker& own) {
        const StandardFloats floats;
        own.time.of_this_thread();
        for (uint32_t seen = 0;;) {
            await(own.calls, seen);
            seen = own.calls.load(std::memory_order_acquire);
            looking.fetch_add(1);
            if (open.load()) {
                own.busy.store(true, std::memory_order_release);
                take_tasks();
                own.busy.store(false, std::memory_order_relaxed);
            }
            if (looking.fetch_sub(1, std::memory_order_release) == 1) looking.notify_one();
        }
    }

    // A system that allows no more threads leaves the work to those there are.
    size_t start_workers(size_t wanted) {
        while (workers.size() < wanted) {
            Worker& made = workers.emplace_back();
            try {
                std::thread([this, &made] { work(made); }).detach();
            } catch (const std::system_error&) {
                workers.pop_back();
                break;
            }
        }
        return std::min(workers.size(), wanted);
    }

    void run(int64_t count, void (*function)(void*, int64_t), void* argument, int threads) {
        if (!detail::always_together && patience.alone()) {
            for (int64_t i = 0; i < count; ++i) function(argument, i);
            return;
        }
        const size_t helpers = start_workers(static_cast<size_t>(std::min<int64_t>(threads, count) - 1));
        const auto begun = Clock::now();
        tasks = count;
        task = function;
        context = argument;
        next.store(0, std::memory_order_relaxed);
        open.store(true);
        for (size_t i = 0; i < helpers; ++i) {
            workers[i].calls.fetch_add(1, std::memory_order_release);
            workers[i].calls.notify_one();
        }
        take_tasks();
        // All tasks are taken: wait for the workers that took some, not for those that have yet to wake up.
        open.store(false);
        wait_for_workers(begun);
        if (failed.exchange(false)) std::rethrow_exception(std::exchange(failure, nullptr));
    }

    // Of a section that began then, whose tasks are all taken.
    void wait_for_workers(Clock::time_point begun) {
        constexpr int kPauses = 4000;
        for (int i = 0; i < kPauses; ++i) {
            if (!looking.load(std::memory_order_acquire)) return patience.went_well();
            pause();
        }
        // Long: because of its task, or because it was put aside?
        const auto waits = Clock::now();
        const Worker* last = nullptr;
        for (const Worker& worker : workers)
            if (worker.busy.load(std::memory_order_acquire)) last = &worker;
        const double before = last ? last->time.seconds() : 0;
        while (const uint32_t left = looking.load(std::memory_order_acquire)) await(looking, left);
        using Seconds = std::chrono::duration<double>;
        const double without = Seconds(Clock::now() - waits).count() - (last ? last->time.seconds() - before : 0);
        if (before > 0 && without > kMuch * Seconds(waits - begun).count()) patience.stalled();
    }

    // Of a section's time, so much without a processor is more than what the system itself takes now and then.
    static constexpr double kMuch = 0.25;
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

bool section_failed() {
    const Pool* shared = within_task ? pool.load(std::memory_order_acquire) : nullptr;
    return shared && shared->failed.load(std::memory_order_relaxed);
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
    // The first to come after a fork makes a new one; the old one may be locked forever, so it is not destroyed.
    auto* made = new State{now, found->torn || found->writing.load()};
    if (state_.compare_exchange_strong(found, made)) return *made;
    delete made;
    return *found;
}

void ForkedLock::lock() {
    State& own = state();
    if (own.torn) throw Forked();
    own.waiting.fetch_add(1);
    {
        const std::lock_guard turn(own.turnstile);
        own.mutex.lock();
    }
    own.waiting.fetch_sub(1);
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
    if (own.waiting.load(std::memory_order_relaxed)) const std::lock_guard turn(own.turnstile);
    own.mutex.lock_shared();
}

}  // namespace bilstm
