// The arithmetic of noising and of a reverse step, in one fixed order of roundings.
#pragma once

#include "number.h"

namespace latentdiff {

constexpr int max_outs = 4;

// A term whose coefficient is 0 is left out, so that infinities that it would have met are not 0 * inf = NaN.
// A zero of their sign is what stays of finite values: the bits of the product.
template <class V>
LD_FN typename V::F times(typename V::F coefficient, typename V::F a) {
  return V::mul(coefficient, V::keep(coefficient, a));
}
template <class V>
LD_FN typename V::F times_plus(typename V::F coefficient, typename V::F a, typename V::F sum) {
  return V::fma(coefficient, V::keep(coefficient, a), sum);
}

// x_t = alpha x0 + sigma z and target = a x0 + b z, in lanes of V.
template <class V>
struct Noising {
  typename V::F alpha, sigma, a, b;

  // `row(i)` is coefficient i of a sample.
  template <class Row>
  static LD_FN Noising read(const Row& row) {
    return {V::set(row(0)), V::set(row(1)), V::set(row(2)), V::set(row(3))};
  }
  LD_FN typename V::F noisy(typename V::F x0, typename V::F z) const {
    return times_plus<V>(sigma, z, times<V>(alpha, x0));
  }
  LD_FN typename V::F target(typename V::F x0, typename V::F z) const {
    return times_plus<V>(b, z, times<V>(a, x0));
  }
};

// x0 = clip(p x + sum q_i out_i), x_s = k x + sum r_i out_i + m x0 + c z for n network outputs; the r_i if
// `direct`.
template <class V, int n, bool direct>
struct StepCoefficients {
  using F = typename V::F;
  F k, m, c, p, q[n], r[direct ? n : 1], bound;
  bool clipped;

  template <class Row>
  static LD_FN StepCoefficients read(const Row& row, bool clipped, double bound) {
    StepCoefficients move{V::set(row(0)), V::set(row(1)), V::set(row(2)), V::set(row(3)), {}, {}, {},
                          clipped};
    LD_UNROLL
    for (int i = 0; i < n; ++i) {
      move.q[i] = V::set(row(4 + i));
      if constexpr (direct) move.r[i] = V::set(row(4 + n + i));
    }
    move.bound = V::set(static_cast<decltype(row(0))>(bound));
    return move;
  }

  LD_FN F estimate(F x, const F (&outs)[n]) const {
    F x0 = times<V>(p, x);
    LD_UNROLL
    for (int i = 0; i < n; ++i) x0 = times_plus<V>(q[i], outs[i], x0);
    return clipped ? V::clamp(x0, bound) : x0;
  }

  // Everything but the noise: the caller adds c z with `noised` where there is noise.
  LD_FN F mean(F x, const F (&outs)[n], F x0) const {
    F y = times<V>(k, x);
    if constexpr (direct) {
      LD_UNROLL
      for (int i = 0; i < n; ++i) y = times_plus<V>(r[i], outs[i], y);
    }
    return times_plus<V>(m, x0, y);
  }
  LD_FN F noised(F mean, F z) const { return times_plus<V>(c, z, mean); }
};

}  // namespace latentdiff
