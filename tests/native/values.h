// Numbers made from integers alone, so that another language makes the same ones, and a checksum of numbers.
#pragma once

#include <cstdint>
#include <cstring>

#include "../../csrc/dtype.h"

namespace harness {

using latentdiff::Bfloat;
using latentdiff::Half;

inline uint64_t mix(uint64_t x) {  // splitmix64
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// Number `index` of the list `list` of a case.
inline uint64_t word(uint64_t seed, uint64_t list, uint64_t index) {
  return mix(mix(mix(seed) + list) + index);
}

template <class T>
struct Bits;
template <>
struct Bits<float> {
  using U = uint32_t;
  static constexpr int mantissa = 23, bias = 127;
};
template <>
struct Bits<double> {
  using U = uint64_t;
  static constexpr int mantissa = 52, bias = 1023;
};
template <>
struct Bits<Half> {
  using U = uint16_t;
  static constexpr int mantissa = 10, bias = 15;
};
template <>
struct Bits<Bfloat> {
  using U = uint16_t;
  static constexpr int mantissa = 7, bias = 127;
};

template <class T>
typename Bits<T>::U bits_of(T value) {
  typename Bits<T>::U bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

template <class T>
T number_of(uint64_t bits) {
  const auto narrow = static_cast<typename Bits<T>::U>(bits);
  T value;
  std::memcpy(&value, &narrow, sizeof value);
  return value;
}

// Of size 1/8 to 4 and either sign; if `wild`, one in sixteen has any bits: NaN, infinite, subnormal.
template <class T>
T number(uint64_t word, bool wild) {
  if (wild && word >> 60 == 0) return number_of<T>(mix(word));
  constexpr int width = Bits<T>::mantissa, size = 8 * sizeof(T);
  const uint64_t exponent = Bits<T>::bias - 3 + (word >> 53) % 5,
                 fraction = word & ((uint64_t{1} << width) - 1);
  return number_of<T>((word >> 52 & 1) << (size - 1) | exponent << width | fraction);
}

// NaN has no fixed sign and payload: processors differ, and nothing depends on it.
template <class T>
uint64_t canonical(T value) {
  constexpr int width = Bits<T>::mantissa;
  constexpr uint64_t infinity = (2 * uint64_t{Bits<T>::bias} + 1) << width;
  const uint64_t bits = bits_of(value);
  return (bits & ((uint64_t{1} << (8 * sizeof(T) - 1)) - 1)) > infinity ? infinity + 1 : bits;
}

struct Checksum {
  uint64_t sum = 0, count = 0;
  void add(uint64_t bits) { sum += mix(bits ^ mix(count++)); }
};

}  // namespace harness
