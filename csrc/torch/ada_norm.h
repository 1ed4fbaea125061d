// Adaptive layer norm on tensors of one device, without gradients.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace latentdiff {

template <class Device>
struct AdaNorm {
  static at::Tensor ada_norm(const at::Tensor& h, const at::Tensor& factor, const at::Tensor& shift,
                             const std::optional<at::Tensor>& rows, at::ScalarType dtype);

  static std::tuple<at::Tensor, at::Tensor> add_ada_norm(const at::Tensor& h, const at::Tensor& branch,
                                                         const at::Tensor& gate, const at::Tensor& factor,
                                                         const at::Tensor& shift,
                                                         const std::optional<at::Tensor>& rows);
};

}  // namespace latentdiff
