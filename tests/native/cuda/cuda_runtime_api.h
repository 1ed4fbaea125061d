// CUDA on the host, for tests without a GPU: its words as standard C++, and a device whose launches run every
// thread of every block one after another. `<<<...>>>` alone is no C++: tests/laws/test_native_bits.py writes
// emulated::launch for it.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidConfiguration = 9 };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount = 16 };

namespace emulated {

struct Index {
  unsigned x;
};

struct Device {
  int multiprocessors = 1;
  // A launch is cut down to this grid: kernels stride through the grid that they find, of whatever size it
  // is.
  unsigned most_blocks = ~0u, most_threads = ~0u;
  cudaError_t error = cudaSuccess;  // of the last launch
};
inline Device device;
inline Index grid, block, block_of, thread_of;  // of the thread that runs

}  // namespace emulated

inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = emulated::device.multiprocessors;
  return cudaSuccess;
}
inline cudaError_t cudaGetLastError() {
  const cudaError_t error = emulated::device.error;
  emulated::device.error = cudaSuccess;
  return error;
}

#if defined(__CUDACC__)

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define gridDim emulated::grid
#define blockDim emulated::block
#define blockIdx emulated::block_of
#define threadIdx emulated::thread_of

namespace emulated {

// The last thread first: nothing may depend on the order.
template <class Kernel>
void launch(const Kernel& kernel, unsigned blocks, unsigned threads, unsigned /* shared memory */,
            cudaStream_t) {
  if (blocks < 1 || blocks >= 1u << 31 || threads < 1 || threads > 1024) {
    device.error = cudaErrorInvalidConfiguration;
    return;
  }
  grid.x = blocks < device.most_blocks ? blocks : device.most_blocks;
  block.x = threads < device.most_threads ? threads : device.most_threads;
  for (block_of.x = grid.x; block_of.x-- > 0;) {
    for (thread_of.x = block.x; thread_of.x-- > 0;) kernel();
  }
}

}  // namespace emulated

// Arithmetic: one rounding each, never contracted (-ffp-contract=off).
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline float __int2float_rn(int a) { return static_cast<float>(a); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(uint64_t{a} * b >> 32); }
inline unsigned __float_as_uint(float a) {
  unsigned bits;
  std::memcpy(&bits, &a, sizeof bits);
  return bits;
}
inline float __uint_as_float(unsigned bits) {
  float a;
  std::memcpy(&a, &bits, sizeof a);
  return a;
}

#endif
