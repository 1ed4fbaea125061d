// The SIMD kernels, for a number type V of 4, 8 or 16 lanes: a tile's noise is drawn into scratch, then every
// row of the tile is computed lane by lane. All of it lives in an unnamed namespace, because each instruction
// set has its own.
#pragma once

#include "../dispatch.h"
#include "../philox.h"
#include "tiling.h"

namespace latentdiff::cpu {
namespace {

constexpr int64_t max_lanes = 16;
// Room for a tile's noise and for the last lanes of a group of blocks beyond it.
constexpr int64_t scratch_size = noise_tile + 4 * max_lanes;

// Two words that all lanes share: a stream or a key.
template <class V>
struct Words {
  typename V::Q low, high;

  static LD_FN Words shared(uint64_t words) {
    return {V::widen(V::set_bits(static_cast<uint32_t>(words))),
            V::widen(V::set_bits(static_cast<uint32_t>(words >> 32)))};
  }
};

// Noise of rows that are whole groups of blocks, or of one row: a group's lanes share key and stream.
template <class V>
void draw_long(const Keys& keys, const Tile& tile, int64_t blocks, float* z) {
  Words<V> stream = Words<V>::shared(keys.stream_of(tile.row));
  for (int64_t r = 0; r < tile.rows; ++r) {
    if (keys.stream_stride != 0) stream = Words<V>::shared(keys.stream_of(tile.row + r));
    const Words<V> key = Words<V>::shared(keys.seed(tile.row + r));
    for (int64_t b = 0; b < blocks; b += V::lanes) {
      const uint64_t block =
          static_cast<uint64_t>(tile.first / 4 + b);  // a multiple of lanes: no carry in a group
      const typename V::U low = V::plus(V::set_bits(static_cast<uint32_t>(block)), V::iota());
      const typename V::Q high = V::widen(V::set_bits(static_cast<uint32_t>(block >> 32)));
      typename V::Q c[4] = {V::widen(low), high, stream.low, stream.high};
      typename V::F normals[4];
      normal_block<V>(c, key.low, key.high, normals);
      V::write_blocks(normals, z + 4 * (r * blocks + b));
    }
  }
}

// Noise of short rows: a group's lanes are blocks of several rows, so every lane gets its own words.
template <class V>
void draw_short(const Keys& keys, const Tile& tile, int64_t blocks, float* z) {
  constexpr int64_t most = noise_tile / 4 + max_lanes;
  alignas(64) uint32_t block[most] = {}, stream[2][most] = {}, key[2][most] = {};
  int64_t total = 0;
  for (int64_t r = tile.row; r < tile.row + tile.rows; ++r) {
    const uint64_t seed = keys.seed(r), of = keys.stream_of(r);
    for (int64_t b = 0; b < blocks; ++b, ++total) {
      block[total] = static_cast<uint32_t>(b);  // the high word is 0
      stream[0][total] = static_cast<uint32_t>(of);
      stream[1][total] = static_cast<uint32_t>(of >> 32);
      key[0][total] = static_cast<uint32_t>(seed);
      key[1][total] = static_cast<uint32_t>(seed >> 32);
    }
  }
  const auto lanes = [](const uint32_t* words) { return V::widen(V::read_bits(words)); };
  for (int64_t b = 0; b < total; b += V::lanes) {  // lanes beyond the last block are drawn and not used
    typename V::Q c[4] = {lanes(block + b), V::widen(V::set_bits(0)), lanes(stream[0] + b),
                          lanes(stream[1] + b)};
    typename V::F normals[4];
    normal_block<V>(c, lanes(key[0] + b), lanes(key[1] + b), normals);
    V::write_blocks(normals, z + 4 * b);
  }
}

// Noise of a tile: row r of it starts at z + r * pitch, pitch = its length rounded up to whole blocks.
template <class V>
LD_FN void draw(const Keys& keys, const Tile& tile, float* z) {
  const int64_t blocks = (tile.length + 3) / 4;
  tile.rows == 1 || blocks % V::lanes == 0 ? draw_long<V>(keys, tile, blocks, z)
                                           : draw_short<V>(keys, tile, blocks, z);
}

// Element e of a row and its followers, walked in logical order.
struct Walk {
  const Shape& shape;
  const Operand& operand;
  int64_t index[max_dims];
  int64_t at;

  LD_FN Walk(const Shape& shape, const Operand& operand, int64_t e)
      : shape(shape), operand(operand), index{}, at(0) {
    for (int d = shape.dims - 1; d >= 0; --d) {
      index[d] = d > 0 ? e % shape.sizes[d] : e;
      e = d > 0 ? e / shape.sizes[d] : 0;
      at += index[d] * operand.strides[d];
    }
  }

