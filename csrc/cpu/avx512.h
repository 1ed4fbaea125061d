// Sixteen lanes of number.h's number type in AVX-512F. Include under a target pragma only.
#pragma once

#include <immintrin.h>

#include "../dtype.h"

namespace latentdiff {
namespace {

struct Avx512 {
  using F = __m512;
  using U = __m512i;
  struct Q {  // as in Avx2
    __m512i even, odd;
  };
  static constexpr int lanes = 16;

  static LD_FN F set(float a) { return _mm512_set1_ps(a); }
  static LD_FN U set_bits(uint32_t a) { return _mm512_set1_epi32(static_cast<int>(a)); }
  static LD_FN Q widen(U a) { return {a, _mm512_srli_epi64(a, 32)}; }
  static LD_FN U narrow(Q a) { return _mm512_mask_blend_epi32(0xAAAA, a.even, _mm512_slli_epi64(a.odd, 32)); }

  static LD_FN F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static LD_FN F add(F a, F b) { return _mm512_add_ps(a, b); }
  static LD_FN F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static LD_FN F sqrt(F a) { return _mm512_sqrt_ps(a); }
  static LD_FN F to_float(U a) { return _mm512_cvtepi32_ps(a); }
  static LD_FN U bits(F a) { return _mm512_castps_si512(a); }
  static LD_FN F from_bits(U a) { return _mm512_castsi512_ps(a); }

  static LD_FN void multiply(Q a, Q b, Q& high, Q& low) {
    low = {_mm512_mul_epu32(a.even, b.even), _mm512_mul_epu32(a.odd, b.odd)};
    high = {_mm512_srli_epi64(low.even, 32), _mm512_srli_epi64(low.odd, 32)};
  }
  static LD_FN Q xor3(Q a, Q b, Q c) {
    return {_mm512_ternarylogic_epi32(a.even, b.even, c.even, 0x96),
            _mm512_ternarylogic_epi32(a.odd, b.odd, c.odd, 0x96)};
  }
  static LD_FN Q advance(Q a, Q b) {
    return {_mm512_add_epi32(a.even, b.even), _mm512_add_epi32(a.odd, b.odd)};
  }

  static LD_FN U plus(U a, U b) { return _mm512_add_epi32(a, b); }
  static LD_FN U minus(U a, U b) { return _mm512_sub_epi32(a, b); }
  template <int n>
  static LD_FN U shift_left(U a) {
    return _mm512_slli_epi32(a, n);
  }
  template <int n>
  static LD_FN U shift_right(U a) {
    return _mm512_srli_epi32(a, n);
  }
  template <int n>
  static LD_FN U shift_right_signed(U a) {
    return _mm512_srai_epi32(a, n);
  }
  static LD_FN F choose(U q, F a, F b) {
    return _mm512_mask_blend_ps(_mm512_test_epi32_mask(q, set_bits(1u)), b, a);
  }
  static LD_FN F flip(U q, F a) {
    const U sign = _mm512_slli_epi32(_mm512_and_si512(q, set_bits(2u)), 30);
    return from_bits(_mm512_xor_si512(bits(a), sign));
  }
  // max and min return their second argument where one is NaN, so NaN stays.
  static LD_FN F clamp(F a, F bound) {
    const F low = from_bits(_mm512_xor_si512(bits(bound), set_bits(0x80000000u)));
    return _mm512_min_ps(bound, _mm512_max_ps(low, a));
  }
  static LD_FN F keep(F coefficient, F a) {
    const __mmask16 zero = _mm512_cmp_ps_mask(coefficient, set(0.0f), _CMP_EQ_OQ);
    return from_bits(_mm512_mask_and_epi32(bits(a), zero, bits(a), set_bits(0x80000000u)));
  }

  static LD_FN F read(const float* from) { return _mm512_loadu_ps(from); }
  static LD_FN F read(const Half* from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
  static LD_FN F read(const Bfloat* from) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    return from_bits(_mm512_slli_epi32(wide, 16));
  }
  static LD_FN void write(F a, float* to) { _mm512_storeu_ps(to, a); }
  static LD_FN void write(F a, Half* to) {
    const __m256i half = _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), half);
  }
  static LD_FN void write(F a, Bfloat* to) {
    const U bits_of = bits(a), odd = _mm512_and_si512(shift_right<16>(bits_of), set_bits(1u));
    const U rounded = shift_right<16>(plus(plus(bits_of, set_bits(0x7FFFu)), odd));
    const __mmask16 nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
    const U low = _mm512_mask_blend_epi32(nan, rounded, set_bits(0x7FC0u));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(low));
  }

  static LD_FN U iota() { return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }
  static LD_FN U read_bits(const uint32_t* from) { return _mm512_loadu_si512(from); }
  // to[4 j + i] = z[i] of lane j.
  static LD_FN void write_blocks(const F (&z)[4], float* to) {
    const F a = _mm512_unpacklo_ps(z[0], z[1]), b = _mm512_unpackhi_ps(z[0], z[1]);
    const F c = _mm512_unpacklo_ps(z[2], z[3]), d = _mm512_unpackhi_ps(z[2], z[3]);
    const F e = _mm512_shuffle_ps(a, c, 0x44),
            f = _mm512_shuffle_ps(a, c, 0xEE);  // blocks 0 4 8 12, 1 5 9 13
    const F g = _mm512_shuffle_ps(b, d, 0x44),
            h = _mm512_shuffle_ps(b, d, 0xEE);  // blocks 2 6 10 14, 3 7 11 15
    const F ef = _mm512_shuffle_f32x4(e, f, 0x44), gh = _mm512_shuffle_f32x4(g, h, 0x44);  // 0 4 1 5, 2 6 3 7
    const F ef2 = _mm512_shuffle_f32x4(e, f, 0xEE),
            gh2 = _mm512_shuffle_f32x4(g, h, 0xEE);                   // 8 12 9 13, 10 14 11 15
    _mm512_storeu_ps(to, _mm512_shuffle_f32x4(ef, gh, 0x88));         // 0 1 2 3
    _mm512_storeu_ps(to + 16, _mm512_shuffle_f32x4(ef, gh, 0xDD));    // 4 5 6 7
    _mm512_storeu_ps(to + 32, _mm512_shuffle_f32x4(ef2, gh2, 0x88));  // 8 9 10 11
    _mm512_storeu_ps(to + 48, _mm512_shuffle_f32x4(ef2, gh2, 0xDD));  // 12 13 14 15
  }
};

}  // namespace
}  // namespace latentdiff
