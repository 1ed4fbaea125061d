// The kernels in AVX2, FMA and F16C, whatever flags the rest is compiled with.
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif

#include "avx2.h"
#include "../ada_norm.h"
#include "group_norm.h"
#include "kernels.h"
#include "tile.h"

namespace latentdiff::cpu {
extern const Kernels avx2{"avx2",     normal<Avx2>,   add_noise<Avx2>,
                          step<Avx2>, ada_norm<Avx2>, group_norm<Avx2>};
}  // namespace latentdiff::cpu

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
