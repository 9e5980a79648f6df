/* The floating point control words of AArch64: FPCR (rounding, flushing, traps) and FPSR (exception flags). Registers of
 * 64 bits, of which the upper halves are reserved. */
#ifndef STEL_ARCH_FP_AARCH64_H
#define STEL_ARCH_FP_AARCH64_H

#include "base/base.h"

static inline uint64_t stel__fp_save(void) {
    uint64_t control, status;
    __asm__ volatile("mrs %0, fpcr\n\tmrs %1, fpsr" : "=r"(control), "=r"(status));
    return (status << 32) | (uint32_t)control;
}

static inline void stel__fp_load(uint64_t words) {
    uint64_t control = (uint32_t)words, status = words >> 32;
    __asm__ volatile("msr fpcr, %0\n\tmsr fpsr, %1" : : "r"(control), "r"(status));
}

#endif
