/* The floating point control words of x86-64: MXCSR (SSE: rounding, masks and flags) and the x87 control word. */
#ifndef STEL_ARCH_FP_X86_64_H
#define STEL_ARCH_FP_X86_64_H

#include "base/base.h"

static inline uint64_t stel__fp_save(void) {
    uint32_t mxcsr;
    uint16_t control;
    __asm__ volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(mxcsr), "=m"(control));
    return ((uint64_t)control << 32) | mxcsr;
}

static inline void stel__fp_load(uint64_t words) {
    uint32_t mxcsr = (uint32_t)words;
    uint16_t control = (uint16_t)(words >> 32);
    __asm__ volatile("ldmxcsr %0\n\tfldcw %1" : : "m"(mxcsr), "m"(control));
}

#endif
