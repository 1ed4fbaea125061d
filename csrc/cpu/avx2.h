// Eight lanes of number.h's number type in AVX2, FMA and F16C. Include under a target pragma only.
#pragma once

#include <immintrin.h>

#include "../dtype.h"

namespace latentdiff {
namespace {

struct Avx2 {
  using F = __m256;
  using U = __m256i;
  // The words of even and of odd lanes in the low halves of 64-bit lanes, as the multiply of Philox wants and
  // leaves them; the high halves hold anything.
  struct Q {
    __m256i even, odd;
  };
  static constexpr int lanes = 8;

  static LD_FN F set(float a) { return _mm256_set1_ps(a); }
  static LD_FN U set_bits(uint32_t a) { return _mm256_set1_epi32(static_cast<int>(a)); }
  static LD_FN Q widen(U a) { return {a, _mm256_srli_epi64(a, 32)}; }
  static LD_FN U narrow(Q a) { return _mm256_blend_epi32(a.even, _mm256_slli_epi64(a.odd, 32), 0xAA); }

  static LD_FN F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static LD_FN F add(F a, F b) { return _mm256_add_ps(a, b); }
  static LD_FN F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static LD_FN F sqrt(F a) { return _mm256_sqrt_ps(a); }
  static LD_FN F to_float(U a) { return _mm256_cvtepi32_ps(a); }
  static LD_FN U bits(F a) { return _mm256_castps_si256(a); }
  static LD_FN F from_bits(U a) { return _mm256_castsi256_ps(a); }

  static LD_FN void multiply(Q a, Q b, Q& high, Q& low) {
    low = {_mm256_mul_epu32(a.even, b.even), _mm256_mul_epu32(a.odd, b.odd)};
    high = {_mm256_srli_epi64(low.even, 32), _mm256_srli_epi64(low.odd, 32)};
  }
  static LD_FN Q xor3(Q a, Q b, Q c) {
    return {_mm256_xor_si256(_mm256_xor_si256(b.even, c.even), a.even),
            _mm256_xor_si256(_mm256_xor_si256(b.odd, c.odd), a.odd)};
  }
  static LD_FN Q advance(Q a, Q b) {
    return {_mm256_add_epi32(a.even, b.even), _mm256_add_epi32(a.odd, b.odd)};
  }

  static LD_FN U plus(U a, U b) { return _mm256_add_epi32(a, b); }
  static LD_FN U minus(U a, U b) { return _mm256_sub_epi32(a, b); }
  template <int n>
  static LD_FN U shift_left(U a) {
    return _mm256_slli_epi32(a, n);
  }
  template <int n>
  static LD_FN U shift_right(U a) {
    return _mm256_srli_epi32(a, n);
  }
  template <int n>
  static LD_FN U shift_right_signed(U a) {
    return _mm256_srai_epi32(a, n);
  }
  static LD_FN F choose(U q, F a, F b) { return _mm256_blendv_ps(b, a, from_bits(shift_left<31>(q))); }
  static LD_FN F flip(U q, F a) {
    const U sign = _mm256_slli_epi32(_mm256_and_si256(q, set_bits(2u)), 30);
    return _mm256_xor_ps(a, from_bits(sign));
  }
  // max and min return their second argument where one is NaN, so NaN stays.
  static LD_FN F clamp(F a, F bound) {
    const F low = _mm256_xor_ps(bound, set(-0.0f));
    return _mm256_min_ps(bound, _mm256_max_ps(low, a));
  }
  // The mask belongs to the coefficient: a compiler makes it once, outside the loop over elements.
  static LD_FN F keep(F coefficient, F a) {
    const F nonzero = _mm256_cmp_ps(coefficient, set(0.0f), _CMP_NEQ_UQ);
    return _mm256_and_ps(a, _mm256_or_ps(nonzero, set(-0.0f)));
  }

  static LD_FN F read(const float* from) { return _mm256_loadu_ps(from); }
  static LD_FN F read(const Half* from) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  static LD_FN F read(const Bfloat* from) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    return from_bits(_mm256_slli_epi32(wide, 16));
  }
  static LD_FN void write(F a, float* to) { _mm256_storeu_ps(to, a); }
  static LD_FN void write(F a, Half* to) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                     _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static LD_FN void write(F a, Bfloat* to) {
    const U bits_of = bits(a), odd = _mm256_and_si256(shift_right<16>(bits_of), set_bits(1u));
    const U rounded = shift_right<16>(plus(plus(bits_of, set_bits(0x7FFFu)), odd));
    const F nan = _mm256_cmp_ps(a, a, _CMP_UNORD_Q);
    const U low = bits(_mm256_blendv_ps(from_bits(rounded), from_bits(set_bits(0x7FC0u)), nan));
    const __m256i packed = _mm256_packus_epi32(low, low);  // words 0..3, 0..3, 4..7, 4..7
    const __m256i ordered = _mm256_permute4x64_epi64(packed, 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(ordered));
  }

  static LD_FN U iota() { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }
  static LD_FN U read_bits(const uint32_t* from) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  }
  // to[4 j + i] = z[i] of lane j.
  static LD_FN void write_blocks(const F (&z)[4], float* to) {
    const F a = _mm256_unpacklo_ps(z[0], z[1]), b = _mm256_unpackhi_ps(z[0], z[1]);
    const F c = _mm256_unpacklo_ps(z[2], z[3]), d = _mm256_unpackhi_ps(z[2], z[3]);
    const F e = _mm256_shuffle_ps(a, c, 0x44), f = _mm256_shuffle_ps(a, c, 0xEE);  // blocks 0 and 4, 1 and 5
    const F g = _mm256_shuffle_ps(b, d, 0x44), h = _mm256_shuffle_ps(b, d, 0xEE);  // blocks 2 and 6, 3 and 7
    _mm256_storeu_ps(to, _mm256_permute2f128_ps(e, f, 0x20));
    _mm256_storeu_ps(to + 8, _mm256_permute2f128_ps(g, h, 0x20));
    _mm256_storeu_ps(to + 16, _mm256_permute2f128_ps(e, f, 0x31));
    _mm256_storeu_ps(to + 24, _mm256_permute2f128_ps(g, h, 0x31));
  }
};

}  // namespace
}  // namespace latentdiff