  // Calls f(offset, stride, count) for stretches of the innermost dimension that make up `length` elements.
  template <class Function>
  LD_FN void stretches(int64_t length, const Function& f) {
    const int last = shape.dims - 1;
    while (length > 0) {
      const int64_t left = shape.sizes[last] - index[last], count = left < length ? left : length;
      f(at, operand.strides[last], count);
      length -= count;
      index[last] += count;
      at += count * operand.strides[last];
      for (int d = last; d > 0 && index[d] == shape.sizes[d]; --d) {
        at += operand.strides[d - 1] - index[d] * operand.strides[d];
        index[d] = 0;
        ++index[d - 1];
      }
    }
  }
};

template <class T>
const T* gather(const Shape& shape, const Operand& operand, int64_t row, int64_t first, int64_t length,
                T* scratch) {
  const T* from = static_cast<const T*>(operand.data) + row * operand.row_stride;
  if (is_flat(shape, operand)) return from + first;
  T* to = scratch;
  Walk(shape, operand, first).stretches(length, [&](int64_t at, int64_t stride, int64_t count) {
    for (int64_t i = 0; i < count; ++i) to[i] = from[at + i * stride];
    to += count;
  });
  return scratch;
}

template <class T>
T* target_of(const Shape& shape, const Operand& operand, int64_t row, int64_t first, T* scratch) {
  return is_flat(shape, operand) ? static_cast<T*>(operand.data) + row * operand.row_stride + first : scratch;
}

template <class T>
void scatter(const Shape& shape, const Operand& operand, int64_t row, int64_t first, int64_t length,
             const T* from) {
  if (is_flat(shape, operand)) return;  // already in place
  T* to = static_cast<T*>(operand.data) + row * operand.row_stride;
  Walk(shape, operand, first).stretches(length, [&](int64_t at, int64_t stride, int64_t count) {
    for (int64_t i = 0; i < count; ++i) to[at + i * stride] = from[i];
    from += count;
  });
}

// How lanes of element type T compute: V's lanes in float, float64 one by one (a compiler widens those loops
// by itself).
template <class V, class T>
struct Lanes {
  using Math = V;
  using F = typename V::F;
  static constexpr int count = V::lanes;
  static LD_FN F read(const T* from) { return V::read(from); }
  static LD_FN F read_normal(const float* from) { return V::read(from); }
  static LD_FN void write(F a, T* to) { V::write(a, to); }
};

template <class V>
struct Lanes<V, double> {
  using Math = Scalar<double>;
  using F = double;
  static constexpr int count = 1;
  static LD_FN F read(const double* from) { return *from; }
  static LD_FN F read_normal(const float* from) { return *from; }
  static LD_FN void write(F a, double* to) { *to = a; }
};

// Calls f(i, tail) for i = 0, count, 2 count, ... below length; the last call covers less than a group if
// `tail` > 0.
template <class L, class Function>
LD_FN void each_group(int64_t length, const Function& f) {
  int64_t i = 0;
  for (; i + L::count <= length; i += L::count) f(i, 0);
  if (L::count > 1 && i < length) f(i, static_cast<int>(length - i));
}

// The first `tail` elements of a group, without touching memory beyond them.
template <class L, class T>
LD_FN typename L::F read_some(const T* from, int tail) {
  if (tail == 0) return L::read(from);
  T part[L::count] = {};
  for (int i = 0; i < tail; ++i) part[i] = from[i];
  return L::read(part);
}

template <class L, class T>
LD_FN void write_some(typename L::F a, T* to, int tail) {
  if (tail == 0) return L::write(a, to);
  T part[L::count];
  L::write(a, part);
  for (int i = 0; i < tail; ++i) to[i] = part[i];
}

// The noise of a run: drawn (float32, in scratch, readable in whole groups) or given in the samples' type.
template <class T>
struct Noise {
  const float* drawn;
  const T* given;

