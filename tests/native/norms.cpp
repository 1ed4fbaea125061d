// The CUDA kernels of norms on the emulated device, as functions for ctypes; each returns the launch's error.
#include "../../csrc/cuda/kernels.h"

extern "C" int ada_norm(int64_t count, int64_t width, int64_t repeat, int64_t conditions, int dtype,
                        const float* h, const void* branch, float* sum, void* y, const float* factor,
                        const float* shift, const float* gate, int64_t stride, const int64_t* rows,
                        unsigned most_blocks, unsigned most_threads) {
  latentdiff::AdaNormArguments a{};
  a.count = count;
  a.width = width;
  a.repeat = repeat;
  a.conditions = conditions;
  a.eps = 1e-5f;
  a.dtype = static_cast<latentdiff::Dtype>(dtype);
  a.h = h;
  a.branch = branch;
  a.sum = sum;
  a.y = y;
  a.factor = factor;
  a.shift = shift;
  a.gate = gate;
  a.factor_stride = a.shift_stride = a.gate_stride = stride;
  a.rows = rows;
  emulated::device = {1, most_blocks, most_threads};
  return latentdiff::cuda::launch(a, nullptr);
}
