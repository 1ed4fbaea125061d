// From tensors to the plain arguments of the kernels.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/SmallVector.h>

#include <optional>
#include <utility>

#include "../kernel_args.h"

namespace latentdiff {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

Dtype dtype_of(at::ScalarType dtype);

Table table_of(const Tensor& coef);

// No keys without seeds.
Keys keys_of(const OptionalTensor& seeds, const OptionalTensor& stream);

// The operands of one call, all of one shape [B, ...], brought to one layout with as few dimensions as they
// allow.
class Layout {
 public:
  // `numbered`: elements know their logical position (noise is drawn), so dimensions stay in order.
  // `uniform`: rows share their coefficients, so that without noise all rows can be one.
  Layout(bool numbered, bool uniform) : numbered_(numbered), uniform_(uniform) {}

  // The first operand is one that is written; its memory order is the one that is walked.
  void add(Operand& slot, const Tensor& tensor);

  // False where more than max_dims dimensions remain: the caller then has to make the tensors contiguous.
  [[nodiscard]] bool finish(Shape& shape);

 private:
  // Every operand contiguous, as nearly always: no dimensions to look at.
  [[nodiscard]] bool finish_contiguous(Shape& shape) const;

  bool numbered_, uniform_;
  c10::SmallVector<std::pair<Operand*, const Tensor*>, max_outs + 4> operands_;
};

}  // namespace latentdiff
