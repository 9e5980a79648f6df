/* The floating point control word of RISC-V: fcsr, which holds rounding mode and exception flags. Without the F
 * extension there is none. */
#ifndef STEL_ARCH_FP_RISCV64_H
#define STEL_ARCH_FP_RISCV64_H

#include "base/base.h"

static inline uint64_t stel__fp_save(void) {
#ifdef __riscv_flen
    uint64_t word;
    __asm__ volatile("frcsr %0" : "=r"(word));
    return word;
#else
    return 0;
#endif
}

static inline void stel__fp_load(uint64_t words) {
#ifdef __riscv_flen
    __asm__ volatile("fscsr %0" : : "r"(words));
#else
    (void)words;
#endif
}

#endif
