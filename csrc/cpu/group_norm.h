// Group normalization of bfloat16 samples in channels-last order, for a number type V. All of it lives in an
// unnamed namespace, because each instruction set has its own.
#pragma once

#include "../kernel_args.h"
#include "number.h"

namespace latentdiff::cpu {
namespace {

struct Plain {
  template <class V>
  LD_FN typename V::F of(typename V::F x, int64_t) const {
    return x;
  }
};

struct Squared {
  const float* minus;  // minus the mean, by place in a unit
  template <class V>
  LD_FN typename V::F of(typename V::F x, int64_t place) const {
    const typename V::F away = V::add(x, V::read(minus + place));
    return V::mul(away, away);
  }
};

// Sums of f(x) over a sample for each place of a unit, into `total`; `part` is scratch of the same length. A
// unit is as many pixels as have a multiple of sixteen numbers; units are added in blocks of `block_units`,
// so that errors grow with the number of blocks. A last unit that is not whole counts as zeros where it ends.
template <class V, class Function>
LD_FN void sum_units(const GroupNormArguments& a, const Bfloat* x, const Function& f, float* total,
                     float* part) {
  const int64_t unit = a.unit, numbers = a.pixels * a.channels, whole = numbers / unit;
  for (int64_t e = 0; e < unit; ++e) total[e] = 0.0f;
  for (int64_t first = 0; first * unit < numbers; first += block_units) {
    const int64_t last = first + block_units < whole ? first + block_units : whole;
    for (int64_t e = 0; e < unit; ++e) part[e] = 0.0f;
    for (int64_t u = first; u < last; ++u) {
      const Bfloat* from = x + u * unit;
      for (int64_t e = 0; e < unit; e += V::lanes) {
        V::write(V::add(V::read(part + e), f.template of<V>(V::read(from + e), e)), part + e);
      }
    }
    if (first + block_units > whole) {
      for (int64_t e = 0; e < numbers - whole * unit; ++e) {
        part[e] = Number::add(part[e], f.template of<Number>(load(x[whole * unit + e]), e));
      }
    }
    for (int64_t e = 0; e < unit; e += V::lanes) {
      V::write(V::add(V::read(total + e), V::read(part + e)), total + e);
    }
  }
}

// The sums of a unit's places by channel, then by group, divided by the numbers of a group; `by_channel` is
// scratch.
LD_FN void means_of_groups(const GroupNormArguments& a, const float* total, float* by_channel, float* mean) {
  for (int64_t c = 0; c < a.channels; ++c) {
    float sum = total[c];
    for (int64_t e = c + a.channels; e < a.unit; e += a.channels) sum = Number::add(sum, total[e]);
    by_channel[c] = sum;
  }
  const int64_t each = a.channels / a.groups;
  const float count = static_cast<float>(each * a.pixels);
  for (int64_t g = 0; g < a.groups; ++g) {
    float sum = by_channel[g * each];
    for (int64_t c = 1; c < each; ++c) sum = Number::add(sum, by_channel[g * each + c]);
    mean[g] = sum / count;
  }
}

template <class V>
void group_norm(const GroupNormArguments& a, int64_t first, int64_t last, float* scratch) {
  const int64_t unit = a.unit, numbers = a.pixels * a.channels, each = a.channels / a.groups;
  float *total = scratch, *part = total + unit, *scale = part + unit, *offset = scale + unit;
  float* of_group = offset + unit;  // a number for each group
  for (int64_t sample = first; sample < last; ++sample) {
    const Bfloat* x = static_cast<const Bfloat*>(a.x) + sample * numbers;
    Bfloat* y = static_cast<Bfloat*>(a.y) + sample * numbers;
    sum_units<V>(a, x, Plain{}, total, part);
    means_of_groups(a, total, part, of_group);
    for (int64_t e = 0; e < unit; ++e) offset[e] = -of_group[e % a.channels / each];
    sum_units<V>(a, x, Squared{offset}, total, part);
    means_of_groups(a, total, part, of_group);
    for (int64_t e = 0; e < unit; ++e) {
      const int64_t c = e % a.channels;
      const float deviation = Number::sqrt(Number::add(of_group[c / each], a.eps));
      scale[e] = Number::mul(1.0f / deviation, a.weight[c]);
      offset[e] = Number::add(a.bias[c], Number::mul(offset[e], scale[e]));
    }
    const int64_t whole = numbers / unit * unit;
    for (int64_t begin = 0; begin < whole; begin += unit) {
      for (int64_t e = 0; e < unit; e += V::lanes) {
        const auto scaled = V::mul(V::read(x + begin + e), V::read(scale + e));
        V::write(V::add(scaled, V::read(offset + e)), y + begin + e);
      }
    }
    for (int64_t e = 0; e < numbers - whole; ++e) {
      store(Number::add(Number::mul(load(x[whole + e]), scale[e]), offset[e]), y[whole + e]);
    }
  }
}

}  // namespace
}  // namespace latentdiff::cpu
