// CUDA on the host, for tests without a GPU: its words as standard C++, and a device whose launches run every
// thread of every block one after another or, with EMULATED_WARPS, the threads of a warp at once, as threads
// of the host. `<<<...>>>` alone is no C++: tests/native_build.py writes emulated::launch for it.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#if defined(EMULATED_WARPS)
#include <pthread.h>

#include <thread>
#include <vector>
#endif

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
inline Index grid, block, block_of;
inline thread_local Index thread_of;  // of the thread that runs

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

constexpr unsigned warp = 32;

#if defined(EMULATED_WARPS)
// Threads that exchange values: sixteen of a warp, one half.
struct Half {
  uint32_t values[warp / 2];
  pthread_barrier_t barrier;
  Half() { pthread_barrier_init(&barrier, nullptr, warp / 2); }
};
inline Half halves[2];

inline uint32_t exchanged(unsigned mask, uint32_t value, unsigned from) {
  const unsigned lane = thread_of.x % warp, which = lane / 16;
  if (mask != 0xFFFFu << 16 * which || from / 16 != which) std::abort();  // nothing else is emulated
  Half& half = halves[which];
  half.values[lane % 16] = value;
  pthread_barrier_wait(&half.barrier);
  const uint32_t found = half.values[from % 16];
  pthread_barrier_wait(&half.barrier);
  return found;
}

template <class Kernel>
void run_block(const Kernel& kernel) {
  for (unsigned first = 0; first < block.x; first += warp) {
    std::vector<std::thread> threads;
    for (unsigned t = first; t < first + warp && t < block.x; ++t) {
      threads.emplace_back([&kernel, t] {
        thread_of.x = t;
        kernel();
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
}
#else
// The last thread first: nothing may depend on the order.
template <class Kernel>
void run_block(const Kernel& kernel) {
  for (thread_of.x = block.x; thread_of.x-- > 0;) kernel();
}
#endif

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
    run_block(kernel);
  }
}

}  // namespace emulated

// Arithmetic: one rounding each, never contracted (-ffp-contract=off).
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __fdiv_rn(float a, float b) { return a / b; }
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

inline void __trap() { std::abort(); }
#if defined(EMULATED_WARPS)
inline float __shfl_xor_sync(unsigned mask, float value, int lanes) {
  const unsigned from = (emulated::thread_of.x ^ lanes) % emulated::warp;
  return __uint_as_float(emulated::exchanged(mask, __float_as_uint(value), from));
}
#endif

#endif
