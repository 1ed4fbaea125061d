// One item of each operation: 16 bytes of a sample, which is one Philox block of float32 or two of 16 bits. A
// CUDA thread does one item at a time, and so does the portable CPU path: it runs what the device runs.
#pragma once

#include "kernel_args.h"
#include "philox.h"

namespace latentdiff {

template <class T>
constexpr int item_size = sizeof(T) == 2 ? 8 : 4;

template <class T>
struct alignas(16) Pack {
  T values[item_size<T>];
};

// A size to divide indices by. Where both are below 2^31, a multiplication and a shift are exact (Granlund
// and Montgomery 1994): with 2^(s-1) < size <= 2^s and m = floor(2^(32+s) / size) + 1 = 2^32 + magic, m size
// exceeds 2^(32+s) by at most size, so n m / 2^(32+s) exceeds n / size by less than 1 / size and rounds down
// to the same integer.
struct Divisor {
  int64_t size;
  uint32_t magic;
  int shift;

  static Divisor of(int64_t size) {
    Divisor divisor{size, 0, 0};
    if (size < 1 || size >> 31 != 0) return divisor;
    while (int64_t{1} << divisor.shift < size) ++divisor.shift;
    const uint64_t excess = (uint64_t{1} << divisor.shift) - static_cast<uint64_t>(size);
    divisor.magic = static_cast<uint32_t>((excess << 32) / static_cast<uint64_t>(size)) + 1;
    return divisor;
  }

  // index / size; `narrow`: both are below 2^31.
  LD_FN int64_t quotient(int64_t index, bool narrow) const {
    if (!narrow) return index / size;
    const auto n = static_cast<uint32_t>(index);
    uint32_t high, low;
    Scalar<float>::multiply(n, magic, high, low);
    return (high + n) >> shift;
  }
};

// Dimensions that a row-major index runs over, outermost first.
struct Dimensions {
  int count;
  bool narrow;  // every index is below 2^31
  Divisor sizes[max_dims];

  // The sum of coordinate times stride.
  LD_FN int64_t offset(const int64_t (&strides)[max_dims], int64_t index) const {
    int64_t sum = 0;
    LD_NO_UNROLL
    for (int d = count - 1; d > 0; --d) {
      const int64_t quotient = sizes[d].quotient(index, narrow);
      sum += (index - quotient * sizes[d].size) * strides[d];
      index = quotient;
    }
    return sum + index * strides[0];
  }
};

// Calls f(operand) for the operands of a call, present or not.
template <class Function>
void each_operand(NormalArguments& a, const Function& f) {
  f(a.z);
}
template <class Function>
void each_operand(NoisingArguments& a, const Function& f) {
  f(a.x_t), f(a.target), f(a.x0), f(a.noise);
}
template <class Function>
void each_operand(StepArguments& a, const Function& f) {
  f(a.x_s), f(a.x0), f(a.x), f(a.noise);
  for (int i = 0; i < a.n; ++i) f(a.outs[i]);
}

// What the items of a call share; the host finds it once.
struct Items {
  Dimensions elements;  // of a row
  bool whole;           // each is one Pack of every operand
  bool even;            // none runs over an end of the last dimension

  // Sets `packed` of every operand.
  template <class T, class Arguments>
  static Items prepare(Arguments& a) {
    const Shape& shape = a.shape;
    Items items{{shape.dims, shape.inner >> 31 == 0, {}}, shape.inner % item_size<T> == 0, true};
    for (int d = 0; d < shape.dims; ++d) items.elements.sizes[d] = Divisor::of(shape.sizes[d]);
    if (shape.dims > 1) items.even = shape.sizes[shape.dims - 1] % item_size<T> == 0;
    each_operand(a, [&](Operand& operand) {
      const bool aligned = reinterpret_cast<uintptr_t>(operand.data) % 16 == 0 &&
                           (shape.rows == 1 || operand.row_stride * sizeof(T) % 16 == 0);
      operand.packed = operand.data == nullptr || (aligned && is_flat(shape, operand));
      items.whole = items.whole && operand.packed;
    });
    return items;
  }
};

// Elements begin .. end - 1 of the item that starts at element `first` of a row.
struct ItemPosition {
  int64_t row, first;
  int begin, end;

