// Sixteen threads do one row at a time, each a lane of its sums, and stride through the grid.
#include "../ada_norm.h"

#include "grid.h"
#include "kernels.h"

namespace latentdiff {
namespace {

// The number type of a row's threads: each holds one lane. What is not of sixteen lanes, every one of them
// computes and writes alike.
struct Team : Scalar<float> {
  static constexpr int lanes = sum_lanes;

  static __device__ __forceinline__ unsigned lane() { return threadIdx.x % lanes; }
  template <class T>
  static __device__ __forceinline__ float read(const T* from) {
    return load(from[lane()]);
  }
  template <class T>
  static __device__ __forceinline__ void write(float value, T* to) {
    store(value, to[lane()]);
  }
};

template <>
struct Sum<Team> {
  static constexpr int parts = 1;
  float part[parts];

  static __device__ __forceinline__ Sum zero() { return {{0.0f}}; }

  // Of every lane the same sum of halves, as an addition has the same bits either way round.
  __device__ __forceinline__ float total() const {
    const unsigned mask = 0xFFFFu << (threadIdx.x % 32 / Team::lanes * Team::lanes);
    float sum = part[0];
    LD_UNROLL
    for (int half = Team::lanes / 2; half > 0; half /= 2) {
      sum = Team::add(sum, __shfl_xor_sync(mask, sum, half));
    }
    return sum;
  }
};

template <class T>
__global__ void __launch_bounds__(cuda::threads) ada_norm_kernel(const __grid_constant__ AdaNormArguments a) {
  const int64_t teams = blockDim.x / Team::lanes, stride = gridDim.x * teams;
  for (int64_t row = blockIdx.x * teams + threadIdx.x / Team::lanes; row < a.count; row += stride) {
    if (a.rows != nullptr) {
      const int64_t condition = a.rows[row / a.repeat];
      if (condition < 0 || condition >= a.conditions) __trap();  // as an index of torch that is out of range
    }
    ada_norm_row<Team, T>(a, row);
  }
}

}  // namespace

namespace cuda {

cudaError_t launch(const AdaNormArguments& a, cudaStream_t stream) {
  if (a.count == 0) return cudaSuccess;
  void (*kernel)(AdaNormArguments) = a.dtype == Dtype::bfloat16  ? ada_norm_kernel<Bfloat>
                                     : a.dtype == Dtype::float16 ? ada_norm_kernel<Half>
                                                                 : ada_norm_kernel<float>;
  const int64_t teams = threads / Team::lanes;
  unsigned blocks = 0;
  const cudaError_t error = grid_for((a.count + teams - 1) / teams, blocks);
  if (error != cudaSuccess) return error;
  kernel<<<blocks, threads, 0, stream>>>(a);
  return cudaGetLastError();
}

}  // namespace cuda
}  // namespace latentdiff
