// Lets the caller of a long call end it. Tasks count what they have done, and now and then ask whether to continue.
#pragma once

#include <cstdint>
#include <stdexcept>

#include "api.h"

namespace bilstm {

struct Interrupted : std::runtime_error {
    Interrupted() : std::runtime_error("interrupted") {}
};

void set_interrupt(const bilstm_interrupt* hooks);
// What the hooks kept of this thread's latest interruption.
const bilstm_interruption& interruption();

// While it lives, this thread asks its caller. A pool's thread has none to ask: it ends with its section.
class Asking {
  public:
    Asking();
    ~Asking();
    Asking(const Asking&) = delete;
    Asking& operator=(const Asking&) = delete;
};

namespace detail {
inline constexpr int64_t kDoneBetween = 1 << 28;  // some hundredths of a second
extern constinit thread_local int64_t left_to_do;
void ask();
}  // namespace detail

// Throws Interrupted where the call is to end, or its section already has.
inline void count_done(int64_t multiply_adds) {
    if ((detail::left_to_do -= multiply_adds) < 0) detail::ask();
}

}  // namespace bilstm
