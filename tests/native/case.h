// A case: its description, and the memory of its operands, keys and coefficients.
#pragma once

#include <cstring>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "../../csrc/kernel_args.h"
#include "values.h"

#if !defined(GUARD)
#define GUARD 32  // elements around every buffer that nothing may write; 0 where a sanitizer watches
#endif

namespace harness {
namespace {

using namespace latentdiff;

constexpr const char* dtypes[] = {"float32", "float64", "float16", "bfloat16"};
constexpr const char* layouts[] = {"contiguous", "misaligned", "padded",   "ragged",   "transposed",
                                   "sliced",     "stepped",    "expanded", "broadcast"};
constexpr const char* noises[] = {"drawn", "given", "none"};
constexpr const char* aliases[] = {"nothing", "x", "out", "noise"};
enum Layout { contiguous, misaligned, padded, ragged, transposed, sliced, stepped, expanded, broadcast };
enum Source { drawn, given, none };
enum Alias { nothing, of_x, of_out, of_noise };
enum List { list_x, list_noise, list_coef, list_seeds, list_stream, list_choice, list_outs };

constexpr int64_t lengths[] = {1,  2,  3,   4,    5,    7,    8,    12,   31,   32,
                               33, 64, 100, 1000, 1023, 1024, 1025, 5000, 40000};

struct Case {
  std::string op;
  uint64_t seed;
  int dtype, layout, noise, n, direct, clip, x0, wide, uniform, wild, alias;
  int64_t rows, inner, period;  // of the operand that is expanded; 0: none is
};

int64_t divisor(int64_t inner) {
  for (const int64_t d : {4, 3, 5, 7, 31}) {
    if (inner % d == 0 && inner > d) return d;
  }
  return 1;
}

// Memory of one operand. `kind` tells operands apart: those of odd kind lie otherwise where a layout has
// dimensions.
template <class T>
class Buffer {
 public:
  Buffer(const Case& c, Shape& shape, int kind, bool repeated = false) {
    const int64_t d = divisor(c.inner), w = c.inner / d;
    int64_t extent = c.inner, row = c.inner, sizes[3] = {c.inner, 1, 1}, strides[3] = {1, 1, 1};
    int dims = 1;
    const auto put = [&](int64_t size, int64_t stride) {
      sizes[dims - 1] = size;
      strides[dims - 1] = stride;
      ++dims;
    };
    if (c.layout == padded) row = (c.inner + 7) / 8 * 8 + 8;
    if (c.layout == ragged) row = c.inner + 3;
    if (c.layout == stepped) strides[0] = 2 + kind % 2, row = extent = strides[0] * c.inner;
    if (c.layout == transposed || c.layout == broadcast) {
      const bool across = c.layout == transposed && kind % 2 == 0;
      put(d, repeated && c.layout == broadcast ? 0 : across ? 1 : w);
      put(w, across ? d : 1);
    }
    if (c.layout == sliced) {  // [d, e, w / e] out of [d + 1, e + 1, w / e + 2]
      const int64_t e = divisor(w), last = w / e, a = d + 1, b = e + 1, z = last + 2;
      put(d, kind % 2 == 0 ? b * z : 1);
      put(e, kind % 2 == 0 ? z : a);
      put(last, kind % 2 == 0 ? 1 : a * b);
      row = extent = a * b * z;
    }
    if (dims > 1) --dims;
    if (repeated) row = 0;
    shape.dims = dims;
    for (int i = 0; i < dims; ++i) shape.sizes[i] = sizes[i], operand.strides[i] = strides[i];
    shape.flat = shape.flat && dims == 1 && (strides[0] == 1 || c.inner == 1);
    shape.joined = shape.joined && shape.flat && (row == c.inner || c.rows == 1);
    operand.row_stride = row;
    const int64_t front = (c.layout == misaligned && kind % 2 == 0) || c.layout == ragged ? 1 : 0;
    size_ = (c.rows - 1) * row + extent + front + 2 * GUARD;
    memory_ = static_cast<T*>(::operator new(size_ * sizeof(T), std::align_val_t{64}));
    for (int64_t i = 0; i < size_; ++i) memory_[i] = number_of<T>(untouched);
    operand.data = memory_ + GUARD + front;
  }
  ~Buffer() { ::operator delete(memory_, std::align_val_t{64}); }
  Buffer(Buffer&& other)
      : operand(other.operand),
        memory_(other.memory_),
        size_(other.size_),
        before_(std::move(other.before_)) {
    other.memory_ = nullptr;
  }

  T& at(const Shape& shape, int64_t row, int64_t e) {
    return static_cast<T*>(operand.data)[row * operand.row_stride + offset(shape, operand, e)];
  }
  void fill(const Case& c, const Shape& shape, uint64_t list, int64_t period = 0) {
    for (int64_t row = 0; row < c.rows; ++row) {
      for (int64_t e = 0; e < c.inner; ++e) {
        const int64_t index = period > 0 ? e % period : row * c.inner + e;
        at(shape, row, e) = number<T>(word(c.seed, list, index), c.wild);
      }
    }
    before_.assign(memory_, memory_ + size_);
  }
  // Adds the elements to the checksum and puts back what lay there, so that `intact` sees any other write.
  void take(const Case& c, const Shape& shape, Checksum& sum) {
    if (before_.empty()) before_.assign(size_, number_of<T>(untouched));
    for (int64_t row = 0; row < c.rows; ++row) {
      for (int64_t e = 0; e < c.inner; ++e) sum.add(canonical(at(shape, row, e)));
    }
    for (int64_t row = 0; row < c.rows; ++row) {
      for (int64_t e = 0; e < c.inner; ++e) {
        T& value = at(shape, row, e);
        value = before_[&value - memory_];
      }
    }
  }
  bool intact() const { return std::memcmp(memory_, before_.data(), size_ * sizeof(T)) == 0; }

  Operand operand{};

 private:
  static constexpr uint64_t untouched = 0x5555555555555555u;
  T* memory_;
  int64_t size_;
  std::vector<T> before_;
};

struct KeyTable {
  std::vector<int64_t> seeds, stream;
  explicit KeyTable(const Case& c) {
    for (int64_t row = 0; row < c.rows; ++row) {
      seeds.push_back(static_cast<int64_t>(word(c.seed, list_seeds, row)));
      seeds.push_back(0);  // seeds lie two apart
      stream.push_back(static_cast<int64_t>(word(c.seed, list_stream, c.uniform ? 0 : row)));
    }
  }
  Keys keys(const Case& c) const {
    if (c.noise != drawn) return {nullptr, 0, nullptr, 0};
    return {seeds.data(), 2, stream.data(), c.uniform ? 0 : 1};
  }
};

struct Coefficients {
  std::vector<float> narrow;
  std::vector<double> wide;
  int64_t rows, columns;
  Coefficients(const Case& c, int columns) : rows(c.uniform ? 1 : c.rows), columns(columns) {
    for (int64_t i = 0; i < rows * columns; ++i) {  // [rows, columns], stored by columns
      const uint64_t w = word(c.seed, list_coef, i % rows * columns + i / rows);
      const bool zero = w >> 61 == 0;  // one in eight, of either sign
      narrow.push_back(number<float>(w, false) * (zero ? 0.0f : 1.0f));
      wide.push_back(number<double>(w, false) * (zero ? 0.0 : 1.0));
    }
  }
  Table table(const Case& c) const {
    const void* data = c.wide ? static_cast<const void*>(wide.data()) : narrow.data();
    return {data, c.uniform ? 0 : 1, rows, c.wide != 0};
  }
};

}  // namespace
}  // namespace harness
