// One item of each operation: 16 bytes of a sample, which is one Philox block of float32 or two of 16 bits. A CUDA
// thread does one item at a time, and so does the portable CPU path: it runs what the device runs.
#pragma once

#include "arguments.h"
#include "philox.h"

namespace latentdiff {

template <class T>
constexpr int item_size = sizeof(T) == 2 ? 8 : 4;

template <class T>
struct alignas(16) Pack {
  T values[item_size<T>];
};

// Whether every item of an operand that is not cut off by the end of a row is one aligned Pack.
template <class T>
LD_FN bool packs(const Operand& operand) {
  if (operand.data == nullptr) return true;  // absent
  return reinterpret_cast<uintptr_t>(operand.data) % 16 == 0 && operand.row_stride * sizeof(T) % 16 == 0;
}
template <class T>
LD_FN bool packs(const NormalArguments& a) {
  return a.shape.flat && packs<T>(a.z);
}
template <class T>
LD_FN bool packs(const NoisingArguments& a) {
  return a.shape.flat && packs<T>(a.x0) && packs<T>(a.noise) && packs<T>(a.x_t) && packs<T>(a.target);
}
template <class T>
LD_FN bool packs(const StepArguments& a) {
  bool all = a.shape.flat && packs<T>(a.x) && packs<T>(a.noise) && packs<T>(a.x_s) && packs<T>(a.x0);
  for (int i = 0; i < a.n; ++i) all = all && packs<T>(a.outs[i]);
  return all;
}

// Where an item lies: elements first .. first + count - 1 of a row. `whole`: flat, aligned and full, so one Pack.
struct Place {
  int64_t row, first;
  int count;
  bool whole;
};

template <class T>
LD_FN Place place(const Shape& shape, bool packed, int64_t row, int64_t item) {
  const int64_t first = item * item_size<T>, left = shape.inner - first;
  const int count = left < item_size<T> ? static_cast<int>(left) : item_size<T>;
  return {row, first, count, packed && count == item_size<T>};
}

template <class T>
LD_FN const T* start(const Operand& operand, const Place& at) {
  return static_cast<const T*>(operand.data) + at.row * operand.row_stride;
}
template <class T>
LD_FN T* start_of_output(const Operand& operand, const Place& at) {
  return static_cast<T*>(operand.data) + at.row * operand.row_stride;
}

template <class T>
LD_FN Pack<T> load_pack(const Operand& from, const Place& at) {
  return *reinterpret_cast<const Pack<T>*>(start<T>(from, at) + at.first);
}
template <class T>
LD_FN void store_pack(const Pack<T>& pack, const Operand& to, const Place& at) {
  *reinterpret_cast<Pack<T>*>(start_of_output<T>(to, at) + at.first) = pack;
}

template <class T>
LD_FN typename Compute<T>::type load_element(const Shape& shape, const Operand& from, const Place& at, int i) {
  return load(start<T>(from, at)[offset(shape, from, at.first + i)]);
}
template <class T>
LD_FN void store_element(typename Compute<T>::type value, const Shape& shape, const Operand& to, const Place& at,
                         int i) {
  store(value, start_of_output<T>(to, at)[offset(shape, to, at.first + i)]);
}

// The four normals of a Philox block: element e of a row is word e % 4 of block e / 4.
struct Quad {
  float values[4];

  // Of the elements first .. first + 3 of a row.
  static LD_FN Quad draw(const Keys& keys, int64_t row, int64_t first) {
    Quad z;
    normal_block(static_cast<uint64_t>(first) / 4, keys.stream_of(row), keys.seed(row), z.values);
    return z;
  }

