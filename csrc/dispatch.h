// From the run-time facts of a call (element type, number of outputs, direct weights) to the kernel's
// template.
#pragma once

#include "kernel_args.h"

namespace latentdiff {

template <class T>
struct TypeTag {
  using type = T;
};

template <int n_, bool direct_>
struct Form {
  static constexpr int n = n_;
  static constexpr bool direct = direct_;
};

// Calls f(TypeTag<T>{}).
template <class Function>
inline __attribute__((always_inline)) void with_type(Dtype dtype, const Function& f) {
  switch (dtype) {
    case Dtype::float32:
      return f(TypeTag<float>{});
    case Dtype::float64:
      return f(TypeTag<double>{});
    case Dtype::float16:
      return f(TypeTag<Half>{});
    case Dtype::bfloat16:
      return f(TypeTag<Bfloat>{});
  }
}

template <bool value_>
struct Bool {
  static constexpr bool value = value_;
};

// Calls f(Bool<condition>{}).
template <class Function>
inline __attribute__((always_inline)) void with_truth(bool condition, const Function& f) {
  return condition ? f(Bool<true>{}) : f(Bool<false>{});
}

// Calls f(Form<n, direct>{}).
template <class Function>
inline __attribute__((always_inline)) void with_form(int n, bool direct, const Function& f) {
  switch (2 * n + direct) {
    case 2:
      return f(Form<1, false>{});
    case 3:
      return f(Form<1, true>{});
    case 4:
      return f(Form<2, false>{});
    case 5:
      return f(Form<2, true>{});
    case 6:
      return f(Form<3, false>{});
    case 7:
      return f(Form<3, true>{});
    case 8:
      return f(Form<4, false>{});
    case 9:
      return f(Form<4, true>{});
  }
}

}  // namespace latentdiff
