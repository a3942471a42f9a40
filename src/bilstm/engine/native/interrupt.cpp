#include "interrupt.h"

#include <atomic>
#include <chrono>

#include "threads.h"

namespace bilstm {
namespace {

// To ask may mean to wait for the interpreter's lock, which other threads use.
constexpr auto kBetween = std::chrono::milliseconds(200);

std::atomic<const bilstm_interrupt*> hooks{nullptr};
thread_local bool asking = false;
thread_local std::chrono::steady_clock::time_point asked;
thread_local bilstm_interruption kept{};

}  // namespace

constinit thread_local int64_t detail::left_to_do = detail::kDoneBetween;

void set_interrupt(const bilstm_interrupt* given) {
    hooks.store(given);
}

const bilstm_interruption& interruption() {
    return kept;
}

Asking::Asking() {
    asking = true;
}

Asking::~Asking() {
    asking = false;
}

void detail::ask() {
    left_to_do = kDoneBetween;
    if (section_failed()) throw Interrupted();
    const bilstm_interrupt* own = hooks.load();
    if (!asking || !own) return;
    const auto now = std::chrono::steady_clock::now();
    if (now - asked < kBetween) return;
    asked = now;
    const int32_t state = own->enter();
    const bool ends = own->pending() != 0;
    if (ends) own->keep(&kept.first, &kept.second, &kept.third);
    own->leave(state);
    if (ends) throw Interrupted();
}

}  // namespace bilstm
