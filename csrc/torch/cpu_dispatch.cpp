#include "cpu_dispatch.h"

#include <c10/util/Exception.h>

#include <atomic>

namespace latentdiff {
namespace {

std::vector<const cpu::Kernels*> offered() {
  std::vector<const cpu::Kernels*> kernels{&cpu::portable};
#if defined(__x86_64__)
  __builtin_cpu_init();
  // Every processor with AVX2 and FMA has F16C, which not every compiler can ask for.
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    kernels.push_back(&cpu::avx2);
    if (__builtin_cpu_supports("avx512f")) kernels.push_back(&cpu::avx512);
  }
#elif defined(__aarch64__)
  kernels.push_back(&cpu::neon);
#endif
  return kernels;
}

std::atomic<const cpu::Kernels*>& chosen() {
  static std::atomic<const cpu::Kernels*> kernels{offered().back()};
  return kernels;
}

}  // namespace

const cpu::Kernels& cpu_kernels() { return *chosen().load(std::memory_order_relaxed); }

std::vector<std::string> cpu_capabilities() {
  std::vector<std::string> names;
  for (const cpu::Kernels* kernels : offered()) names.emplace_back(kernels->name);
  return names;
}

void set_cpu_capability(const std::string& name) {
  std::string names;
  for (const cpu::Kernels* kernels : offered()) {
    if (name == kernels->name) {
      chosen().store(kernels);
      return;
    }
    names += std::string(names.empty() ? "" : ", ") + kernels->name;
  }
  TORCH_CHECK_VALUE(false, "expected an instruction set out of ", names, ", got ", name);
}

}  // namespace latentdiff
