// The operations of latentdiff/ops/registry.py for one device, on tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace latentdiff {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

template <class Device>
struct Ops {
  static Tensor normal(const Tensor& seeds, const Tensor& stream, at::IntArrayRef shape,
                       at::ScalarType dtype);
  static void normal_out(const Tensor& seeds, const Tensor& stream, const Tensor& out);

  static std::tuple<Tensor, Tensor> add_noise(const Tensor& x0, const Tensor& coef,
                                              const OptionalTensor& noise, const OptionalTensor& seeds,
                                              const OptionalTensor& stream);
  static void add_noise_out(const Tensor& x0, const Tensor& coef, const OptionalTensor& noise,
                            const OptionalTensor& seeds, const OptionalTensor& stream, const Tensor& x_t,
                            const Tensor& target);

  static Tensor step(const Tensor& x, at::TensorList outs, const Tensor& coef, std::optional<double> clip,
                     const OptionalTensor& noise, const OptionalTensor& seeds, const OptionalTensor& stream);
  static void step_out(const Tensor& x, at::TensorList outs, const Tensor& coef, std::optional<double> clip,
                       const OptionalTensor& noise, const OptionalTensor& seeds, const OptionalTensor& stream,
                       const Tensor& out);

  static std::tuple<Tensor, Tensor> step_x0(const Tensor& x, at::TensorList outs, const Tensor& coef,
                                            std::optional<double> clip, const OptionalTensor& noise,
                                            const OptionalTensor& seeds, const OptionalTensor& stream);
  static void step_x0_out(const Tensor& x, at::TensorList outs, const Tensor& coef,
                          std::optional<double> clip, const OptionalTensor& noise,
                          const OptionalTensor& seeds, const OptionalTensor& stream, const Tensor& x_s,
                          const Tensor& x0);
};

}  // namespace latentdiff
