// Divisor and Dimensions of csrc/vector_item.h against plain divisions. Prints the number of quotients, or
// the first that differs.
#include <cstdio>
#include <initializer_list>

#include "../../csrc/cuda/order.h"
#include "../../csrc/vector_item.h"
#include "values.h"

namespace {

using namespace latentdiff;

int64_t count = 0;

bool equal(int64_t index, int64_t size, bool narrow) {
  ++count;
  const int64_t quotient = Divisor::of(size).quotient(index, narrow);
  if (quotient == index / size) return true;
  std::printf("%lld / %lld gave %lld\n", static_cast<long long>(index), static_cast<long long>(size),
              static_cast<long long>(quotient));
  return false;
}

// A quotient never falls as the index grows, so those beside a multiple decide; up to 2 `most` multiples, low
// and high.
bool multiples(int64_t size, int64_t most) {
  constexpr int64_t limit = int64_t{1} << 31;
  const int64_t last = (limit - 1) / size;
  bool right = equal(0, size, true) && equal(limit - 1, size, true) && equal(limit * size + 3, size, false);
  for (int64_t k = 1; right && k <= last; k = k == most && last - most > k ? last - most : k + 1) {
    right = equal(k * size - 1, size, true) && equal(k * size, size, true);
  }
  return right;
}

bool sizes() {
  for (int64_t size = 1; size <= 3000; ++size) {
    if (!multiples(size, 50)) return false;
  }
  for (int power = 2; power < 31; ++power) {
    for (const int64_t near : {-1, 0, 1}) {
      if (!multiples((int64_t{1} << power) + near, 2000)) return false;
    }
  }
  for (uint64_t i = 0; i < 3000; ++i) {
    if (!multiples(1 + static_cast<int64_t>(harness::word(1, 0, i) >> (33 + i % 30)), 50)) return false;
  }
  return multiples((int64_t{1} << 31) - 1, 1) && multiples(int64_t{1} << 30, 1);
}

// Offsets against those of kernel_args.h.
bool offsets() {
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    const auto choose = [&](uint64_t list, uint64_t options) {
      return static_cast<int64_t>(harness::word(2, seed, list) % options);
    };
    Shape shape{1, 1, 1 + static_cast<int>(choose(0, max_dims)), {}, false, false};
    Operand operand{};
    Dimensions dimensions{shape.dims, seed % 2 == 0, {}};
    for (int d = 0; d < shape.dims; ++d) {
      const int64_t room = ((int64_t{1} << (dimensions.narrow ? 31 : 60)) - 1) / shape.inner;
      shape.sizes[d] = 1 + choose(10 + d, room < 2000 ? room : 2000);
      shape.inner *= shape.sizes[d];
      operand.strides[d] = choose(20 + d, 5000);
      dimensions.sizes[d] = Divisor::of(shape.sizes[d]);
    }
    for (int i = 0; i < 20; ++i, ++count) {
      const int64_t index = choose(30 + i, shape.inner);
      if (dimensions.offset(operand.strides, index) != offset(shape, operand, index)) {
        std::printf("seed %llu, index %lld\n", static_cast<unsigned long long>(seed),
                    static_cast<long long>(index));
        return false;
      }
    }
  }
  return true;
}

// Operands with dense rows whose dimensions lie in memory in any order: the items of a row go through it from
// its start to its end.
template <class T>
bool orders() {
  for (uint64_t seed = 0; seed < 500; ++seed) {
    const auto choose = [&](uint64_t list, uint64_t options) {
      return static_cast<int>(harness::word(3, seed, list) % options);
    };
    NormalArguments a{};
    a.shape = {3, 1, 2 + choose(0, 3), {}, false, false};
    const int last = a.shape.dims - 1;
    int in_memory[max_dims];  // dimensions, the outermost first
    for (int d = 0; d <= last; ++d) {
      a.shape.sizes[d] = (1 + choose(10 + d, 5)) * (d == last ? item_size<T> : 1);
      a.shape.inner *= a.shape.sizes[d];
      const int before = choose(20 + d, d + 1);
      for (int i = d; i > before; --i) in_memory[i] = in_memory[i - 1];
      in_memory[before] = d;
    }
    int64_t stride = 1;
    for (int i = last; i >= 0; stride *= a.shape.sizes[in_memory[i--]]) a.z.strides[in_memory[i]] = stride;
    a.z.row_stride = a.shape.inner;
    a.z.data = reinterpret_cast<void*>(8);  // not read; not a multiple of 16
    const Items items = Items::prepare<T>(a);
    const auto order = cuda::Order::of<T>(a.shape, items, a.z);
    int64_t before = -1;
    for (int64_t i = 0; i < order.total; ++i, ++count) {
      const ItemPosition place = order.template place_of<T, false>(a.shape, i);
      const int64_t at = place.row * a.z.row_stride + items.elements.offset(a.z.strides, place.first);
      if (at <= before || place.first % item_size<T> != 0 || !place.full<T>()) {
        std::printf("seed %llu, item %lld\n", static_cast<unsigned long long>(seed),
                    static_cast<long long>(i));
        return false;
      }
      before = at;
    }
    if (order.total * item_size<T> != a.shape.rows * a.shape.inner) return false;
  }
  return true;
}

}  // namespace

int main() {
  if (!sizes() || !offsets() || !orders<float>() || !orders<Half>()) return 1;
  std::printf("%lld\n", static_cast<long long>(count));
  return 0;
}
