#include "ada_norm.h"

#include <ATen/Functions.h>
#include <ATen/core/LegacyTypeDispatch.h>

#include <algorithm>

#include "check.h"
#include "launch.h"

namespace latentdiff {
namespace {

Dtype kernel_dtype(at::ScalarType type) {
  return type == at::kFloat ? Dtype::float32 : type == at::kHalf ? Dtype::float16 : Dtype::bfloat16;
}

// The numbers of each condition follow one another.
at::Tensor packed(const at::Tensor& x) { return x.stride(1) == 1 || x.size(1) == 1 ? x : x.contiguous(); }

template <class Device>
std::tuple<at::Tensor, at::Tensor> computed(const at::Tensor& h, const at::Tensor* branch,
                                            const at::Tensor* gate, const at::Tensor& factor,
                                            const at::Tensor& shift, const std::optional<at::Tensor>& rows,
                                            at::ScalarType dtype) {
  const at::AutoDispatchBelowADInplaceOrView guard;
  const at::Tensor from = h.contiguous(), scales = packed(factor), shifts = packed(shift);
  const at::Tensor added = branch == nullptr ? at::Tensor() : branch->contiguous();
  const at::Tensor gates = gate == nullptr ? at::Tensor() : packed(*gate);
  const at::Tensor places = rows ? rows->contiguous() : at::Tensor();
  at::Tensor sum = branch == nullptr ? from : at::empty_like(from);
  at::Tensor y = at::empty_like(from, from.options().dtype(dtype));
  const int64_t width = h.size(-1), count = width == 0 ? 0 : h.numel() / width;
  if (count == 0) return {sum, y};
  if (rows && h.is_cpu()) {  // a kernel on CUDA looks itself: it is not waited for
    const int64_t* first = places.const_data_ptr<int64_t>();
    const auto known = [&](int64_t row) { return row >= 0 && row < scales.size(0); };
    TORCH_CHECK_INDEX(std::all_of(first, first + places.size(0), known), "ada_norm: expected rows in 0..",
                      scales.size(0) - 1, ", got another");
  }
  AdaNormArguments a{};
  a.count = count;
  a.width = width;
  a.conditions = scales.size(0);
  a.repeat = count / (rows ? places.size(0) : scales.size(0));
  a.eps = 1e-5f;
  a.dtype = kernel_dtype(dtype);
  a.h = from.const_data_ptr<float>();
  a.factor = scales.const_data_ptr<float>();
  a.shift = shifts.const_data_ptr<float>();
  a.factor_stride = scales.stride(0);
  a.shift_stride = shifts.stride(0);
  a.rows = rows ? places.const_data_ptr<int64_t>() : nullptr;
  a.y = y.mutable_data_ptr();
  if (branch != nullptr) {
    a.branch = added.const_data_ptr();
    a.gate = gates.const_data_ptr<float>();
    a.gate_stride = gates.stride(0);
    a.sum = sum.mutable_data_ptr<float>();
  }
  Device::run(a, h.device());
  return {sum, y};
}

}  // namespace

template <class Device>
at::Tensor AdaNorm<Device>::ada_norm(const at::Tensor& h, const at::Tensor& factor, const at::Tensor& shift,
                                     const std::optional<at::Tensor>& rows, at::ScalarType dtype) {
  check::ada_norm("ada_norm", h, factor, shift, rows, dtype);
  return std::get<1>(computed<Device>(h, nullptr, nullptr, factor, shift, rows, dtype));
}

template <class Device>
std::tuple<at::Tensor, at::Tensor> AdaNorm<Device>::add_ada_norm(
    const at::Tensor& h, const at::Tensor& branch, const at::Tensor& gate, const at::Tensor& factor,
    const at::Tensor& shift, const std::optional<at::Tensor>& rows) {
  check::add_ada_norm(h, branch, gate, factor, shift, rows);
  return computed<Device>(h, &branch, &gate, factor, shift, rows, branch.scalar_type());
}

template struct AdaNorm<Cpu>;
#if defined(LATENTDIFF_WITH_CUDA)
template struct AdaNorm<Cuda>;
#endif

}  // namespace latentdiff
