// Element types, and what every kernel needs: widening, rounding, the number
// of a thread or a warp, and sums over a warp.
//
// Arithmetic is in float. bf16 and f16 are storage types of two bytes; they
// are defined here, without CUDA's headers, so that a bit pattern is rounded
// alike on every architecture and a kernel compiles in a second.
#pragma once

namespace moec {

struct bf16 {
  unsigned short bits;
};
struct f16 {
  unsigned short bits;
};

// What moving kernels copy: elements of two and of four bytes.
using b16 = unsigned short;
using b32 = unsigned int;

// List carries numbers in a type.
template <int... V>
struct List {
  static constexpr int size = sizeof...(V);
};

// Ints and Pointers are lists given when a kernel is launched.
template <int N>
struct Ints {
  int at[N];
};
template <int N>
struct Pointers {
  const void* at[N];
};

__device__ inline float widen(float x) { return x; }
__device__ inline float widen(bf16 x) { return __uint_as_float(unsigned(x.bits) << 16); }
__device__ inline float widen(f16 x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
}

// narrow rounds to nearest, ties to even; NaN stays NaN.
__device__ inline void narrow(float* to, float x) { *to = x; }
__device__ inline void narrow(bf16* to, float x) {
  unsigned b = __float_as_uint(x);
  to->bits = x != x ? (b >> 16) | 0x40 : (b + 0x7fff + (b >> 16 & 1)) >> 16;
}
__device__ inline void narrow(f16* to, float x) {
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to->bits) : "f"(x));
}

constexpr int warp_size = 32;
constexpr unsigned all_lanes = 0xffffffff;

__device__ inline long long thread_number() { return (long long)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ inline long long warp_number() { return thread_number() / warp_size; }
__device__ inline int lane() { return threadIdx.x % warp_size; }

// warp_sum adds a number of each lane, in pairs, and gives all lanes the sum.
__device__ inline float warp_sum(float x) {
  for (int d = warp_size / 2; d > 0; d /= 2) x += __shfl_xor_sync(all_lanes, x, d);
  return x;
}

// larger is NaN if either is.
__device__ inline float larger(float a, float b) { return a != a ? a : b != b ? b : fmaxf(a, b); }
__device__ inline float smaller(float a, float b) { return a != a ? a : b != b ? b : fminf(a, b); }

__device__ inline float warp_max(float x) {
  for (int d = warp_size / 2; d > 0; d /= 2) x = larger(x, __shfl_xor_sync(all_lanes, x, d));
  return x;
}

__device__ inline float minus_infinity() { return __int_as_float(0xff800000); }

}  // namespace moec