  template <class T, bool whole>
  static LD_FN ItemPosition of(const Shape& shape, int64_t row, int64_t first) {
    const int64_t left = shape.inner - first;
    return {row, first, 0, !whole && left < item_size<T> ? static_cast<int>(left) : item_size<T>};
  }
  template <class T>
  LD_FN bool full() const {
    return end - begin == item_size<T>;
  }
};

// Calls f(place) for the parts of an item between the ends of the last dimension: elements in one lie one
// stride apart.
template <bool whole, class Function>
LD_FN void each_part(const Items& items, ItemPosition at, const Function& f) {
  if constexpr (whole) return f(at);
  const Divisor& last = items.elements.sizes[items.elements.count - 1];
  const int end = at.end;
  LD_NO_UNROLL
  for (; at.begin < end; at.begin = at.end) {
    at.end = end;
    if (!items.even) {
      const int64_t e = at.first + at.begin,
                    left = (last.quotient(e, items.elements.narrow) + 1) * last.size - e;
      if (left < end - at.begin) at.end = at.begin + static_cast<int>(left);
    }
    f(at);
  }
}

template <class T>
LD_FN T* row_of(const Operand& operand, const ItemPosition& at) {
  return static_cast<T*>(operand.data) + at.row * operand.row_stride;
}

template <class T, bool whole>
LD_FN bool is_pack(const Operand& operand, const ItemPosition& at) {
  return whole || (operand.packed && at.full<T>());
}

// Calls f(i, element) for the elements of a place.
template <class T, class Function>
LD_FN void each_element(const Items& items, const Operand& operand, const ItemPosition& at,
                        const Function& f) {
  T* first = row_of<T>(operand, at) + items.elements.offset(operand.strides, at.first + at.begin);
  const int64_t stride = operand.strides[items.elements.count - 1];
  LD_UNROLL
  for (int i = 0; i < item_size<T>; ++i) {
    if (at.begin <= i && i < at.end) f(i, first[(i - at.begin) * stride]);
  }
}

template <bool whole, class T>
LD_FN void load_item(Pack<T>& pack, const Items& items, const Operand& from, const ItemPosition& at) {
  if (is_pack<T, whole>(from, at)) {
    pack = *reinterpret_cast<const Pack<T>*>(row_of<T>(from, at) + at.first);
  } else {
    each_element<T>(items, from, at, [&](int i, const T& element) { pack.values[i] = element; });
  }
}

template <bool whole, class T>
LD_FN void store_item(const Pack<T>& pack, const Items& items, const Operand& to, const ItemPosition& at) {
  if (is_pack<T, whole>(to, at)) {
    *reinterpret_cast<Pack<T>*>(row_of<T>(to, at) + at.first) = pack;
  } else {
    each_element<T>(items, to, at, [&](int i, T& element) { element = pack.values[i]; });
  }
}

// Calls f(first element, z) for the Philox blocks of an item: element e of a row is word e % 4 of block e
// / 4. z is zero if nothing is drawn.
template <class T, bool whole, bool drawn, class Function>
LD_FN void each_block(const Keys& keys, const ItemPosition& at, const Function& f) {
  LD_UNROLL
  for (int block = 0; block < item_size<T>; block += 4) {
    if (!whole && (block + 4 <= at.begin || at.end <= block)) continue;
    float z[4] = {};
    if constexpr (drawn) {
      normal_block(static_cast<uint64_t>(at.first + block) / 4, keys.stream_of(at.row), keys.seed(at.row), z);
    }
    f(block, z);
  }
}

template <class T, bool whole>
LD_FN void normal_item(const NormalArguments& a, const Items& items, const ItemPosition& item) {
  each_part<whole>(items, item, [&](const ItemPosition& at) {
    Pack<T> pack{};
    each_block<T, whole, true>(a.keys, at, [&](int block, const float (&z)[4]) {
      LD_UNROLL
      for (int i = 0; i < 4; ++i) store(z[i], pack.values[block + i]);
    });
    store_item<whole>(pack, items, a.z, at);
  });
}

template <class T>
using Lane = Scalar<typename Compute<T>::type>;

template <class T, bool drawn, bool whole>
LD_FN void noising_item(const NoisingArguments& a, const Items& items, const ItemPosition& item) {
  using F = typename Compute<T>::type;
  each_part<whole>(items, item, [&](const ItemPosition& at) {
    Pack<T> x0{}, given{}, x_t{}, target{};
    load_item<whole>(x0, items, a.x0, at);
    if constexpr (!drawn) load_item<whole>(given, items, a.noise, at);
    const auto noising = Noising<Lane<T>>::read(Row<F>{a.coef, at.row});
    each_block<T, whole, drawn>(a.keys, at, [&](int block, const float (&drawn_z)[4]) {
      LD_UNROLL
      for (int j = 0; j < 4; ++j) {
        const int i = block + j;
        const F x = load(x0.values[i]), z = drawn ? static_cast<F>(drawn_z[j]) : load(given.values[i]);
        store(noising.noisy(x, z), x_t.values[i]);
        store(noising.target(x, z), target.values[i]);
      }
    });
    store_item<whole>(x_t, items, a.x_t, at);
    store_item<whole>(target, items, a.target, at);
  });
}

template <class T, int n, bool direct, bool drawn, bool whole>
LD_FN void step_item(const StepArguments& a, const Items& items, const ItemPosition& item) {
  using F = typename Compute<T>::type;
  const bool given = !drawn && a.noise.data != nullptr;
  each_part<whole>(items, item, [&](const ItemPosition& at) {
    Pack<T> x{}, outs[n]{}, noise{}, x_s{}, x0{};
    load_item<whole>(x, items, a.x, at);
    LD_UNROLL
    for (int j = 0; j < n; ++j) load_item<whole>(outs[j], items, a.outs[j], at);
    if (given) load_item<whole>(noise, items, a.noise, at);
    const auto move = StepCoefficients<Lane<T>, n, direct>::read(Row<F>{a.coef, at.row}, a.clipped, a.bound);
    each_block<T, whole, drawn>(a.keys, at, [&](int block, const float (&z)[4]) {
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
    store_item<whole>(x_s, items, a.x_s, at);
    if (a.x0.data != nullptr) store_item<whole>(x0, items, a.x0, at);
  });
}

}  // namespace latentdiff
