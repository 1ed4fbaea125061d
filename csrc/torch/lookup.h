// Functions of 16-bit numbers by their tables.
#pragma once

#include <ATen/core/Tensor.h>

namespace latentdiff {

// A tensor like x of the entries of `table`, which has one for each pattern of 16 bits: on the CPU.
at::Tensor lookup(const at::Tensor& x, const at::Tensor& table);

}  // namespace latentdiff
