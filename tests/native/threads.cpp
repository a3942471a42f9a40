// The pool of threads, tried on its own: every task once, exceptions, sections within sections, too many threads.
#include "threads.h"

#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <new>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#if !defined(_WIN32)
#include <sys/resource.h>
#endif
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "memory.h"

namespace {

constexpr int64_t kWorthIt = 1'000'000'000;

#define CHECK(condition)                                                                 \
    do {                                                                                 \
        if (!(condition)) {                                                              \
            std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            std::exit(1);                                                                \
        }                                                                                \
    } while (false)

void every_task_runs_once() {
    for (const int threads : {1, 2, 7, 3}) {
        bilstm::set_thread_count(threads);
        for (int64_t tasks = 0; tasks < 40; ++tasks) {
            std::vector<std::atomic<int>> runs(static_cast<size_t>(tasks));
            bilstm::parallel(tasks, kWorthIt, [&](int64_t i) { ++runs[static_cast<size_t>(i)]; });
            for (const auto& count : runs) CHECK(count == 1);
        }
    }
}

// Calls function(whether this is the caller's thread) on four threads at once.
template <typename Function>
void on_four_threads(Function&& function) {
    bilstm::set_thread_count(4);
    const auto caller = std::this_thread::get_id();
    std::atomic<int> begun{0};
    bilstm::parallel(4, kWorthIt, [&](int64_t) {
        for (++begun; begun < 4;) std::this_thread::yield();
        function(std::this_thread::get_id() == caller);
    });
}

template <typename Error, typename Function>
std::string error_of(Function&& function) {
    try {
        function();
    } catch (const Error& error) {
        return error.what();
    }
    return "no error";
}

void exceptions_reach_the_caller() {
    for (int round = 0; round < 200; ++round) {
        for (const bool here : {false, true}) {
            const auto fail = [here](bool is_caller) {
                if (is_caller == here) throw std::runtime_error("of a task");
            };
            CHECK(error_of<std::runtime_error>([&] { on_four_threads(fail); }) == "of a task");
        }
        CHECK(error_of<std::bad_alloc>([] { on_four_threads([](bool) { throw std::bad_alloc(); }); }) != "no error");
        std::atomic<int> runs{0};  // the pool goes on, and remembers nothing
        on_four_threads([&](bool) { ++runs; });
        CHECK(runs == 4);
    }
}

void after_an_exception_no_task_begins() {
    bilstm::set_thread_count(3);
    std::atomic<int64_t> runs{0};
    const auto fail = [&](int64_t) {
        ++runs;
        throw std::runtime_error("at once");
    };
    CHECK(error_of<std::runtime_error>([&] { bilstm::parallel(1'000'000, kWorthIt, fail); }) == "at once");
    CHECK(runs >= 1 && runs <= 3);
}

void sections_within_sections() {
    bilstm::set_thread_count(3);
    std::array<std::atomic<int>, 30> runs{};
    const auto outer = [&](int64_t i) {
        bilstm::parallel(10, kWorthIt, [&](int64_t j) { ++runs[static_cast<size_t>(10 * i + j)]; });
    };
    bilstm::parallel(3, kWorthIt, outer);
    for (const auto& count : runs) CHECK(count == 1);
}

void sections_of_several_callers() {
    bilstm::set_thread_count(3);
    std::vector<std::thread> callers;
    std::atomic<int64_t> sum{0};
    for (int caller = 0; caller < 4; ++caller)
        callers.emplace_back([&] {
            for (int round = 0; round < 500; ++round) {
                bilstm::parallel(20, kWorthIt, [&](int64_t i) { sum += i; });
                const auto fail = [](int64_t) { throw std::runtime_error("mine"); };
                CHECK(error_of<std::runtime_error>([&] { bilstm::parallel(5, kWorthIt, fail); }) == "mine");
            }
        });
    for (auto& caller : callers) caller.join();
    CHECK(sum == 4 * 500 * 190);
}

// Another library's settings, in force when the pool's threads start, are not theirs.
void workers_keep_subnormal_numbers() {
#if defined(__x86_64__)
    const uint32_t before = _mm_getcsr();
    _mm_setcsr(before | 0x8040);
    bilstm::set_thread_count(4);
    std::atomic<int> kept{0};
    on_four_threads([&](bool is_caller) {
        volatile float least = std::numeric_limits<float>::min();
        if (!is_caller && least / 2 != 0) ++kept;
    });
    _mm_setcsr(before);
    CHECK(kept == 3);
#endif
}

// Of few tasks, few workers are woken.
void two_tasks_take_two_threads() {
    bilstm::set_thread_count(8);
    std::mutex guard;
    std::set<std::thread::id> seen;
    for (int round = 0; round < 300; ++round)
        bilstm::parallel(2, kWorthIt, [&](int64_t) {
            const std::lock_guard lock(guard);
            seen.insert(std::this_thread::get_id());
        });
    CHECK(seen.size() <= 2);
}

// Readers of whom each stays until another has come: without a turn for writers there is always one.
void a_writer_gets_its_turn() {
    using Clock = std::chrono::steady_clock;
    bilstm::ForkedLock lock;
    std::atomic<bool> done{false}, starved{false};
    std::atomic<int> reading{0}, come{0};
    const auto read = [&] {
        while (!done) {
            lock.lock_shared();
            ++reading;
            const int own = ++come;
            const auto longest = Clock::now() + std::chrono::milliseconds(20);
            while (come == own && !done && Clock::now() < longest) std::this_thread::yield();
            --reading;
            lock.unlock_shared();
        }
    };
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) threads.emplace_back(read);
    threads.emplace_back([&] {
        const auto longest = Clock::now() + std::chrono::seconds(20);
        while (!done && Clock::now() < longest) std::this_thread::sleep_for(std::chrono::milliseconds(5));
        if (!done.exchange(true)) starved = true;
    });
    for (int round = 0; round < 10; ++round) {
        lock.lock();
        CHECK(reading == 0);
        lock.unlock();
        if (!starved) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    done = true;
    for (auto& thread : threads) thread.join();
    CHECK(!starved);
}

void estimates_do_not_overflow() {
    constexpr int64_t kLargest = std::numeric_limits<int64_t>::max();
    CHECK(bilstm::saturated_product(3, 5, 7) == 105);
    CHECK(bilstm::saturated_product(int64_t{1} << 40, int64_t{1} << 40) == kLargest);
    CHECK(bilstm::saturated_product(int64_t{1} << 40, int64_t{1} << 40, int64_t{2}) == kLargest);
}

void more_threads_than_the_system_allows() {
#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    const rlimit few{1 << 28, 1 << 28};  // room for the stacks of some threads
    CHECK(setrlimit(RLIMIT_AS, &few) == 0);
    bilstm::set_thread_count(1024);
    std::atomic<int> runs{0};
    bilstm::parallel(2000, kWorthIt, [&](int64_t) { ++runs; });
    CHECK(runs == 2000);
#endif
}

}  // namespace

int main() {
    bilstm::detail::always_together = true;
    workers_keep_subnormal_numbers();  // before any other has started the threads
    every_task_runs_once();
    exceptions_reach_the_caller();
    after_an_exception_no_task_begins();
    sections_within_sections();
    sections_of_several_callers();
    two_tasks_take_two_threads();
    a_writer_gets_its_turn();
    estimates_do_not_overflow();
    more_threads_than_the_system_allows();
}
