// One thread does one item (16 bytes, one or two Philox blocks) at a time and strides through the grid.
#include "kernels.h"

#include "../dispatch.h"
#include "../vector_item.h"
#include "grid.h"
#include "order.h"

namespace latentdiff::cuda {
namespace {

template <class Function>
__device__ __forceinline__ void grid_stride(int64_t total, const Function& f) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  LD_NO_UNROLL
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total; i += stride) f(i);
}

// Of each operation two kernels: `whole` is short, and keeps more threads on a multiprocessor than the one
// that reads whatever operands there are.
template <class T, bool whole>
__global__ void __launch_bounds__(threads)
    normal_kernel(const __grid_constant__ NormalArguments a, const __grid_constant__ Items items,
                  const __grid_constant__ Order order) {
  grid_stride(order.total,
              [&](int64_t i) { normal_item<T, whole>(a, items, order.place_of<T, whole>(a.shape, i)); });
}

template <class T, bool drawn, bool whole>
__global__ void __launch_bounds__(threads)
    noising_kernel(const __grid_constant__ NoisingArguments a, const __grid_constant__ Items items,
                   const __grid_constant__ Order order) {
  grid_stride(order.total, [&](int64_t i) {
    noising_item<T, drawn, whole>(a, items, order.place_of<T, whole>(a.shape, i));
  });
}

template <class T, int n, bool direct, bool drawn, bool whole>
__global__ void __launch_bounds__(threads)
    step_kernel(const __grid_constant__ StepArguments a, const __grid_constant__ Items items,
                const __grid_constant__ Order order) {
  grid_stride(order.total, [&](int64_t i) {
    step_item<T, n, direct, drawn, whole>(a, items, order.place_of<T, whole>(a.shape, i));
  });
}

template <class Arguments>
using Kernel = void (*)(Arguments, Items, Order);

template <class T, class Arguments>
cudaError_t launch_items(Kernel<Arguments> whole, Kernel<Arguments> any, Arguments a, const Operand& written,
                         cudaStream_t stream) {
  const Items items = Items::prepare<T>(a);
  const Order order = Order::of<T>(a.shape, items, written);
  const Kernel<Arguments> kernel = items.whole ? whole : any;
  if (order.total == 0) return cudaSuccess;
  unsigned blocks = 0;
  const cudaError_t error = grid_for((order.total + threads - 1) / threads, blocks);
  if (error != cudaSuccess) return error;
  kernel<<<blocks, threads, 0, stream>>>(a, items, order);
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch(const NormalArguments& a, cudaStream_t stream) {
  cudaError_t error = cudaSuccess;
  with_type(a.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    error = launch_items<T>(normal_kernel<T, true>, normal_kernel<T, false>, a, a.z, stream);
  });
  return error;
}

cudaError_t launch(const NoisingArguments& a, cudaStream_t stream) {
  cudaError_t error = cudaSuccess;
  with_type(a.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    with_truth(a.keys.seeds != nullptr, [&](auto drawn) {
      constexpr bool draws = decltype(drawn)::value;
      error =
          launch_items<T>(noising_kernel<T, draws, true>, noising_kernel<T, draws, false>, a, a.x_t, stream);
    });
  });
  return error;
}

cudaError_t launch(const StepArguments& a, cudaStream_t stream) {
  cudaError_t error = cudaSuccess;
  with_type(a.dtype, [&](auto type) {
    with_form(a.n, a.direct, [&](auto form) {
      using T = typename decltype(type)::type;
      using Form = decltype(form);
      with_truth(a.keys.seeds != nullptr, [&](auto drawn) {
        constexpr bool draws = decltype(drawn)::value;
        error = launch_items<T>(step_kernel<T, Form::n, Form::direct, draws, true>,
                                step_kernel<T, Form::n, Form::direct, draws, false>, a, a.x_s, stream);
      });
    });
  });
  return error;
}

}  // namespace latentdiff::cuda
