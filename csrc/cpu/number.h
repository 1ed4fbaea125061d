// One lane of number.h's arithmetic with the memory of the SIMD number types: for what is left over, and for
// the portable kernels.
#pragma once

#include "../dtype.h"

namespace latentdiff::cpu {
namespace {

struct Number : Scalar<float> {
  template <class T>
  static LD_FN float read(const T* from) {
    return load(*from);
  }
  template <class T>
  static LD_FN void write(float value, T* to) {
    store(value, *to);
  }
};

}  // namespace
}  // namespace latentdiff::cpu
