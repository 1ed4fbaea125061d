// Adaptive layer norm on tensors: on the CPU.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace latentdiff {

at::Tensor ada_norm(const at::Tensor& h, const at::Tensor& factor, const at::Tensor& shift,
                    const std::optional<at::Tensor>& rows, at::ScalarType dtype);

std::tuple<at::Tensor, at::Tensor> add_ada_norm(const at::Tensor& h, const at::Tensor& branch,
                                                const at::Tensor& gate, const at::Tensor& factor,
                                                const at::Tensor& shift,
                                                const std::optional<at::Tensor>& rows);

}  // namespace latentdiff
