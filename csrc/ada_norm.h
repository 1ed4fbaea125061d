// Adaptive layer norm for a number type V: each row is read into the first-level cache once. All of it lives
// in an unnamed namespace, because each instruction set has its own.
#pragma once

#include "kernel_args.h"

namespace latentdiff {
namespace {

template <class V>
struct Sum {
  static constexpr int parts = sum_lanes / V::lanes;
  typename V::F part[parts];

  static LD_FN Sum zero() {
    Sum sum;
    for (int p = 0; p < parts; ++p) sum.part[p] = V::set(0.0f);
    return sum;
  }

  // The lanes by halves: 16 to 8, to 4, to 2, to 1.
  LD_FN float total() const {
    float lane[sum_lanes];
    for (int p = 0; p < parts; ++p) V::write(part[p], lane + p * V::lanes);
    for (int half = sum_lanes / 2; half > 0; half /= 2) {
      for (int l = 0; l < half; ++l) lane[l] = Scalar<float>::add(lane[l], lane[l + half]);
    }
    return lane[0];
  }
};

// The sum of f(x) over a row; f has a form of V's lanes and one of a single number. Missing lanes of the last
// sixteen numbers are zeros.
template <class V, class Function>
LD_FN float sum_of(const float* x, int64_t width, const Function& f) {
  Sum<V> sum = Sum<V>::zero();
  const int64_t whole = width - width % sum_lanes;
  for (int64_t e = 0; e < whole; e += sum_lanes) {
    for (int p = 0; p < Sum<V>::parts; ++p) {
      sum.part[p] = V::add(sum.part[p], f.template of<V>(V::read(x + e + p * V::lanes)));
    }
  }
  if (whole < width) {
    float rest[sum_lanes] = {};
    for (int64_t e = whole; e < width; ++e) rest[e - whole] = f.template of<Scalar<float>>(x[e]);
    for (int p = 0; p < Sum<V>::parts; ++p) {
      sum.part[p] = V::add(sum.part[p], V::read(rest + p * V::lanes));
    }
  }
  return sum.total();
}

struct Itself {
  template <class V>
  LD_FN typename V::F of(typename V::F x) const {
    return x;
  }
};

struct SquaredFrom {
  float mean;
  template <class V>
  LD_FN typename V::F of(typename V::F x) const {
    const typename V::F away = V::add(x, V::set(-mean));
    return V::mul(away, away);
  }
};

// One row of `width` numbers: h + gate branch, its layer norm, and that times factor plus shift.
template <class V, class T>
LD_FN void ada_norm_row(const AdaNormArguments& a, int64_t row) {
  using S = Scalar<float>;
  const int64_t width = a.width, begin = row * width, place = row / a.repeat;
  const int64_t condition = a.rows == nullptr ? place : a.rows[place];
  const float* h = a.h + begin;
  const float* factor = a.factor + condition * a.factor_stride;
  const float* shift = a.shift + condition * a.shift_stride;
  const int64_t whole = width - width % V::lanes;
  if (a.branch != nullptr) {
    const float* gate = a.gate + condition * a.gate_stride;
    const T* branch = static_cast<const T*>(a.branch) + begin;
    float* sum = a.sum + begin;
    for (int64_t e = 0; e < whole; e += V::lanes) {
      V::write(V::add(V::read(h + e), V::mul(V::read(gate + e), V::read(branch + e))), sum + e);
    }
    for (int64_t e = whole; e < width; ++e) sum[e] = S::add(h[e], S::mul(gate[e], load(branch[e])));
    h = sum;
  }
  const float count = static_cast<float>(width);
  const float mean = S::div(sum_of<V>(h, width, Itself{}), count);
  const float variance = S::div(sum_of<V>(h, width, SquaredFrom{mean}), count);
  const float scale = S::div(1.0f, S::sqrt(S::add(variance, a.eps)));
  T* y = static_cast<T*>(a.y) + begin;
  for (int64_t e = 0; e < whole; e += V::lanes) {
    const auto normal = V::mul(V::add(V::read(h + e), V::set(-mean)), V::set(scale));
    V::write(V::add(V::mul(normal, V::read(factor + e)), V::read(shift + e)), y + e);
  }
  for (int64_t e = whole; e < width; ++e) {
    const float normal = S::mul(S::add(h[e], -mean), scale);
    store(S::add(S::mul(normal, factor[e]), shift[e]), y[e]);
  }
}

template <class V>
void ada_norm(const AdaNormArguments& a, int64_t first, int64_t last) {
  for (int64_t row = first; row < last; ++row) {
    if (a.dtype == Dtype::bfloat16) {
      ada_norm_row<V, Bfloat>(a, row);
    } else if (a.dtype == Dtype::float16) {
      ada_norm_row<V, Half>(a, row);
    } else {
      ada_norm_row<V, float>(a, row);
    }
  }
}

}  // namespace
}  // namespace latentdiff
