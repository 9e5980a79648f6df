/* arch: the machine's registers. One context switch, chosen at build time: the machine's own (native) or Boost's
 * fcontext (STELLANE_CONTEXT=fcontext). Everything above is the same C.
 *
 *   stel__context        what is kept of a flow of control that does not run; a plain struct, on no stack
 *   stel__context_make   prepare one that will call entry(word) on the given stack
 *   stel__context_switch leave the running one in *from, go on with *to. word travels along: it is what the resumed
 *                        side gets back from its own stel__context_switch, or as entry's argument.
 *   stel__context_stack_pointer   where the stack of one that does not run ends: for prefetching, as it may begin to run
 *   stel__context_exit   what an entry returns: who goes on, and with which word. Its own context is gone then. An end that
 *                        returns leaves the CPU's return stack as the beginning found it, so that who goes on, mostly
 *                        who switched to the beginning, returns as predicted. An end by a switch leaves the frames of
 *                        the dead behind, and every return of the other is mispredicted (5 of them, at 8 ns, in a join).
 *
 * Kept across a switch: the callee-saved registers and the stack. Not kept: MXCSR / x87 control words, FPCR, fcsr: the
 * floating point environment belongs to the worker, see stel__fp_save and stel__fp_load for fibers that want their
 * own. Signal masks are the thread's.
 *
 * The native switch (x86-64, AArch64, RISC-V 64) keeps the CPU's return stack balanced: see context_x86_64.h for how,
 * and docs/decisions.md for the figures behind it. */
#ifndef STEL_ARCH_H
#define STEL_ARCH_H

#include "base/base.h"

struct stel__context_exit;
#if defined(STELLANE_CONTEXT_FCONTEXT)
#include "arch/context_fcontext.h"
#elif defined(__x86_64__)
#include "arch/context_x86_64.h"
#elif defined(__aarch64__) && defined(__LP64__)
#include "arch/context_aarch64.h"
#elif defined(__riscv) && __riscv_xlen == 64
#include "arch/context_riscv64.h"
#else
#error "no native context switch for this machine yet: configure with -DSTELLANE_CONTEXT=fcontext"
#endif

typedef struct stel__context_exit {
    stel__context *to;
    void *word;
} stel__context_exit;

/* stack_top: one past the highest usable byte, any alignment. */
static inline void stel__context_make(stel__context *c, void *stack_top, stel__context_entry *entry);
static inline void *stel__context_switch(stel__context *from, stel__context *to, void *word);

/* The floating point control words, at most 8 bytes on every machine we know. */
static inline uint64_t stel__fp_save(void);
static inline void stel__fp_load(uint64_t words);

#endif
