// The kernels in AVX-512F, whatever flags the rest is compiled with.
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx2,fma,f16c")
#endif

#include "avx512.h"
#include "../ada_norm.h"
#include "group_norm.h"
#include "kernels.h"
#include "tile.h"

namespace latentdiff::cpu {
extern const Kernels avx512{"avx512",     normal<Avx512>,   add_noise<Avx512>,
                            step<Avx512>, ada_norm<Avx512>, group_norm<Avx512>};
}  // namespace latentdiff::cpu

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
