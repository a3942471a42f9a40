// Aligned buffers that grow and are kept, so that a call after the first allocates nothing.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <stdexcept>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace bilstm {

// What a caller of the C interface gave is wrong; the message says what.
struct Invalid : std::runtime_error {
    using std::runtime_error::runtime_error;
};

constexpr int64_t kMostNumbers = int64_t{1} << 44;  // more than any machine holds

// A product of sizes, refused where it would overflow or exceed what any machine has.
inline int64_t checked_product(int64_t a, int64_t b) {
    int64_t result = 0;
    if (a < 0 || b < 0 || __builtin_mul_overflow(a, b, &result) || result > kMostNumbers) throw std::bad_alloc();
    return result;
}

// An estimate of work, which may be more than any machine does: then the largest number.
template <typename... Sizes>
int64_t saturated_product(int64_t first, Sizes... others) {
    const auto multiply = [&](int64_t other) {
        if (__builtin_mul_overflow(first, other, &first)) first = std::numeric_limits<int64_t>::max();
    };
    (multiply(others), ...);
    return first;
}

// Floats added to distances that would else be whole multiples of 4 KiB: places so far apart compete for the same few
// lines of a cache.
inline constexpr int64_t kCacheSkew = 48;

class Buffer {
  public:
    Buffer() = default;
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    Buffer(Buffer&& other) noexcept : data_(other.data_), capacity_(other.capacity_), used_(other.used_) {
        other.data_ = nullptr;
        other.capacity_ = 0;
    }
    ~Buffer() { release(); }

    // Room for `count` floats; the contents are undefined when it had to grow. A vector's width of slack follows.
    float* reserve(int64_t count) {
        used_ = std::max(used_, count);
        if (count > capacity_) {
            checked_product(count, static_cast<int64_t>(sizeof(float)));
            release();
            const size_t bytes = bytes_for(count);
            // Asked so, address sanitizers let it fail like any other.
            data_ = static_cast<float*>(::operator new(bytes, alignment(count), std::nothrow));
            if (!data_) throw std::bad_alloc();
            capacity_ = count;
#if defined(__linux__)
            // Long runs through memory spend much of their time looking up small pages. A hint, which may be refused.
            if (bytes >= kLarge) madvise(data_, bytes, MADV_HUGEPAGE);
#endif
        }
        return data_;
    }
    float* reserve_zeroed(int64_t count) {
        reserve(count);
        std::fill_n(data_, count, 0.0f);
        return data_;
    }
    // Between calls: gives memory back of which little was used since the last time. What is in it is lost.
    void settle() {
        constexpr int64_t kSmall = 1 << 16, kShare = 8;
        if (capacity_ > kSmall && used_ < capacity_ / kShare) release();
        used_ = 0;
    }
    float* data() { return data_; }
    const float* data() const { return data_; }

  private:
    static constexpr size_t kHugePage = size_t{1} << 21, kLarge = 2 * kHugePage;
    static size_t bytes_for(int64_t count) { return (static_cast<size_t>(count) + 64) * sizeof(float); }
    static std::align_val_t alignment(int64_t count) {
        return std::align_val_t{bytes_for(count) >= kLarge ? kHugePage : 64};
    }
    void release() {
        if (data_) ::operator delete(data_, alignment(capacity_));
        data_ = nullptr;
        capacity_ = 0;
    }

    float* data_ = nullptr;
    int64_t capacity_ = 0, used_ = 0;
};

// The same for a vector.
template <typename Item>
void settle(std::vector<Item>& items) {
    if (items.capacity() > (1 << 16) && items.size() < items.capacity() / 8) items.shrink_to_fit();
}

}  // namespace bilstm
