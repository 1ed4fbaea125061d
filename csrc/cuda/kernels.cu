// One thread does one item (16 bytes, one or two Philox blocks) at a time and strides through the grid.
#include "../form.h"
#include "../item.h"
#include "kernels.h"

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

template <class Arguments>
cudaError_t launch_items(void (*kernel)(Arguments, Items), const Arguments& a, const Items& items,
                         cudaStream_t stream) {
  if (items.total == 0) return cudaSuccess;
  int device = 0, multiprocessors = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  }
  if (error != cudaSuccess) return error;
  const int64_t needed = (items.total + threads - 1) / threads;
  const int64_t most = static_cast<int64_t>(multiprocessors) * blocks_per_multiprocessor;
  kernel<<<static_cast<unsigned>(needed < most ? needed : most), threads, 0, stream>>>(a, items);
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch(const NormalArguments& a, cudaStream_t stream) {
  cudaError_t error = cudaSuccess;
  with_type(a.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    error = launch_items(normal_kernel<T>, a, Items::of<T>(a), stream);
  });
  return error;
}

cudaError_t launch(const NoisingArguments& a, cudaStream_t stream) {
  cudaError_t error = cudaSuccess;
  with_type(a.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    with_truth(a.keys.seeds != nullptr, [&](auto drawn) {
      error = launch_items(noising_kernel<T, decltype(drawn)::value>, a, Items::of<T>(a), stream);
    });
  });
  return error;
}

cudaError_t launch(const StepArguments& a, cudaStream_t stream) {
  cudaError_t error = cudaSuccess;
  with_type(a.dtype, [&](auto type) {
    with_form(a.n, a.direct, [&](auto form) {
      using T = typename decltype(type)::type;
      with_truth(a.keys.seeds != nullptr, [&](auto drawn) {
        auto* kernel = step_kernel<T, decltype(form)::n, decltype(form)::direct, decltype(drawn)::value>;
        error = launch_items(kernel, a, Items::of<T>(a), stream);
      });
    });
  });
  return error;
}

}  // namespace latentdiff::cuda
