// The Python module latentdiff._C: registers the kernels on request and reports how it was built.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/library.h>
#include <torch/version.h>

#include <vector>

#include "ada_norm.h"
#include "autograd.h"
#include "cpu_dispatch.h"
#include "group_norm.h"
#include "launch.h"
#include "lookup.h"
#include "ops.h"

// What a macro stands for, as a string.
#define LATENTDIFF_TEXT_OF(words) #words
#define LATENTDIFF_TEXT(words) LATENTDIFF_TEXT_OF(words)

#if defined(_OPENMP)
constexpr bool with_openmp = true;
#else
constexpr bool with_openmp = false;
#endif

namespace latentdiff {
namespace {

template <class Device>
void register_kernels(torch::Library& library) {
  using Kernels = Ops<Device>;
  library.impl("normal", Kernels::normal);
  library.impl("normal.out", Kernels::normal_out);
  library.impl("add_noise", Kernels::add_noise);
  library.impl("add_noise.out", Kernels::add_noise_out);
  library.impl("step", Kernels::step);
  library.impl("step.out", Kernels::step_out);
  library.impl("step_x0", Kernels::step_x0);
  library.impl("step_x0.out", Kernels::step_x0_out);
  library.impl("ada_norm", AdaNorm<Device>::ada_norm);
  library.impl("add_ada_norm", AdaNorm<Device>::add_ada_norm);
}

// The library objects keep the registrations until the process ends.
torch::Library& library(c10::DispatchKey key) {
  static std::vector<torch::Library>& libraries = *new std::vector<torch::Library>;
  libraries.reserve(8);  // registered handles refer to their place
  libraries.emplace_back(torch::Library::IMPL, "latentdiff", key, __FILE__, __LINE__);
  return libraries.back();
}

void register_all() {
  register_kernels<Cpu>(library(c10::DispatchKey::CPU));
  torch::Library& networks = library(c10::DispatchKey::CPU);
  networks.impl("lookup", lookup);
  networks.impl("group_norm", group_norm);
  register_autograd(library(c10::DispatchKey::AutogradCPU));
#if defined(LATENTDIFF_WITH_CUDA)
  register_kernels<Cuda>(library(c10::DispatchKey::CUDA));
  register_autograd(library(c10::DispatchKey::AutogradCUDA));
#endif
}

pybind11::dict build() {
  pybind11::dict facts;
  facts["torch"] = TORCH_VERSION;
#if defined(__clang__)
  facts["compiler"] = "clang " __clang_version__;
#else
  facts["compiler"] = "gcc " __VERSION__;
#endif
  facts["openmp"] = with_openmp;
#if defined(LATENTDIFF_WITH_CUDA)
  facts["cuda"] = LATENTDIFF_TEXT(LATENTDIFF_CUDA_VERSION);
  facts["cuda_architectures"] = LATENTDIFF_TEXT(LATENTDIFF_CUDA_ARCHITECTURES);
#else
  facts["cuda"] = pybind11::none();
  facts["cuda_architectures"] = pybind11::none();
#endif
  return facts;
}

}  // namespace
}  // namespace latentdiff

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  module.doc() = "The native kernels of latentdiff.ops.";
  module.def("register", latentdiff::register_all,
             "Register the kernels with torch's dispatcher; call once.");
  module.def("build", latentdiff::build, "How this module was built.");
  module.def("cpu_capabilities", latentdiff::cpu_capabilities,
             "Instruction sets of this processor, best last.");
  module.def("cpu_capability", [] { return latentdiff::cpu_kernels().name; }, "The instruction set in use.");
  module.def("set_cpu_capability", latentdiff::set_cpu_capability, pybind11::arg("name"),
             "Use another instruction set; ValueError if this processor lacks it.");
}
