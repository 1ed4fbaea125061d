#include "ops.h"

#include <ATen/ops/empty.h>

#include <vector>

#include "allocate.h"
#include "check.h"
#include "launch.h"
#include "layout.h"

namespace latentdiff {
namespace {

struct NoisingInputs {
  const Tensor& x0;
  const Tensor& coef;
  const OptionalTensor& noise;
  const OptionalTensor& seeds;
  const OptionalTensor& stream;
};

struct StepInputs {
  const char* op;
  const Tensor& x;
  at::TensorList outs;
  const Tensor& coef;
  std::optional<double> clip;
  const OptionalTensor& noise;
  const OptionalTensor& seeds;
  const OptionalTensor& stream;
};

Tensor contiguous(const Tensor& x) { return x.contiguous(); }
OptionalTensor contiguous(const OptionalTensor& x) { return x ? OptionalTensor(x->contiguous()) : x; }

template <class Device>
void run_normal(const Tensor& seeds, const Tensor& stream, const Tensor& z) {
  if (z.numel() == 0) return;
  NormalArguments a{};
  Layout layout(true, true);
  layout.add(a.z, z);
  if (!layout.finish(a.shape)) {  // too many dimensions that do not join
    const Tensor copy = at::empty(z.sizes(), z.options());
    run_normal<Device>(seeds, stream, copy);
    z.copy_(copy);
    return;
  }
  a.dtype = dtype_of(z.scalar_type());
  a.keys = keys_of(seeds, stream);
  Device::run(a, z.device());
}

template <class Device>
void run_noising(const NoisingInputs& in, const Tensor& x_t, const Tensor& target) {
  if (in.x0.numel() == 0) return;
  NoisingArguments a{};
  Layout layout(in.seeds.has_value(), in.coef.size(0) == 1);
  layout.add(a.x_t, x_t);
  layout.add(a.target, target);
  layout.add(a.x0, in.x0);
  if (in.noise) layout.add(a.noise, *in.noise);
  if (!layout.finish(a.shape)) {
    const Tensor x_t_copy = at::empty(x_t.sizes(), x_t.options());
    const Tensor target_copy = at::empty(x_t.sizes(), x_t.options());
    run_noising<Device>({contiguous(in.x0), in.coef, contiguous(in.noise), in.seeds, in.stream}, x_t_copy,
                        target_copy);
    x_t.copy_(x_t_copy);
    target.copy_(target_copy);
    return;
  }
  a.dtype = dtype_of(in.x0.scalar_type());
  a.keys = keys_of(in.seeds, in.stream);
  a.coef = table_of(in.coef);
  Device::run(a, in.x0.device());
}

template <class Device>
void run_step(const StepInputs& in, const Tensor& x_s, const Tensor* x0) {
  if (in.x.numel() == 0) return;
  const auto n = static_cast<int>(in.outs.size());
  StepArguments a{};
  Layout layout(in.seeds.has_value(), in.coef.size(0) == 1);
  layout.add(a.x_s, x_s);
  if (x0 != nullptr) layout.add(a.x0, *x0);
  layout.add(a.x, in.x);
  for (int i = 0; i < n; ++i) layout.add(a.outs[i], in.outs[i]);
  if (in.noise) layout.add(a.noise, *in.noise);
  if (!layout.finish(a.shape)) {
    std::vector<Tensor> outs;
    for (const Tensor& out : in.outs) outs.push_back(out.contiguous());
    const Tensor x_s_copy = at::empty(x_s.sizes(), x_s.options());
    const Tensor x0_copy = x0 != nullptr ? at::empty(x_s.sizes(), x_s.options()) : Tensor();
    run_step<Device>(
        {in.op, contiguous(in.x), outs, in.coef, in.clip, contiguous(in.noise), in.seeds, in.stream},
        x_s_copy, x0 != nullptr ? &x0_copy : nullptr);
    x_s.copy_(x_s_copy);
    if (x0 != nullptr) x0->copy_(x0_copy);
    return;
  }
  a.dtype = dtype_of(in.x.scalar_type());
  a.keys = keys_of(in.seeds, in.stream);
  a.coef = table_of(in.coef);
  a.n = n;
  a.direct = in.coef.size(1) > 4 + n;
  a.clipped = in.clip.has_value();
  a.bound = in.clip.value_or(0);
  Device::run(a, in.x.device());
}

void check_step(const StepInputs& in) {
  check::step(in.op, in.x, in.outs, in.coef, in.clip, in.noise, in.seeds, in.stream);
}

// Coefficients and keys are read for every element: no output may lie over them.
template <class Inputs>
bool apart_from_keys(const Inputs& in, const Tensor& to) {
  return !to.is_alias_of(in.coef) && !(in.seeds && to.is_alias_of(*in.seeds)) &&
         !(in.stream && to.is_alias_of(*in.stream));
}

// An output may be an input (then the operation is in place). Where it shares a part of one, or shares it in
// a way that is hard to tell, the result is made aside and copied.
bool may_write(const StepInputs& in, const Tensor& to) {
  bool may =
      check::may_write(to, in.x) && (!in.noise || check::may_write(to, *in.noise)) && apart_from_keys(in, to);
  for (const Tensor& out : in.outs) may = may && check::may_write(to, out);
  return may;
}

bool may_write(const NoisingInputs& in, const Tensor& to) {
  return check::may_write(to, in.x0) && (!in.noise || check::may_write(to, *in.noise)) &&
         apart_from_keys(in, to);
}

}  // namespace

template <class Device>
Tensor Ops<Device>::normal(const Tensor& seeds, const Tensor& stream, at::IntArrayRef shape,
                           at::ScalarType dtype) {
  check::normal(seeds, stream, shape, dtype);
  c10::SmallVector<int64_t, 6> sizes{seeds.size(0)};
  sizes.append(shape.begin(), shape.end());
  Tensor z = with_huge_pages(at::empty(sizes, seeds.options().dtype(dtype)));
  run_normal<Device>(seeds, stream, z);
  return z;
}

template <class Device>
void Ops<Device>::normal_out(const Tensor& seeds, const Tensor& stream, const Tensor& out) {
  check::normal_out(seeds, stream, out);
  check::written(out);
  run_normal<Device>(seeds, stream, out);
}

template <class Device>
std::tuple<Tensor, Tensor> Ops<Device>::add_noise(const Tensor& x0, const Tensor& coef,
                                                  const OptionalTensor& noise, const OptionalTensor& seeds,
                                                  const OptionalTensor& stream) {
  check::add_noise(x0, coef, noise, seeds, stream);
  std::tuple<Tensor, Tensor> made{new_like(x0), new_like(x0)};
  run_noising<Device>({x0, coef, noise, seeds, stream}, std::get<0>(made), std::get<1>(made));
  return made;
}

template <class Device>
void Ops<Device>::add_noise_out(const Tensor& x0, const Tensor& coef, const OptionalTensor& noise,
                                const OptionalTensor& seeds, const OptionalTensor& stream, const Tensor& x_t,
                                const Tensor& target) {
  check::add_noise(x0, coef, noise, seeds, stream);
  check::out("add_noise", "x_t", x_t, x0, "x0's");
  check::out("add_noise", "target", target, x0, "x0's");
  check::apart("add_noise", "x_t", x_t, "target", target);
  check::written(x_t);
  check::written(target);
  const NoisingInputs in{x0, coef, noise, seeds, stream};
  if (may_write(in, x_t) && may_write(in, target)) {
    run_noising<Device>(in, x_t, target);
  } else {
    const auto made = add_noise(x0, coef, noise, seeds, stream);
    x_t.copy_(std::get<0>(made));
    target.copy_(std::get<1>(made));
  }
}

template <class Device>
Tensor Ops<Device>::step(const Tensor& x, at::TensorList outs, const Tensor& coef, std::optional<double> clip,
                         const OptionalTensor& noise, const OptionalTensor& seeds,
                         const OptionalTensor& stream) {
  const StepInputs in{"step", x, outs, coef, clip, noise, seeds, stream};
  check_step(in);
  Tensor x_s = new_like(x);
  run_step<Device>(in, x_s, nullptr);
  return x_s;
}

template <class Device>
void Ops<Device>::step_out(const Tensor& x, at::TensorList outs, const Tensor& coef,
                           std::optional<double> clip, const OptionalTensor& noise,
                           const OptionalTensor& seeds, const OptionalTensor& stream, const Tensor& out) {
  const StepInputs in{"step", x, outs, coef, clip, noise, seeds, stream};
  check_step(in);
  check::out(in.op, "out", out, x, "x's");
  check::written(out);
  if (may_write(in, out)) {
    run_step<Device>(in, out, nullptr);
  } else {
    out.copy_(step(x, outs, coef, clip, noise, seeds, stream));
  }
}

template <class Device>
std::tuple<Tensor, Tensor> Ops<Device>::step_x0(const Tensor& x, at::TensorList outs, const Tensor& coef,
                                                std::optional<double> clip, const OptionalTensor& noise,
                                                const OptionalTensor& seeds, const OptionalTensor& stream) {
  const StepInputs in{"step_x0", x, outs, coef, clip, noise, seeds, stream};
  check_step(in);
  std::tuple<Tensor, Tensor> made{new_like(x), new_like(x)};
  run_step<Device>(in, std::get<0>(made), &std::get<1>(made));
  return made;
}

template <class Device>
void Ops<Device>::step_x0_out(const Tensor& x, at::TensorList outs, const Tensor& coef,
                              std::optional<double> clip, const OptionalTensor& noise,
                              const OptionalTensor& seeds, const OptionalTensor& stream, const Tensor& x_s,
                              const Tensor& x0) {
  const StepInputs in{"step_x0", x, outs, coef, clip, noise, seeds, stream};
  check_step(in);
  check::out(in.op, "x_s", x_s, x, "x's");
  check::out(in.op, "x0", x0, x, "x's");
  check::apart(in.op, "x_s", x_s, "x0", x0);
  check::written(x_s);
  check::written(x0);
  if (may_write(in, x_s) && may_write(in, x0)) {
    run_step<Device>(in, x_s, &x0);
  } else {
    const auto made = step_x0(x, outs, coef, clip, noise, seeds, stream);
    x_s.copy_(std::get<0>(made));
    x0.copy_(std::get<1>(made));
  }
}

template struct Ops<Cpu>;
#if defined(LATENTDIFF_WITH_CUDA)
template struct Ops<Cuda>;
#endif

}  // namespace latentdiff
