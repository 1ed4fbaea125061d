// New tensors for results.
#pragma once

#include <ATen/core/Tensor.h>

namespace latentdiff {

// empty_like(x). Where that is fresh memory of 4 to 64 MiB on a CPU, huge pages are requested: taking it in
// pages of 4 KiB costs several times what the kernels do.
at::Tensor new_like(const at::Tensor& x);

// The same for a tensor that was just made.
at::Tensor with_huge_pages(at::Tensor made);

}  // namespace latentdiff
