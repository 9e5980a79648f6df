/* Seeding of the oracle, and the word that stands for a fence under ThreadSanitizer (base/atomic.h). */
#include "base/base.h"

#ifdef STEL__TSAN
_Atomic unsigned stel__tsan_fence_word;
#endif

/* One step of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014): neighbouring
 * seeds give unrelated states. xorshift must not start from zero, which one seed in 2^64 would lead to. */
void stel__oracle_seed(stel__oracle *o, uint64_t seed) {
    uint64_t z = seed + UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    z ^= z >> 31;
    o->state = z ? z : 1;
}
