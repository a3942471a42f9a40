// A small pool of threads for sections of independent tasks.
//
// Threads only ever divide outputs, so results do not depend on their number. The pool starts on first use, survives
// fork (the child starts its own) and is never waited for at exit. A section started while another thread uses the
// pool, or within a section's task, runs in its caller's thread. An exception of a task reaches the section's caller
// once no task runs any more, the first where there are several; tasks not yet begun are then left out.
//
// Where other processes take a processor away in the middle of a task, the others wait for it. Then sections run in
// their caller's thread for a while.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <shared_mutex>
#include <stdexcept>
#include <type_traits>

namespace bilstm {

struct Forked : std::runtime_error {
    Forked() : std::runtime_error("this model was being changed when the process was forked: make the child another") {}
};

int thread_count();
int threads_here();     // 1 within a task of a section
bool section_failed();  // of the task that this thread is in
void set_thread_count(int count);

namespace detail {
extern std::atomic<bool> always_together;  // for tests whose tasks wait for each other: no section is run alone
void run_tasks(int64_t tasks, void (*task)(void*, int64_t), void* context);
}  // namespace detail

// A section of fewer multiply-adds is not worth waking a thread for.
inline constexpr int64_t kWorthThreads = 400'000;

// Calls function(0), …, function(tasks - 1), each once, on the pool's threads and this one; `work` is the section's
// number of multiply-adds.
template <typename Function>
void parallel(int64_t tasks, int64_t work, Function&& function) {
    if (tasks <= 1 || work < kWorthThreads || threads_here() == 1) {
        for (int64_t i = 0; i < tasks; ++i) function(i);
        return;
    }
    detail::run_tasks(
        tasks, [](void* context, int64_t i) { (*static_cast<std::remove_reference_t<Function>*>(context))(i); },
        const_cast<void*>(static_cast<const void*>(&function)));
}

// A lock for many readers or one writer that a forked child finds open, since the threads that held it are not there.
// What a writer had then half changed, the child cannot use: locking throws Forked. Readers that come while a writer
// waits let it go first.
class ForkedLock {
  public:
    ForkedLock();
    ~ForkedLock() { delete state_.load(); }
    ForkedLock(const ForkedLock&) = delete;
    ForkedLock& operator=(const ForkedLock&) = delete;

    bool torn() { return state().torn; }  // a fork left it half changed
    void lock();
    void unlock();
    void lock_shared();
    void unlock_shared() { state().mutex.unlock_shared(); }

  private:
    struct State {
        int forks;  // of this process's ancestors when it was made
        bool torn = false;
        std::shared_mutex mutex{};
        std::atomic<int> waiting{0};  // writers
        std::mutex turnstile{};       // held by the writer that is next
        std::atomic<bool> writing{false};
    };
    State& state();

    std::atomic<State*> state_;
};

}  // namespace bilstm
