#include "layout.h"

#include <c10/util/SmallVector.h>

#include <algorithm>

namespace latentdiff {

Dtype dtype_of(at::ScalarType dtype) {
  switch (dtype) {
    case at::kDouble:
      return Dtype::float64;
    case at::kHalf:
      return Dtype::float16;
    case at::kBFloat16:
      return Dtype::bfloat16;
    default:
      return Dtype::float32;  // checked before
  }
}

Table table_of(const Tensor& coef) {
  return {coef.const_data_ptr(), coef.size(0) == 1 ? 0 : coef.stride(0), coef.stride(1),
          coef.scalar_type() == at::kDouble};
}

Keys keys_of(const OptionalTensor& seeds, const OptionalTensor& stream) {
  if (!seeds) return {nullptr, 0, nullptr, 0};
  return {seeds->const_data_ptr<int64_t>(), seeds->stride(0), stream->const_data_ptr<int64_t>(),
          stream->dim() == 0 ? 0 : stream->stride(0)};
}

void Layout::add(Operand& slot, const Tensor& tensor) { operands_.emplace_back(&slot, &tensor); }

bool Layout::finish_contiguous(Shape& shape) const {
  for (const auto& operand : operands_) {
    if (!operand.second->is_contiguous()) return false;
  }
  const Tensor& first = *operands_.front().second;
  const int64_t rows = first.size(0);
  shape.rows = !numbered_ && uniform_ ? 1 : rows;
  shape.inner = rows == 0 ? 0 : first.numel() / shape.rows;
  shape.dims = 1;
  shape.sizes[0] = shape.inner;
  shape.flat = shape.joined = true;
  for (const auto& [slot, tensor] : operands_) {
    slot->data = const_cast<void*>(tensor->const_data_ptr());  // written only where it is an output
    slot->row_stride = shape.rows > 1 ? shape.inner : 0;  // of a single row, none: any length can be packed
    slot->strides[0] = 1;
  }
  return true;
}

bool Layout::finish(Shape& shape) {
  if (finish_contiguous(shape)) return true;
  const Tensor& first = *operands_.front().second;
  const bool one_row = !numbered_ && uniform_;
  shape.rows = one_row ? 1 : first.size(0);

  // Dimensions of a row, without those of size 1. If elements know no number, in the memory order of the
  // first operand.
  c10::SmallVector<int64_t, 8> order;
  for (int64_t d = one_row ? 0 : 1; d < first.dim(); ++d) {
    if (first.size(d) != 1) order.push_back(d);
  }
  if (!numbered_) {
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return first.stride(a) > first.stride(b); });
  }

  // Neighbors that every operand steps through evenly are one.
  c10::SmallVector<c10::SmallVector<int64_t, 2>, 8> joined;  // size, last dimension of the group
  for (const int64_t d : order) {
    const bool even =
        !joined.empty() && std::all_of(operands_.begin(), operands_.end(), [&](const auto& operand) {
          return operand.second->stride(joined.back()[1]) == operand.second->stride(d) * first.size(d);
        });
    if (even) {
      joined.back() = {joined.back()[0] * first.size(d), d};
    } else {
      joined.push_back({first.size(d), d});
    }
  }
  if (joined.size() > static_cast<size_t>(max_dims)) return false;

  shape.dims = joined.empty() ? 1 : static_cast<int>(joined.size());
  shape.inner = 1;
  shape.flat = shape.dims == 1;
  shape.sizes[0] = 1;
  for (size_t i = 0; i < joined.size(); ++i) {
    shape.sizes[i] = joined[i][0];
    shape.inner *= joined[i][0];
  }
  shape.joined = true;
  for (const auto& [slot, tensor] : operands_) {
    slot->data = const_cast<void*>(tensor->const_data_ptr());  // written only where it is an output
    slot->row_stride = one_row ? 0 : tensor->stride(0);
    slot->strides[0] = 1;
    for (size_t i = 0; i < joined.size(); ++i) slot->strides[i] = tensor->stride(joined[i][1]);
    shape.flat = shape.flat && (slot->strides[0] == 1 || shape.inner == 1);
    shape.joined = shape.joined && (slot->row_stride == shape.inner || shape.rows == 1);
  }
  shape.joined = shape.joined && shape.flat;
  return true;
}

}  // namespace latentdiff