  // Value i where i is not known to the compiler: a choice, because an indexed array would leave the registers.
  LD_FN float pick(int i) const {
    const float low = i == 0 ? values[0] : values[1], high = i == 2 ? values[2] : values[3];
    return i < 2 ? low : high;
  }
};

// Calls f(first element, z) for the blocks of an item that is a Pack; z is zero if nothing is drawn.
template <class T, bool drawn, class Function>
LD_FN void each_block(const Keys& keys, const Place& at, const Function& f) {
  LD_UNROLL
  for (int block = 0; block < item_size<T>; block += 4) {
    Quad z{};
    if constexpr (drawn) z = Quad::draw(keys, at.row, at.first + block);
    f(block, z.values);
  }
}

// Calls f(i, z) for the elements of an item that is none: cut off by the end of a row, unaligned or with gaps.
template <class T, bool drawn, class Function>
LD_FN void each_element(const Keys& keys, const Place& at, const Function& f) {
  Quad z{};
  LD_NO_UNROLL
  for (int i = 0; i < at.count; ++i) {
    if constexpr (drawn) {
      if (i % 4 == 0) z = Quad::draw(keys, at.row, at.first + i);
    }
    f(i, z.pick(i % 4));
  }
}

template <class T>
LD_FN void normal_item(const NormalArguments& a, const Place& at) {
  if (!at.whole) {
    each_element<T, true>(a.keys, at, [&](int i, float z) { store_element<T>(z, a.shape, a.z, at, i); });
    return;
  }
  Pack<T> pack;
  each_block<T, true>(a.keys, at, [&](int block, const float (&z)[4]) {
    LD_UNROLL
    for (int i = 0; i < 4; ++i) store(z[i], pack.values[block + i]);
  });
  store_pack(pack, a.z, at);
}

template <class T>
using Lane = Scalar<typename Compute<T>::type>;

template <class T, bool drawn>
LD_FN void noising_item(const NoisingArguments& a, const Place& at) {
  using F = typename Compute<T>::type;
  const auto noising = Noising<Lane<T>>::read(Row<F>{a.coef, at.row});
  if (!at.whole) {
    each_element<T, drawn>(a.keys, at, [&](int i, float drawn_z) {
      const F x = load_element<T>(a.shape, a.x0, at, i);
      const F z = drawn ? static_cast<F>(drawn_z) : load_element<T>(a.shape, a.noise, at, i);
      store_element<T>(noising.noisy(x, z), a.shape, a.x_t, at, i);
      store_element<T>(noising.target(x, z), a.shape, a.target, at, i);
    });
    return;
  }
  const Pack<T> x0 = load_pack<T>(a.x0, at);
  Pack<T> given{}, x_t, target;
  if constexpr (!drawn) given = load_pack<T>(a.noise, at);
  each_block<T, drawn>(a.keys, at, [&](int block, const float (&drawn_z)[4]) {
    LD_UNROLL
    for (int j = 0; j < 4; ++j) {
      const int i = block + j;
      const F x = load(x0.values[i]), z = drawn ? static_cast<F>(drawn_z[j]) : load(given.values[i]);
      store(noising.noisy(x, z), x_t.values[i]);
      store(noising.target(x, z), target.values[i]);
    }
  });
  store_pack(x_t, a.x_t, at);
  store_pack(target, a.target, at);
}

// One element where no Pack can be: any strides, and the form known at run time, so that this path stays small.
template <class T>
LD_FN void step_element(const StepArguments& a, const Place& at, int i, const typename Compute<T>::type* drawn) {
  using F = typename Compute<T>::type;
  using M = Lane<T>;
  const Row<F> row{a.coef, at.row};
  const F x = load_element<T>(a.shape, a.x, at, i);
  F x0 = times<M>(row(3), x), x_s = times<M>(row(0), x);
  LD_NO_UNROLL
  for (int j = 0; j < a.n; ++j) {
    const F out = load_element<T>(a.shape, a.outs[j], at, i);
    x0 = times_plus<M>(row(4 + j), out, x0);
    if (a.direct) x_s = times_plus<M>(row(4 + a.n + j), out, x_s);
  }
  if (a.clipped) x0 = M::clamp(x0, static_cast<F>(a.bound));
  x_s = times_plus<M>(row(1), x0, x_s);
  if (drawn != nullptr) x_s = times_plus<M>(row(2), *drawn, x_s);
  if (a.noise.data != nullptr) x_s = times_plus<M>(row(2), load_element<T>(a.shape, a.noise, at, i), x_s);
  store_element<T>(x_s, a.shape, a.x_s, at, i);
  if (a.x0.data != nullptr) store_element<T>(x0, a.shape, a.x0, at, i);
}

template <class T, int n, bool direct, bool drawn>
LD_FN void step_item(const StepArguments& a, const Place& at) {
  using F = typename Compute<T>::type;
  if (!at.whole) {
    each_element<T, drawn>(a.keys, at, [&](int i, F z) { step_element<T>(a, at, i, drawn ? &z : nullptr); });
    return;
  }
  const bool given = !drawn && a.noise.data != nullptr;
  const auto move = Move<Lane<T>, n, direct>::read(Row<F>{a.coef, at.row}, a.clipped, a.bound);
  const Pack<T> x = load_pack<T>(a.x, at);
  Pack<T> outs[n], noise{}, x_s, x0;
  LD_UNROLL
  for (int j = 0; j < n; ++j) outs[j] = load_pack<T>(a.outs[j], at);
  if (given) noise = load_pack<T>(a.noise, at);
  each_block<T, drawn>(a.keys, at, [&](int block, const float (&z)[4]) {
    LD_UNROLL
    for (int e = 0; e < 4; ++e) {
      const int i = block + e;
      F out[n];
      LD_UNROLL
      for (int j = 0; j < n; ++j) out[j] = load(outs[j].values[i]);
      const F from = load(x.values[i]), estimate = move.estimate(from, out);
      F to = move.mean(from, out, estimate);
      if constexpr (drawn) to = move.noised(to, static_cast<F>(z[e]));
      if (given) to = move.noised(to, load(noise.values[i]));
      store(to, x_s.values[i]);
      store(estimate, x0.values[i]);
    }
  });
  store_pack(x_s, a.x_s, at);
  if (a.x0.data != nullptr) store_pack(x0, a.x0, at);
}

}  // namespace latentdiff
