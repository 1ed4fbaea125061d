#include "autograd.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>

#include <tuple>

#include "ops.h"

namespace latentdiff {
namespace {

// Reverse mode only: a tangent would be dropped silently.
void refuse_tangent(const Tensor& x) {
  TORCH_CHECK_NOT_IMPLEMENTED(!x._fw_grad(/*level=*/0).defined(),
                              "latentdiff operations have no forward-mode gradients: use reverse mode");
}

bool wants_gradient(const Tensor& x) {
  refuse_tangent(x);
  return x.requires_grad();
}
bool wants_gradient(const OptionalTensor& x) { return x && wants_gradient(*x); }
bool wants_gradient(at::TensorList tensors) {
  for (const Tensor& x : tensors) {
    if (wants_gradient(x)) return true;
  }
  return false;
}

// Where no gradient is needed, go on below autograd; else to the Python formulas, which are registered for
// every device by the alias key "Autograd": AutogradOther is the slot of it that nothing else takes.
c10::DispatchKeySet next(c10::DispatchKeySet keys, bool recorded) {
  const auto below = keys & c10::after_autograd_keyset;
  return recorded ? below | c10::DispatchKeySet(c10::DispatchKey::AutogradOther) : below;
}

using AddNoise = std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const OptionalTensor&,
                                            const OptionalTensor&, const OptionalTensor&);
using Step = Tensor(const Tensor&, at::TensorList, const Tensor&, std::optional<double>,
                    const OptionalTensor&, const OptionalTensor&, const OptionalTensor&);
using StepX0 = std::tuple<Tensor, Tensor>(const Tensor&, at::TensorList, const Tensor&, std::optional<double>,
                                          const OptionalTensor&, const OptionalTensor&,
                                          const OptionalTensor&);

template <class Signature>
c10::TypedOperatorHandle<Signature> find(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

std::tuple<Tensor, Tensor> add_noise(c10::DispatchKeySet keys, const Tensor& x0, const Tensor& coef,
                                     const OptionalTensor& noise, const OptionalTensor& seeds,
                                     const OptionalTensor& stream) {
  static const auto op = find<AddNoise>("latentdiff::add_noise");
  const bool recorded = at::GradMode::is_enabled() && (wants_gradient(x0) || wants_gradient(noise));
  if (recorded) return op.redispatch(next(keys, true), x0, coef, noise, seeds, stream);
  const at::AutoDispatchBelowADInplaceOrView guard;
  return op.redispatch(next(keys, false), x0, coef, noise, seeds, stream);
}

template <class Signature>
auto moved(const c10::TypedOperatorHandle<Signature>& op, c10::DispatchKeySet keys, const Tensor& x,
           at::TensorList outs, const Tensor& coef, std::optional<double> clip, const OptionalTensor& noise,
           const OptionalTensor& seeds, const OptionalTensor& stream) {
  const bool recorded =
      at::GradMode::is_enabled() && (wants_gradient(x) || wants_gradient(outs) || wants_gradient(noise));
  if (recorded) return op.redispatch(next(keys, true), x, outs, coef, clip, noise, seeds, stream);
  const at::AutoDispatchBelowADInplaceOrView guard;
  return op.redispatch(next(keys, false), x, outs, coef, clip, noise, seeds, stream);
}

Tensor step(c10::DispatchKeySet keys, const Tensor& x, at::TensorList outs, const Tensor& coef,
            std::optional<double> clip, const OptionalTensor& noise, const OptionalTensor& seeds,
            const OptionalTensor& stream) {
  static const auto op = find<Step>("latentdiff::step");
  return moved(op, keys, x, outs, coef, clip, noise, seeds, stream);
}

std::tuple<Tensor, Tensor> step_x0(c10::DispatchKeySet keys, const Tensor& x, at::TensorList outs,
                                   const Tensor& coef, std::optional<double> clip,
                                   const OptionalTensor& noise, const OptionalTensor& seeds,
                                   const OptionalTensor& stream) {
  static const auto op = find<StepX0>("latentdiff::step_x0");
  return moved(op, keys, x, outs, coef, clip, noise, seeds, stream);
}

}  // namespace

void register_autograd(torch::Library& library) {
  library.impl("add_noise", add_noise);
  library.impl("step", step);
  library.impl("step_x0", step_x0);
}

}  // namespace latentdiff
