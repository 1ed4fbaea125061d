// The grid of a launch.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace latentdiff::cuda {

constexpr int threads = 256;                   // of a block
constexpr int blocks_per_multiprocessor = 32;  // a few waves: the tail of the last one stays short

// As many blocks as are `needed`, but no more than a few waves: kernels stride through the grid.
inline cudaError_t grid_for(int64_t needed, unsigned& blocks) {
  int device = 0, multiprocessors = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  }
  const int64_t most = static_cast<int64_t>(multiprocessors) * blocks_per_multiprocessor;
  blocks = static_cast<unsigned>(needed < most ? needed : most);
  return error;
}

}  // namespace latentdiff::cuda
