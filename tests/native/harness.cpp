// Runs kernels without torch over a grid of cases and prints one line for each: what was run, and a checksum
// of its results. Usage: harness KERNELS [EVERY], KERNELS one of portable, avx2, avx512, neon, cuda; EVERY:
// run one case of so many. Exits with 3 where it has no such kernels (WITH_PORTABLE and so on tell which) or
// the processor cannot run them. `cuda` are the kernels of csrc/cuda on the emulated device of
// cuda/cuda_runtime_api.h.
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "../../csrc/cpu/kernels.h"
#include "../../csrc/cpu/tiling.h"
#include "case.h"

#if defined(WITH_CUDA)
#include "../../csrc/cuda/kernels.h"
#endif

namespace harness {
namespace {

// Each does the whole of a call.
struct Kernels {
  std::function<void(const NormalArguments&)> normal;
  std::function<void(const NoisingArguments&)> add_noise;
  std::function<void(const StepArguments&)> step;
};

// The later tiles first, as if two threads shared them.
template <class Arguments>
std::function<void(const Arguments&)> tiled(void (*kernel)(const Arguments&, int64_t, int64_t)) {
  return [kernel](const Arguments& a) {
    const int64_t tiles = cpu::Tiling::of(a.shape, cpu::needs_scratch(a)).tiles(), half = tiles / 2;
    kernel(a, half, tiles);
    kernel(a, 0, half);
  };
}

[[maybe_unused]] Kernels tiled(const cpu::Kernels& kernels) {
  return {tiled(kernels.normal), tiled(kernels.add_noise), tiled(kernels.step)};
}

#if defined(WITH_CUDA)
// One launch, on a device and with a grid that change from call to call.
template <class Arguments>
void launch(const Arguments& a) {
  static unsigned calls = 0;
  constexpr unsigned unlimited = ~0u, blocks[] = {unlimited, 1, 3}, threads[] = {unlimited, 1, 7, 32};
  emulated::device = {1 + static_cast<int>(calls % 2), blocks[calls % 3], threads[calls / 3 % 4]};
  ++calls;
  if (const cudaError_t error = cuda::launch(a, nullptr); error != cudaSuccess) {
    std::fprintf(stderr, "the launch failed with error %d\n", error);
    std::exit(1);
  }
}
#endif

void print(const Case& c, const Checksum& sum, bool intact) {
  std::printf(
      "%s dtype=%s rows=%lld inner=%lld layout=%s noise=%s n=%d direct=%d clip=%d x0=%d wide=%d uniform=%d "
      "wild=%d alias=%s period=%lld seed=%llu sum=%016llx%s\n",
      c.op.c_str(), dtypes[c.dtype], static_cast<long long>(c.rows), static_cast<long long>(c.inner),
      layouts[c.layout], noises[c.noise], c.n, c.direct, c.clip, c.x0, c.wide, c.uniform, c.wild,
      aliases[c.alias], static_cast<long long>(c.period), static_cast<unsigned long long>(c.seed),
      static_cast<unsigned long long>(sum.sum), intact ? "" : " WROTE BEYOND ITS RESULTS");
}

template <class T>
void normal(const Kernels& kernels, const Case& c, NormalArguments& a, const KeyTable& keys) {
  Buffer<T> z(c, a.shape, 0);
  a.keys = keys.keys(c);
  a.z = z.operand;
  kernels.normal(a);
  Checksum sum;
  z.take(c, a.shape, sum);
  print(c, sum, z.intact());
}

template <class T>
void add_noise(const Kernels& kernels, const Case& c, NoisingArguments& a, const KeyTable& keys) {
  const Coefficients coefficients(c, 4);
  Buffer<T> x0(c, a.shape, 0, c.period > 0), noise(c, a.shape, 1), x_t(c, a.shape, 0), target(c, a.shape, 1);
  x0.fill(c, a.shape, list_x, c.period);
  noise.fill(c, a.shape, list_noise);
  Buffer<T>& written = c.alias == of_x ? x0 : x_t;
  Buffer<T>& written_target = c.alias == of_noise ? noise : target;
  a.keys = keys.keys(c);
  a.coef = coefficients.table(c);
  a.x0 = x0.operand;
  if (c.noise == given) a.noise = noise.operand;
  a.x_t = written.operand;
  a.target = written_target.operand;
  kernels.add_noise(a);
  Checksum sum;
  written.take(c, a.shape, sum);
  written_target.take(c, a.shape, sum);
  print(c, sum, x0.intact() && noise.intact() && written.intact() && written_target.intact());
}

template <class T>
void step(const Kernels& kernels, const Case& c, StepArguments& a, const KeyTable& keys) {
  const Coefficients coefficients(c, 4 + c.n + (c.direct ? c.n : 0));
  Buffer<T> x(c, a.shape, 0), noise(c, a.shape, 1), x_s(c, a.shape, 0), x0(c, a.shape, 1);
  x.fill(c, a.shape, list_x);
  noise.fill(c, a.shape, list_noise);
  std::vector<Buffer<T>> outs;
  for (int i = 0; i < c.n; ++i) {
    const bool repeated = i == 0 && c.period > 0;
    outs.emplace_back(c, a.shape, i, repeated);
    outs[i].fill(c, a.shape, list_outs + i, repeated ? c.period : 0);
    a.outs[i] = outs[i].operand;
  }
  Buffer<T>& written = c.alias == of_x       ? x
                       : c.alias == of_out   ? outs[c.n - 1]
                       : c.alias == of_noise ? noise
                                             : x_s;
  a.keys = keys.keys(c);
  a.coef = coefficients.table(c);
  a.n = c.n;
  a.direct = c.direct;
  a.clipped = c.clip;
  a.bound = c.clip ? 0.7 : 0.0;
  a.x = x.operand;
  if (c.noise == given) a.noise = noise.operand;
  a.x_s = written.operand;
  if (c.x0) a.x0 = x0.operand;
  kernels.step(a);
  Checksum sum;
  written.take(c, a.shape, sum);
  if (c.x0) x0.take(c, a.shape, sum);
  bool intact = x.intact() && noise.intact() && written.intact() && (!c.x0 || x0.intact());
  for (const Buffer<T>& out : outs) intact = intact && out.intact();
  print(c, sum, intact);
}

template <class T>
void run_case(const Kernels& kernels, const Case& c) {
  const KeyTable keys(c);
  const Shape shape{c.rows, c.inner, 1, {}, true, true};
  const auto dtype = static_cast<Dtype>(c.dtype);
  if (c.op == "normal") {
    NormalArguments a{shape, dtype, {}, {}};
    normal<T>(kernels, c, a, keys);
  } else if (c.op == "add_noise") {
    NoisingArguments a{shape, dtype, {}, {}, {}, {}, {}, {}};
    add_noise<T>(kernels, c, a, keys);
  } else {
    StepArguments a{};
    a.shape = shape;
    a.dtype = dtype;
    step<T>(kernels, c, a, keys);
  }
}

// What the grid does not fix is chosen by the case's number.
void finish(Case& c) {
  uint64_t choice = word(c.seed, list_choice, 0);
  const auto choose = [&](int options) {
    const int chosen = static_cast<int>(choice % options);
    choice /= options;
    return chosen;
  };
  constexpr int64_t batches[] = {1, 3, 64};
  int batch = choose(3);
  while (batch > 0 && batches[batch] * c.inner > (c.inner > 1025 ? 16384 : 4096)) --batch;
  c.rows = batches[batch];
  c.clip = c.op == "step" && choose(2);
  c.x0 = c.op == "step" && choose(2);
  c.wide = choose(2);
  c.uniform = choose(2);
  c.wild = choose(2);
  c.period = 0;
  if (c.op != "normal" && (c.layout == expanded || c.layout == broadcast)) {
    c.period = c.layout == expanded ? c.inner : c.inner / divisor(c.inner);
  }
  c.alias = c.op == "normal" ? nothing : choose(4);
  if (c.alias == of_noise && c.noise != given) c.alias = of_x;
  if (c.alias == of_out && (c.op == "add_noise" || (c.n == 1 && c.period > 0))) c.alias = nothing;
  if (c.alias == of_x && c.op == "add_noise" && c.period > 0) c.alias = nothing;
}

template <class Function>
void each_case(const Function& f) {
  uint64_t seed = 0;
  const auto give = [&](const char* op, int dtype, int layout, int64_t inner, int noise, int n, int direct) {
    Case c{op, seed++, dtype, layout, noise, n, direct, 0, 0, 0, 0, 0, 0, 0, inner, 0};
    finish(c);
    f(c);
  };
  for (int dtype = 0; dtype < 4; ++dtype) {
    for (int layout = 0; layout <= broadcast; ++layout) {
      for (const int64_t inner : lengths) {
        give("normal", dtype, layout, inner, drawn, 0, 0);
        for (const int noise : {drawn, given}) give("add_noise", dtype, layout, inner, noise, 0, 0);
        for (const int noise : {drawn, given, none}) {
          const int forms = inner > 1025 ? 1 : 8;  // of long rows one form each
          for (int i = 0; i < forms; ++i) {
            const int form = forms == 1 ? static_cast<int>(seed % 8) : i;
            give("step", dtype, layout, inner, noise, 1 + form / 2, form % 2);
          }
        }
      }
    }
  }
}

// None: not linked, or this processor cannot run them.
std::optional<Kernels> find(const std::string& name) {
#if defined(WITH_PORTABLE)
  if (name == "portable") return tiled(cpu::portable);
#endif
#if defined(WITH_AVX2)
  if (name == "avx2" && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    return tiled(cpu::avx2);
#endif
#if defined(WITH_AVX512)
  if (name == "avx512" && __builtin_cpu_supports("avx512f")) return tiled(cpu::avx512);
#elif defined(WITH_EMULATED_AVX512)  // compiled for avx2
  if (name == "avx512" && __builtin_cpu_supports("avx2")) return tiled(cpu::avx512);
#endif
#if defined(WITH_NEON) || defined(LATENTDIFF_EMULATED_NEON)
  if (name == "neon") return tiled(cpu::neon);
#endif
#if defined(WITH_CUDA)
  if (name == "cuda")
    return Kernels{launch<NormalArguments>, launch<NoisingArguments>, launch<StepArguments>};
#endif
  return std::nullopt;
}

}  // namespace
}  // namespace harness

int main(int count, char** words) {
  using namespace harness;
  const std::optional<Kernels> kernels = count > 1 ? find(words[1]) : std::nullopt;
  if (!kernels) {
    std::fprintf(
        stderr,
        "expected kernels that are linked and that this processor runs: portable, avx2, avx512, neon or "
        "cuda\n");
    return 3;
  }
  const uint64_t every = count > 2 ? std::strtoull(words[2], nullptr, 10) : 1;
  each_case([&](const Case& c) {
    if (c.seed % every != 0) return;
    switch (static_cast<latentdiff::Dtype>(c.dtype)) {
      case latentdiff::Dtype::float32:
        return run_case<float>(*kernels, c);
      case latentdiff::Dtype::float64:
        return run_case<double>(*kernels, c);
      case latentdiff::Dtype::float16:
        return run_case<latentdiff::Half>(*kernels, c);
      case latentdiff::Dtype::bfloat16:
        return run_case<latentdiff::Bfloat>(*kernels, c);
    }
  });
  return 0;
}
