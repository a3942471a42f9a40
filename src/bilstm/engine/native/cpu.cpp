// Compiled for any processor of the family, so that it can be asked before anything else is run.
#include <cstring>

#include "api.h"

int32_t bilstm_abi(void) {
    return BILSTM_ABI;
}

const char* bilstm_target(void) {
    return BILSTM_TARGET_NAME;
}

int32_t bilstm_supported(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vl");
    return avx2 && (std::strcmp(BILSTM_TARGET_NAME, "avx512") != 0 || avx512);
#else
    return 1;
#endif
}
