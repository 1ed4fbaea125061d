// Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") and Box-Muller's normals
// from it. V is a number type of number.h: one lane on the device, 8 or 16 blocks at a time on CPUs.
#pragma once

#include "number.h"

namespace latentdiff {

// Ten rounds in place: counter words c[0..3], key words k0 and k1.
template <class V>
LD_FN void philox(typename V::Q (&c)[4], typename V::Q k0, typename V::Q k1) {
  using Q = typename V::Q;
  const Q m0 = V::widen(V::set_bits(0xD2511F53u)), m1 = V::widen(V::set_bits(0xCD9E8D57u));
  const Q w0 = V::widen(V::set_bits(0x9E3779B9u)), w1 = V::widen(V::set_bits(0xBB67AE85u));
  LD_UNROLL
  for (int round = 0; round < 10; ++round) {
    Q high0, low0, high1, low1;
    V::multiply(c[0], m0, high0, low0);
    V::multiply(c[2], m1, high1, low1);
    c[0] = V::xor3(high1, c[1], k0);
    c[1] = low1;
    c[2] = V::xor3(high0, c[3], k1);
    c[3] = low0;
    k0 = V::advance(k0, w0);
    k1 = V::advance(k1, w1);
  }
}

// Natural logarithm of u in (0, 1]; error below 0.7 ulp. Polynomial of Cephes' logf on [sqrt(1/2), sqrt(2)].
template <class V>
LD_FN typename V::F log_unit(typename V::F u) {
  using F = typename V::F;
  const auto bits = V::bits(u);
  const auto e = V::template shift_right_signed<23>(V::minus(bits, V::set_bits(0x3F3504F3u)));
  const F f = V::add(V::from_bits(V::minus(bits, V::template shift_left<23>(e))), V::set(-1.0f));
  const F z = V::mul(f, f);
  F p = V::set(7.0376836292e-2f);
  p = V::fma(p, f, V::set(-1.1514610310e-1f));
  p = V::fma(p, f, V::set(1.1676998740e-1f));
  p = V::fma(p, f, V::set(-1.2420140846e-1f));
  p = V::fma(p, f, V::set(1.4249322787e-1f));
  p = V::fma(p, f, V::set(-1.6668057665e-1f));
  p = V::fma(p, f, V::set(2.0000714765e-1f));
  p = V::fma(p, f, V::set(-2.4999993993e-1f));
  p = V::fma(p, f, V::set(3.3333331174e-1f));
  p = V::mul(V::mul(p, f), z);
  const F exponent = V::to_float(e);
  p = V::fma(exponent, V::set(-2.12194440e-4f), p);
  p = V::fma(V::set(-0.5f), z, p);
  return V::fma(exponent, V::set(0.693359375f), V::add(f, p));
}

// Sine and cosine of 2 pi k / 2^32; error below 1.3e-7. The octant is taken off in integers, so nothing is
// rounded before the polynomials (Cephes' sinf and cosf).
template <class V>
LD_FN void sincos_turn(typename V::U k, typename V::F& sine, typename V::F& cosine) {
  using F = typename V::F;
  const auto q = V::template shift_right<30>(V::plus(k, V::set_bits(0x20000000u)));
  const auto r = V::minus(k, V::template shift_left<30>(q));
  const F t = V::mul(V::to_float(r), V::set(1.4629180792671596e-9f));  // 2 pi / 2^32
  const F z = V::mul(t, t);
  F s = V::fma(V::set(-1.9515295891e-4f), z, V::set(8.3321608736e-3f));
  s = V::fma(s, z, V::set(-1.6666654611e-1f));
  s = V::fma(s, V::mul(z, t), t);
  F c = V::fma(V::set(2.443315711809948e-5f), z, V::set(-1.388731625493765e-3f));
  c = V::fma(c, z, V::set(4.166664568298827e-2f));
  c = V::fma(c, V::mul(z, z), V::fma(V::set(-0.5f), z, V::set(1.0f)));
  sine = V::flip(q, V::choose(q, c, s));
  cosine = V::flip(V::plus(q, V::set_bits(1u)), V::choose(q, s, c));
}

// Two normals from a radius word (24 bits of it) and an angle word.
template <class V>
LD_FN void box_muller(typename V::U radius, typename V::U angle, typename V::F& first,
                      typename V::F& second) {
  using F = typename V::F;
  const F unit = V::set(5.9604644775390625e-8f);  // 2^-24: u = (k + 1) / 2^24 is exact and never 0
  const F u = V::fma(V::to_float(V::template shift_right<8>(radius)), unit, unit);
  const F length = V::sqrt(V::mul(V::set(-2.0f), log_unit<V>(u)));
  F sine, cosine;
  sincos_turn<V>(angle, sine, cosine);
  first = V::mul(length, cosine);
  second = V::mul(length, sine);
}

// The four normals of a block, from its counter (block low, block high, stream low, stream high) and key
// (seed).
template <class V>
LD_FN void normal_block(typename V::Q (&c)[4], typename V::Q k0, typename V::Q k1, typename V::F (&z)[4]) {
  philox<V>(c, k0, k1);
  box_muller<V>(V::narrow(c[0]), V::narrow(c[1]), z[0], z[1]);
  box_muller<V>(V::narrow(c[2]), V::narrow(c[3]), z[2], z[3]);
}

LD_FN void normal_block(uint64_t block, uint64_t stream, uint64_t seed, float (&z)[4]) {
  uint32_t c[4] = {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                   static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)};
  normal_block<Scalar<float>>(c, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32), z);
}

}  // namespace latentdiff
