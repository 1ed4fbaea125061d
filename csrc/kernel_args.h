// Arguments of the kernels: plain structures without torch, shared by the CPU kernels and the CUDA launches.
#pragma once

#include "dtype.h"
#include "step.h"

namespace latentdiff {

constexpr int max_dims = 8;

// Samples are `rows` of `inner` elements. Where noise is drawn, element e of a row is its logical row-major
// position; where none is, dimensions may be permuted and rows joined, because then no element knows its
// number.
struct Shape {
  int64_t rows, inner;
  int dims;                 // of a row, after joining; 1 if every operand steps evenly
  int64_t sizes[max_dims];  // outermost first
  bool flat;                // every operand's row is contiguous
  bool joined;              // and rows follow one another without gaps
};

struct Operand {
  void* data;  // null: absent
  int64_t row_stride;
  int64_t strides[max_dims];
  bool packed;  // every full item (vector_item.h) is 16 aligned bytes: set by Items::prepare
};

// Coefficients [1 or rows, K] of float32 or float64.
struct Table {
  const void* data;
  int64_t row_stride, column_stride;  // row_stride 0: one row for all samples
  bool wide;                          // float64

  template <class F>
  LD_FN F at(int64_t row, int column) const {
    const int64_t i = row * row_stride + column * column_stride;
    return wide ? static_cast<F>(static_cast<const double*>(data)[i])
                : static_cast<F>(static_cast<const float*>(data)[i]);
  }
};

// One row of a table, in the type that a kernel computes in.
template <class F>
struct Row {
  const Table& table;
  int64_t row;
  LD_FN F operator()(int column) const { return table.at<F>(row, column); }
};

struct Keys {
  const int64_t* seeds;  // null: no noise is drawn
  int64_t seed_stride;
  const int64_t* stream;
  int64_t stream_stride;  // 0: one stream for all samples

  LD_FN uint64_t seed(int64_t row) const { return static_cast<uint64_t>(seeds[row * seed_stride]); }
  LD_FN uint64_t stream_of(int64_t row) const { return static_cast<uint64_t>(stream[row * stream_stride]); }
};

struct NormalArguments {
  Shape shape;
  Dtype dtype;
  Keys keys;
  Operand z;
};

struct NoisingArguments {
  Shape shape;
  Dtype dtype;
  Keys keys;  // or `noise`
  Table coef;
  Operand x0, noise, x_t, target;
};

struct StepArguments {
  Shape shape;
  Dtype dtype;
  Keys keys;  // or `noise`, or neither
  Table coef;
  int n;        // network outputs, 1..max_outs
  bool direct;  // the table has r_1..r_n
  bool clipped;
  double bound;
  Operand x, outs[max_outs], noise, x_s, x0;  // x0 may be absent
};

// Offset of element e of a row, in elements from the row's start.
LD_FN int64_t offset(const Shape& shape, const Operand& operand, int64_t e) {
  int64_t sum = 0;
  for (int d = shape.dims - 1; d > 0; --d) {
    const int64_t quotient = e / shape.sizes[d];
    sum += (e - quotient * shape.sizes[d]) * operand.strides[d];
    e = quotient;
  }
  return sum + e * operand.strides[0];
}

// Whether element e of a row lies at offset e.
LD_FN bool is_flat(const Shape& shape, const Operand& operand) {
  int64_t stride = 1;
  for (int d = shape.dims - 1; d >= 0; --d) {
    if (shape.sizes[d] != 1 && operand.strides[d] != stride) return false;
    stride *= shape.sizes[d];
  }
  return true;
}

// Sums over many numbers have this many lanes in every implementation, so that they are the same sums.
constexpr int sum_lanes = 16;
constexpr int block_units = 32;  // that are added before their sum is

// `count` rows of `width` numbers; `repeat` of them in turn have the condition rows[k] (k, where that is
// null), one of `conditions` rows of factor, shift and gate, whose numbers follow one another.
struct AdaNormArguments {
  int64_t count, width, repeat, conditions;
  float eps;
  Dtype dtype;  // of branch and y: float32, float16 or bfloat16
  const float* h;
  const void* branch;  // null: nothing is added to h
  float* sum;          // h + gate branch
  void* y;
  const float *factor, *shift, *gate;
  int64_t factor_stride, shift_stride, gate_stride;
  const int64_t* rows;
};

// Samples of `pixels` times `channels` numbers, the channels of a pixel next to one another. `unit`: the
// numbers of as many pixels as have a multiple of sum_lanes.
struct GroupNormArguments {
  int64_t pixels, channels, groups, unit;
  float eps;
  const void* x;
  void* y;
  const float *weight, *bias;
};

}  // namespace latentdiff
