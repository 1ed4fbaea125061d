// The CPU launch: picks the instruction set once, and shares tiles out to ATen's threads.
#include <ATen/Parallel.h>

#include "../cpu/kernels.h"
#include "../cpu/tiling.h"
#include "cpu_dispatch.h"
#include "launch.h"

namespace latentdiff {
namespace {

// Work worth a second thread: about 30 microseconds of it, several times what waking one costs.
constexpr int64_t drawn_grain = 16 * cpu::noise_tile;
constexpr int64_t direct_grain = 4 * cpu::direct_tile;

// at::parallel_for without its first step: at the first call of a thread that gives it the process's number
// of threads. It does so once for each library, as its flag is a variable of an inline function, so that a
// worker which was given threads of its own would have all of them again, in the middle of its work.
template <class Function>
void parallel_for(int64_t count, int64_t grain, const Function& f) {
#if defined(INTRA_OP_PARALLEL)
  if (count > grain && at::get_num_threads() > 1 && !at::in_parallel_region())
    return at::internal::invoke_parallel(0, count, grain, f);
#endif
  f(0, count);
}

template <class Arguments>
void share_out(void (*kernel)(const Arguments&, int64_t, int64_t), const Arguments& a) {
  const bool scratch = cpu::needs_scratch(a);
  const auto tiling = cpu::Tiling::of(a.shape, scratch);
  const int64_t tiles = tiling.tiles(), elements = a.shape.rows * a.shape.inner;
  const int64_t grain = scratch ? drawn_grain : direct_grain;
  if (elements <= grain) return kernel(a, 0, tiles);
  const int64_t tiles_per_grain = std::max<int64_t>(1, tiles * grain / elements);
  parallel_for(tiles, tiles_per_grain, [&](int64_t first, int64_t last) { kernel(a, first, last); });
}

}  // namespace

void Cpu::run(const NormalArguments& a, c10::Device) { share_out(cpu_kernels().normal, a); }

void Cpu::run(const NoisingArguments& a, c10::Device) { share_out(cpu_kernels().add_noise, a); }

void Cpu::run(const StepArguments& a, c10::Device) { share_out(cpu_kernels().step, a); }

}  // namespace latentdiff