  template <class L>
  LD_FN typename L::F read(int64_t i, int tail) const {
    return drawn != nullptr ? L::read_normal(drawn + i) : read_some<L>(given + i, tail);
  }
};

template <class V, class T>
void noise_run(const Noising<typename Lanes<V, T>::Math>& noising, const T* x0, const Noise<T>& noise, T* x_t,
               T* target, int64_t length) {
  using L = Lanes<V, T>;
  each_group<L>(length, [&](int64_t i, int tail) {
    const auto x = read_some<L>(x0 + i, tail);
    const auto z = noise.template read<L>(i, tail);
    write_some<L>(noising.noisy(x, z), x_t + i, tail);
    write_some<L>(noising.target(x, z), target + i, tail);
  });
}

template <class V, class T, int n, bool direct, bool noisy, bool with_x0>
void step_run(const StepCoefficients<typename Lanes<V, T>::Math, n, direct>& move, const T* x,
              const T* const (&outs)[n], const Noise<T>& noise, T* x_s, T* x0, int64_t length) {
  using L = Lanes<V, T>;
  each_group<L>(length, [&](int64_t i, int tail) {
    typename L::F out[n];
    for (int j = 0; j < n; ++j) out[j] = read_some<L>(outs[j] + i, tail);
    const auto from = read_some<L>(x + i, tail);
    const auto estimate = move.estimate(from, out);
    auto to = move.mean(from, out, estimate);
    if constexpr (noisy) to = move.noised(to, noise.template read<L>(i, tail));
    write_some<L>(to, x_s + i, tail);
    if constexpr (with_x0) write_some<L>(estimate, x0 + i, tail);
  });
}

// Calls f(row, z, first, length) for every run of the tiles: a row of a tile, or all of its rows where
// nothing tells them apart. z is the run's drawn noise, if any.
template <class V, class Function>
LD_FN void each_run(const Shape& shape, const Keys& keys, bool scratch, bool uniform, int64_t begin,
                    int64_t end, const Function& f) {
  const Tiling tiling = Tiling::of(shape, scratch);
  alignas(64) float z[scratch_size];
  const bool drawn = keys.seeds != nullptr,
             join = uniform && shape.joined && (!drawn || shape.inner % 4 == 0);
  for (int64_t index = begin; index < end; ++index) {
    const Tile tile = Tile::of(tiling, index);
    if (drawn) draw<V>(keys, tile, z);
    const int64_t pitch = (tile.length + 3) / 4 * 4;
    const int64_t runs = join ? 1 : tile.rows, length = join ? tile.rows * tile.length : tile.length;
    for (int64_t r = 0; r < runs; ++r) f(tile.row + r, drawn ? z + r * pitch : nullptr, tile.first, length);
  }
}

template <class V>
void normal(const NormalArguments& a, int64_t begin, int64_t end) {
  with_type(a.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    using L = Lanes<V, T>;
    each_run<V>(a.shape, a.keys, true, true, begin, end,
                [&](int64_t row, const float* z, int64_t first, int64_t length) {
                  T scratch[scratch_size];
                  T* to = target_of(a.shape, a.z, row, first, scratch);
                  each_group<L>(length, [&](int64_t i, int tail) {
                    write_some<L>(L::read_normal(z + i), to + i, tail);
                  });
                  scatter(a.shape, a.z, row, first, length, to);
                });
  });
}

template <class V>
void add_noise(const NoisingArguments& a, int64_t begin, int64_t end) {
  with_type(a.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    using M = typename Lanes<V, T>::Math;
    using F = typename Compute<T>::type;
    each_run<V>(a.shape, a.keys, needs_scratch(a), a.coef.row_stride == 0, begin, end,
                [&](int64_t row, const float* z, int64_t first, int64_t length) {
                  T parts[4][noise_tile];
                  const auto noising = Noising<M>::read(Row<F>{a.coef, row});
                  const T* x0 = gather(a.shape, a.x0, row, first, length, parts[0]);
                  const Noise<T> noise{z,
                                       z ? nullptr : gather(a.shape, a.noise, row, first, length, parts[1])};
                  T* x_t = target_of(a.shape, a.x_t, row, first, parts[2]);
                  T* target = target_of(a.shape, a.target, row, first, parts[3]);
                  noise_run<V, T>(noising, x0, noise, x_t, target, length);
                  scatter(a.shape, a.x_t, row, first, length, x_t);
                  scatter(a.shape, a.target, row, first, length, target);
                });
  });
}

template <class V, class T, int n, bool direct>
void step_form(const StepArguments& a, int64_t begin, int64_t end) {
  using M = StepCoefficients<typename Lanes<V, T>::Math, n, direct>;
  using F = typename Compute<T>::type;
  const bool noisy = a.keys.seeds != nullptr || a.noise.data != nullptr, with_x0 = a.x0.data != nullptr;
  each_run<V>(a.shape, a.keys, needs_scratch(a), a.coef.row_stride == 0, begin, end,
              [&](int64_t row, const float* z, int64_t first, int64_t length) {
                T parts[n + 4][noise_tile];
                const M move = M::read(Row<F>{a.coef, row}, a.clipped, a.bound);
                const T* outs[n];
                for (int j = 0; j < n; ++j)
                  outs[j] = gather(a.shape, a.outs[j], row, first, length, parts[j]);
                const T* x = gather(a.shape, a.x, row, first, length, parts[n]);
                const bool given = noisy && z == nullptr;
                const Noise<T> noise{
                    z, given ? gather(a.shape, a.noise, row, first, length, parts[n + 1]) : nullptr};
                T* x_s = target_of(a.shape, a.x_s, row, first, parts[n + 2]);
                T* x0 = with_x0 ? target_of(a.shape, a.x0, row, first, parts[n + 3]) : nullptr;
                if (noisy) {
                  with_x0 ? step_run<V, T, n, direct, true, true>(move, x, outs, noise, x_s, x0, length)
                          : step_run<V, T, n, direct, true, false>(move, x, outs, noise, x_s, x0, length);
                } else {
                  with_x0 ? step_run<V, T, n, direct, false, true>(move, x, outs, noise, x_s, x0, length)
                          : step_run<V, T, n, direct, false, false>(move, x, outs, noise, x_s, x0, length);
                }
                scatter(a.shape, a.x_s, row, first, length, x_s);
                if (with_x0) scatter(a.shape, a.x0, row, first, length, x0);
              });
}

template <class V>
void step(const StepArguments& a, int64_t begin, int64_t end) {
  with_type(a.dtype, [&](auto type) {
    with_form(a.n, a.direct, [&](auto form) {
      step_form<V, typename decltype(type)::type, decltype(form)::n, decltype(form)::direct>(a, begin, end);
    });
  });
}

}  // namespace
}  // namespace latentdiff::cpu
