// The CPU launch: picks the instruction set once, and shares tiles out to ATen's threads.
#include "../cpu/kernels.h"
#include "../cpu/tiling.h"
#include "cpu_dispatch.h"
#include "launch.h"
#include "parallel.h"

namespace latentdiff {
namespace {

// Work worth a second thread: about 30 microseconds of it, several times what waking one costs.
constexpr int64_t drawn_grain = 16 * cpu::noise_tile;
constexpr int64_t direct_grain = 4 * cpu::direct_tile;
constexpr int64_t norm_grain = 16384;  // about ten microseconds

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

void Cpu::run(const AdaNormArguments& a, c10::Device) {
  const auto kernel = cpu_kernels().ada_norm;
  parallel_for(a.count, std::max<int64_t>(1, norm_grain / a.width),
               [&](int64_t first, int64_t last) { kernel(a, first, last); });
}

}  // namespace latentdiff
