// What the operations accept. Every message names the operation, what it expected and what it got; the
// wording is that of latentdiff/ops/check.py.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace latentdiff::check {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

void normal(const Tensor& seeds, const Tensor& stream, at::IntArrayRef shape, at::ScalarType dtype);

void normal_out(const Tensor& seeds, const Tensor& stream, const Tensor& out);

void add_noise(const Tensor& x0, const Tensor& coef, const OptionalTensor& noise, const OptionalTensor& seeds,
               const OptionalTensor& stream);

void step(const char* op, const Tensor& x, at::TensorList outs, const Tensor& coef,
          std::optional<double> clip, const OptionalTensor& noise, const OptionalTensor& seeds,
          const OptionalTensor& stream);

// `op`: the name in the messages. Rows of h [..., D] have the conditions [U, D] of factor and shift.
void ada_norm(const char* op, const Tensor& h, const Tensor& factor, const Tensor& shift,
              const OptionalTensor& rows, at::ScalarType dtype);

void add_ada_norm(const Tensor& h, const Tensor& branch, const Tensor& gate, const Tensor& factor,
                  const Tensor& shift, const OptionalTensor& rows);

void group_norm(const Tensor& x, int64_t groups, const Tensor& weight, const Tensor& bias);

void lookup(const Tensor& x, const Tensor& table);

// A tensor to write into: like the samples, and no element of it twice.
void out(const char* op, const char* name, const Tensor& to, const Tensor& like, const char* like_name);

// Two tensors to write into share no memory.
void apart(const char* op, const char* first_name, const Tensor& first, const char* second_name,
           const Tensor& second);

// Tell autograd that a tensor was written: what it saved of it before is no longer what it was.
void written(const Tensor& to);

// Whether kernels may write `to` while they read `input`: they are the same elements (in place) or share no
// memory.
bool may_write(const Tensor& to, const Tensor& input);

}  // namespace latentdiff::check
