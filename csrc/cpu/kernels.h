// The CPU kernels: one table of functions for each instruction set, the same bits from each.
#pragma once

#include "../kernel_args.h"

namespace latentdiff::cpu {

// A call's work is cut into tiles that threads share out; a kernel does the tiles first .. last - 1.
struct Kernels {
  const char* name;
  void (*normal)(const NormalArguments&, int64_t first, int64_t last);
  void (*add_noise)(const NoisingArguments&, int64_t first, int64_t last);
  void (*step)(const StepArguments&, int64_t first, int64_t last);
  void (*ada_norm)(const AdaNormArguments&, int64_t first, int64_t last);  // of rows
  // Of samples; scratch: 4 unit + groups numbers.
  void (*group_norm)(const GroupNormArguments&, int64_t first, int64_t last, float* scratch);
};

extern const Kernels portable;
#if defined(__x86_64__)
extern const Kernels avx2;
extern const Kernels avx512;
#endif
#if defined(__aarch64__) || defined(LATENTDIFF_EMULATED_NEON)
extern const Kernels neon;
#endif

}  // namespace latentdiff::cpu
