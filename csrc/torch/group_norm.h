// Group normalization of bfloat16 tensors: on the CPU.
#pragma once

#include <ATen/core/Tensor.h>

namespace latentdiff {

at::Tensor group_norm(const at::Tensor& x, int64_t groups, const at::Tensor& weight, const at::Tensor& bias,
                      double eps);

}  // namespace latentdiff
