#include "check.h"

#include <ATen/MemoryOverlap.h>
#include <c10/core/ScalarType.h>

#include <string>
#include <utility>

#include "../step.h"

namespace latentdiff::check {
namespace {

constexpr const char* value_names = "float16, bfloat16, float32, float64";

bool is_value(at::ScalarType dtype) {
  return dtype == at::kFloat || dtype == at::kDouble || dtype == at::kHalf || dtype == at::kBFloat16;
}

std::string name_of(at::ScalarType dtype) { return "torch." + std::string(c10::getDtypeNames(dtype).first); }

void device(const char* op, const std::string& name, const Tensor& tensor, const char* model_name,
            const Tensor& model) {
  TORCH_CHECK_VALUE(tensor.device() == model.device(), op, ": expected ", name, " on ", model_name,
                    " device ", model.device(), ", got ", tensor.device());
}

void samples(const char* op, const char* name, const Tensor& x) {
  TORCH_CHECK_TYPE(is_value(x.scalar_type()), op, ": expected ", name, " of dtype ", value_names, ", got ",
                   name_of(x.scalar_type()));
  TORCH_CHECK_VALUE(x.dim() >= 1, op, ": expected ", name, " of shape [B, ...], got a 0-d tensor");
}

void like(const char* op, const std::string& name, const Tensor& tensor, const std::string& model_name,
          const Tensor& model) {
  TORCH_CHECK_TYPE(tensor.scalar_type() == model.scalar_type(), op, ": expected ", name, " of ", model_name,
                   " dtype ", name_of(model.scalar_type()), ", got ", name_of(tensor.scalar_type()));
  TORCH_CHECK_VALUE(tensor.sizes() == model.sizes(), op, ": expected ", name, " of ", model_name, " shape ",
                    model.sizes(), ", got ", tensor.sizes());
  device(op, name, tensor, model_name.c_str(), model);
}

void coefficients(const char* op, const Tensor& coef, const char* name, const Tensor& x, int64_t few,
                  int64_t many) {
  TORCH_CHECK_TYPE(coef.scalar_type() == at::kFloat || coef.scalar_type() == at::kDouble, op,
                   ": expected coef of dtype float32, float64, got ", name_of(coef.scalar_type()));
  const bool shaped = coef.dim() == 2 && (coef.size(1) == few || coef.size(1) == many) &&
                      (coef.size(0) == 1 || coef.size(0) == x.size(0));
  if (!shaped) {
    const std::string wanted = std::to_string(few) + (few == many ? "" : " or " + std::to_string(many));
    TORCH_CHECK_VALUE(false, op, ": expected coef of shape [1 or ", x.size(0), ", ", wanted, "], got ",
                      coef.sizes());
  }
  device(op, "coef", coef, name, x);
}

void conditions(const char* op, const char* name, const Tensor& x, const Tensor& h, int64_t count) {
  TORCH_CHECK_TYPE(x.scalar_type() == at::kFloat, op, ": expected ", name, " of dtype torch.float32, got ",
                   name_of(x.scalar_type()));
  TORCH_CHECK_VALUE(x.dim() == 2 && x.size(0) == count && x.size(1) == h.size(-1), op, ": expected ", name,
                    " of shape [", count == 0 ? "U" : std::to_string(count), ", ", h.size(-1), "], got ",
                    x.sizes());
  device(op, name, x, "h's", h);
}

void keys(const char* op, const Tensor& seeds, const Tensor& stream) {
  TORCH_CHECK_TYPE(seeds.scalar_type() == at::kLong, op, ": expected seeds of dtype int64, got ",
                   name_of(seeds.scalar_type()));
  TORCH_CHECK_TYPE(stream.scalar_type() == at::kLong, op, ": expected stream of dtype int64, got ",
                   name_of(stream.scalar_type()));
  TORCH_CHECK_VALUE(seeds.dim() == 1, op, ": expected seeds of shape [B], got ", seeds.sizes());
  TORCH_CHECK_VALUE(stream.dim() == 0 || stream.sizes() == seeds.sizes(), op,
                    ": expected stream of shape [] or ", seeds.sizes(), ", got ", stream.sizes());
  device(op, "stream", stream, "seeds'", seeds);
}

void given_or_drawn(const char* op, const char* name, const Tensor& x, const OptionalTensor& noise,
                    const OptionalTensor& seeds, const OptionalTensor& stream) {
  if (noise) {
    TORCH_CHECK_VALUE(!seeds && !stream, op, ": expected either noise or (seeds, stream), got both");
    like(op, "noise", *noise, name, x);
  } else if (seeds && stream) {
    keys(op, *seeds, *stream);
    TORCH_CHECK_VALUE(seeds->size(0) == x.size(0), op, ": expected seeds of shape [", x.size(0), "], got ",
                      seeds->sizes());
    device(op, "seeds", *seeds, name, x);
  } else {
    TORCH_CHECK_VALUE(!seeds && !stream, op, ": expected seeds and stream together, got ",
                      seeds ? "seeds alone" : "stream alone");
  }
}

}  // namespace

void normal(const Tensor& seeds, const Tensor& stream, at::IntArrayRef shape, at::ScalarType dtype) {
  keys("normal", seeds, stream);
  TORCH_CHECK_TYPE(is_value(dtype), "normal: expected dtype one of ", value_names, ", got ", name_of(dtype));
  for (const int64_t size : shape) {
    TORCH_CHECK_VALUE(size >= 0, "normal: expected a shape of sizes >= 0, got ", shape);
  }
}

void normal_out(const Tensor& seeds, const Tensor& stream, const Tensor& out) {
  keys("normal", seeds, stream);
  samples("normal", "out", out);
  TORCH_CHECK_VALUE(out.size(0) == seeds.size(0), "normal: expected out of shape [", seeds.size(0),
                    ", ...], got ", out.sizes());
  device("normal", "out", out, "seeds'", seeds);
  at::assert_no_internal_overlap(out);
}

void add_noise(const Tensor& x0, const Tensor& coef, const OptionalTensor& noise, const OptionalTensor& seeds,
               const OptionalTensor& stream) {
  samples("add_noise", "x0", x0);
  coefficients("add_noise", coef, "x0's", x0, 4, 4);
  TORCH_CHECK_VALUE(noise || seeds || stream, "add_noise: expected noise or (seeds, stream), got neither");
  given_or_drawn("add_noise", "x0's", x0, noise, seeds, stream);
}

void step(const char* op, const Tensor& x, at::TensorList outs, const Tensor& coef,
          std::optional<double> clip, const OptionalTensor& noise, const OptionalTensor& seeds,
          const OptionalTensor& stream) {
  samples(op, "x", x);
  const auto n = static_cast<int64_t>(outs.size());
  TORCH_CHECK_VALUE(1 <= n && n <= max_outs, op, ": expected 1 to ", max_outs, " outs, got ", n);
  for (int64_t i = 0; i < n; ++i) {
    const Tensor& out = outs[i];
    // the name is only built for a message: this runs at every step
    if (out.scalar_type() != x.scalar_type() || out.sizes() != x.sizes() || out.device() != x.device()) {
      like(op, "outs[" + std::to_string(i) + "]", out, "x's", x);
    }
  }
  coefficients(op, coef, "x's", x, 4 + n, 4 + 2 * n);
  TORCH_CHECK_VALUE(!clip || *clip > 0, op, ": expected clip > 0 or None, got ", clip.value_or(0));
  given_or_drawn(op, "x's", x, noise, seeds, stream);
}

void ada_norm(const char* op, const Tensor& h, const Tensor& factor, const Tensor& shift,
              const OptionalTensor& rows, at::ScalarType dtype) {
  TORCH_CHECK_TYPE(dtype == at::kFloat || dtype == at::kHalf || dtype == at::kBFloat16, op,
                   ": expected a result of dtype float16, bfloat16, float32, got ", name_of(dtype));
  TORCH_CHECK_TYPE(h.scalar_type() == at::kFloat, op, ": expected h of dtype torch.float32, got ",
                   name_of(h.scalar_type()));
  TORCH_CHECK_VALUE(h.dim() >= 2, op, ": expected h of shape [B, ..., D], got ", h.sizes());
  conditions(op, "factor", factor, h, factor.dim() == 2 ? factor.size(0) : 0);
  conditions(op, "shift", shift, h, factor.size(0));
  if (rows) {
    TORCH_CHECK_TYPE(rows->scalar_type() == at::kLong, op, ": expected rows of dtype int64, got ",
                     name_of(rows->scalar_type()));
    TORCH_CHECK_VALUE(rows->dim() == 1 && rows->size(0) == h.size(0), op, ": expected rows of shape [",
                      h.size(0), "], got ", rows->sizes());
    device(op, "rows", *rows, "h's", h);
  } else {
    TORCH_CHECK_VALUE(factor.size(0) == h.size(0), op, ": expected factor of shape [", h.size(0), ", ",
                      h.size(-1), "], got ", factor.sizes());
  }
}

void add_ada_norm(const Tensor& h, const Tensor& branch, const Tensor& gate, const Tensor& factor,
                  const Tensor& shift, const OptionalTensor& rows) {
  const char* op = "add_ada_norm";
  ada_norm(op, h, factor, shift, rows, branch.scalar_type());
  conditions(op, "gate", gate, h, factor.size(0));
  TORCH_CHECK_VALUE(branch.sizes() == h.sizes(), op, ": expected branch of h's shape ", h.sizes(), ", got ",
                    branch.sizes());
  device(op, "branch", branch, "h's", h);
}

void group_norm(const Tensor& x, int64_t groups, const Tensor& weight, const Tensor& bias) {
  const char* op = "group_norm";
  TORCH_CHECK_TYPE(x.scalar_type() == at::kBFloat16, op, ": expected x of dtype torch.bfloat16, got ",
                   name_of(x.scalar_type()));
  TORCH_CHECK_VALUE(x.dim() == 4, op, ": expected x of shape [B, C, H, W], got ", x.sizes());
  TORCH_CHECK_VALUE(groups > 0 && x.size(1) % groups == 0 && x.size(1) > 0, op,
                    ": expected groups that divide ", x.size(1), " channels, got ", groups);
  const std::pair<const char*, const Tensor&> both[] = {{"weight", weight}, {"bias", bias}};
  for (const auto& [name, values] : both) {
    TORCH_CHECK_TYPE(values.scalar_type() == at::kFloat, op, ": expected ", name,
                     " of dtype torch.float32, got ", name_of(values.scalar_type()));
    TORCH_CHECK_VALUE(values.dim() == 1 && values.size(0) == x.size(1), op, ": expected ", name,
                      " of shape [", x.size(1), "], got ", values.sizes());
    device(op, name, values, "x's", x);
  }
}

void lookup(const Tensor& x, const Tensor& table) {
  const auto type = x.scalar_type();
  TORCH_CHECK_TYPE(type == at::kHalf || type == at::kBFloat16,
                   "lookup: expected x of dtype float16, bfloat16, got ", name_of(type));
  TORCH_CHECK_TYPE(table.scalar_type() == type, "lookup: expected table of x's dtype ", name_of(type),
                   ", got ", name_of(table.scalar_type()));
  TORCH_CHECK_VALUE(table.dim() == 1 && table.size(0) == 65536,
                    "lookup: expected table of shape [65536], got ", table.sizes());
  device("lookup", "table", table, "x's", x);
}

void out(const char* op, const char* name, const Tensor& to, const Tensor& model, const char* model_name) {
  like(op, name, to, model_name, model);
  at::assert_no_internal_overlap(to);
}

void apart(const char* op, const char* first_name, const Tensor& first, const char* second_name,
           const Tensor& second) {
  const auto status = at::get_overlap_status(first, second);
  const bool same = first.numel() > 0 && first.const_data_ptr() == second.const_data_ptr();
  TORCH_CHECK_VALUE(!same && status != at::MemOverlapStatus::Full && status != at::MemOverlapStatus::Partial,
                    op, ": expected ", first_name, " and ", second_name,
                    " in different memory, got the same twice");
}

void written(const Tensor& to) {
  if (!to.is_inference()) to.unsafeGetTensorImpl()->bump_version();
}

bool may_write(const Tensor& to, const Tensor& input) {
  if (!to.is_alias_of(input)) return true;
  if (to.const_data_ptr() == input.const_data_ptr() && to.strides() == input.strides()) return true;
  return at::get_overlap_status(to, input) == at::MemOverlapStatus::No;
}

}  // namespace latentdiff::check
