// The CUDA launches, without a torch header. Each is one kernel on the given stream, asynchronous, and reads
// keys and coefficients on the device only, so that a graph can capture it and replay it with other contents.
#pragma once

#include <cuda_runtime_api.h>

#include "../kernel_args.h"

namespace latentdiff::cuda {

// Every pointer is on the current device. Returns the launch's error.
cudaError_t launch(const NormalArguments& a, cudaStream_t stream);
cudaError_t launch(const NoisingArguments& a, cudaStream_t stream);
cudaError_t launch(const StepArguments& a, cudaStream_t stream);
cudaError_t launch(const AdaNormArguments& a, cudaStream_t stream);

}  // namespace latentdiff::cuda
