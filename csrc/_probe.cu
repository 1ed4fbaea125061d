// One thread does one item (16 bytes, one or two Philox blocks) at a time and strides through the grid.
#include "form.h"
#include "item.h"
#include "cuda/kernels.h"

namespace latentdiff::cuda {
namespace {

constexpr int threads = 256;
constexpr int blocks_per_multiprocessor = 32;  // a few waves: the tail of the last one stays short

// Items of a call, row after row.
struct Items {
  int64_t per_row, total;
  bool packed;

  template <class T, class Arguments>
  static Items of(const Arguments& a) {
    const int64_t per_row = (a.shape.inner + item_size<T> - 1) / item_size<T>;
    return {per_row, a.shape.rows * per_row, packs<T>(a)};
  }

  template <class T>
  __device__ __forceinline__ Place place_of(const Shape& shape, int64_t index) const {
    int64_t row = 0;
    if (shape.rows > 1) {  // a 64-bit division costs ten times a 32-bit one
      row = index >> 32 == 0 && per_row >> 32 == 0
                ? static_cast<int64_t>(static_cast<uint32_t>(index) / static_cast<uint32_t>(per_row))
                : index / per_row;
    }
    return place<T>(shape, packed, row, index - row * per_row);
  }
};

template <class Function>
__device__ __forceinline__ void grid_stride(int64_t total, const Function& f) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  LD_NO_UNROLL
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total; i += stride) f(i);
}

template <class T>
__global__ void __launch_bounds__(threads)
    normal_kernel(const __grid_constant__ NormalArguments a, const __grid_constant__ Items items) {
  grid_stride(items.total, [&](int64_t i) { normal_item<T>(a, items.place_of<T>(a.shape, i)); });
}

template <class T, bool drawn>
__global__ void __launch_bounds__(threads)
    noising_kernel(const __grid_constant__ NoisingArguments a, const __grid_constant__ Items items) {
  grid_stride(items.total, [&](int64_t i) { noising_item<T, drawn>(a, items.place_of<T>(a.shape, i)); });
}

template <class T, int n, bool direct, bool drawn>
__global__ void __launch_bounds__(threads)
    step_kernel(const __grid_constant__ StepArguments a, const __grid_constant__ Items items) {
  grid_stride(items.total, [&](int64_t i) { step_item<T, n, direct, drawn>(a, items.place_of<T>(a.shape, i)); });
}

template __global__ void step_kernel<Half,1,true,true>(const __grid_constant__ StepArguments, const __grid_constant__ Items);
template __global__ void step_kernel<Half,1,true,false>(const __grid_constant__ StepArguments, const __grid_constant__ Items);
template __global__ void step_kernel<Half,1,false,true>(const __grid_constant__ StepArguments, const __grid_constant__ Items);
template __global__ void step_kernel<Half,1,false,false>(const __grid_constant__ StepArguments, const __grid_constant__ Items);
template __global__ void step_kernel<Half,2,true,true>(const __grid_constant__ StepArguments, const __grid_constant__ Items);
template __global__ void step_kernel<Half,2,true,false>(const __grid_constant__ StepArguments, const __grid_constant__ Items);
template __global__ void step_kernel<Half,2,false,true>(const __grid_constant__ StepArguments, const __grid_constant__ Items);
template __global__ void step_kernel<Half,2,false,false>(const __grid_constant__ StepArguments, const __grid_constant__ Items);
template __global__ void step_kernel<Bfloat,1,true,true>(const __grid_constant__ StepArguments, const __grid_constant__ Items);
template __global__ void step_kernel<Bfloat,1,true,false>(const __grid_constant__ StepArguments, const __grid_constant__ Items);
template __global__ void step_kernel<Bfloat,1,false,true>(const __grid_constant__ StepArguments, const __grid_constant__ Items);
template __global__ void step_kernel<Bfloat,1,false,false>(const __grid_constant__ StepArguments, const __grid_constant__ Items);
template __global__ void step_kernel<Bfloat,2,true,true>(const __grid_constant__ StepArguments, const __grid_constant__ Items);
template __global__ void step_kernel<Bfloat,2,true,false>(const __grid_constant__ StepArguments, const __grid_constant__ Items);
template __global__ void step_kernel<Bfloat,2,false,true>(const __grid_constant__ StepArguments, const __grid_constant__ Items);
template __global__ void step_kernel<Bfloat,2,false,false>(const __grid_constant__ StepArguments, const __grid_constant__ Items);
template __global__ void step_kernel<float,1,true,true>(const __grid_constant__ StepArguments, const __grid_constant__ Items);
template __global__ void step_kernel<float,1,true,false>(const __grid_constant__ StepArguments, const __grid_constant__ Items);
template __global__ void step_kernel<float,1,false,true>(const __grid_constant__ StepArguments, const __grid_constant__ Items);
template __global__ void step_kernel<float,1,false,false>(const __grid_constant__ StepArguments, const __grid_constant__ Items);
template __global__ void step_kernel<float,2,true,true>(const __grid_constant__ StepArguments, const __grid_constant__ Items);
template __global__ void step_kernel<float,2,true,false>(const __grid_constant__ StepArguments, const __grid_constant__ Items);
template __global__ void step_kernel<float,2,false,true>(const __grid_constant__ StepArguments, const __grid_constant__ Items);
template __global__ void step_kernel<float,2,false,false>(const __grid_constant__ StepArguments, const __grid_constant__ Items);
}}
