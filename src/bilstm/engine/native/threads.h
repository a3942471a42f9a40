// A small pool of threads for sections of independent tasks.
//
// Threads only ever divide outputs, so results do not depend on their number. The pool starts on first use, survives
// fork (the child starts its own) and is never waited for at exit. A section started while another thread uses the
// pool runs in its caller's thread.
#pragma once

#include <cstdint>
#include <type_traits>

namespace bilstm {

int thread_count();
void set_thread_count(int count);

namespace detail {
void run_tasks(int64_t tasks, void (*task)(void*, int64_t), void* context);
}

// A section of fewer multiply-adds is not worth waking a thread for.
inline constexpr int64_t kWorthThreads = 400'000;

// Calls function(0), …, function(tasks - 1), each once, on the pool's threads and this one; `work` is the section's
// number of multiply-adds.
template <typename Function>
void parallel(int64_t tasks, int64_t work, Function&& function) {
    if (tasks <= 1 || work < kWorthThreads || thread_count() == 1) {
        for (int64_t i = 0; i < tasks; ++i) function(i);
        return;
    }
    detail::run_tasks(
        tasks, [](void* context, int64_t i) { (*static_cast<std::remove_reference_t<Function>*>(context))(i); },
        const_cast<void*>(static_cast<const void*>(&function)));
}

}  // namespace bilstm
