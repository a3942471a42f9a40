// Floating-point arithmetic as IEEE 754 has it: rounded to nearest, subnormal numbers kept, no traps.
#pragma once

#include <cstdint>
#include <limits>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace bilstm {

// While it lives, the thread computes so, whatever another library has told it: one that flushes subnormal numbers to
// zero, as PyTorch and code built with -ffast-math can, would otherwise change the engine's results.
class StandardFloats {
  public:
    StandardFloats() : found_(control()) {
        if ((found_ & ~kFlags) != kStandard) set_control(kStandard);
    }
    ~StandardFloats() {
        if ((found_ & ~kFlags) != kStandard) set_control(found_);
    }
    StandardFloats(const StandardFloats&) = delete;
    StandardFloats& operator=(const StandardFloats&) = delete;

  private:
#if defined(__x86_64__)
    using Control = uint32_t;
    static constexpr Control kFlags = 0x3f, kStandard = 0x1f80;
    static Control control() { return _mm_getcsr(); }
    static void set_control(Control value) { _mm_setcsr(value); }
#else
    using Control = uint64_t;
    static constexpr Control kFlags = 0, kStandard = 0;
    static Control control() {
        Control value;
        asm volatile("mrs %0, fpcr" : "=r"(value));
        return value;
    }
    static void set_control(Control value) { asm volatile("msr fpcr, %0" ::"r"(value) : "memory"); }
#endif

    Control found_;
};

// Copies numbers. Those that are NaN become the same one: of two, each processor passes on another.
inline void copy_alike(const float* from, int64_t count, float* to) {
    for (int64_t i = 0; i < count; ++i) to[i] = from[i] == from[i] ? from[i] : std::numeric_limits<float>::quiet_NaN();
}

}  // namespace bilstm
