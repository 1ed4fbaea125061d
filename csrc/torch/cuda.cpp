// The CUDA launch: on the tensors' device and torch's current stream, without a synchronization.
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "../cuda/kernels.h"
#include "launch.h"

namespace latentdiff {
namespace {

template <class Arguments>
void launch_on(const Arguments& a, c10::Device device) {
  const c10::cuda::CUDAGuard guard(device);
  C10_CUDA_CHECK(cuda::launch(a, c10::cuda::getCurrentCUDAStream(device.index()).stream()));
}

}  // namespace

void Cuda::run(const NormalArguments& a, c10::Device device) { launch_on(a, device); }
void Cuda::run(const NoisingArguments& a, c10::Device device) { launch_on(a, device); }
void Cuda::run(const StepArguments& a, c10::Device device) { launch_on(a, device); }
void Cuda::run(const AdaNormArguments& a, c10::Device device) { launch_on(a, device); }

}  // namespace latentdiff
