// Functions of one element or of two, and rounding: one thread an element.
//
// An operand may lie where the result goes: a thread reads its own element
// before it writes it.
#pragma once

#include "element.cuh"

namespace moec {

struct Neg {
  static __device__ float of(float x) { return -x; }
};
struct Abs {
  static __device__ float of(float x) { return fabsf(x); }
};
struct Exp {
  static __device__ float of(float x) { return expf(x); }
};
struct Log {
  static __device__ float of(float x) { return logf(x); }
};
struct Sqrt {
  static __device__ float of(float x) { return sqrtf(x); }
};
struct Tanh {
  static __device__ float of(float x) { return tanhf(x); }
};
struct Sigmoid {
  static __device__ float of(float x) { return 1 / (1 + expf(-x)); }
};
struct Relu {
  static __device__ float of(float x) { return larger(x, 0); }
};

// The next three are 0 at minus infinity, where x times 0 would be NaN.
struct Silu {
  static __device__ float of(float x) { return x == minus_infinity() ? 0 : x / (1 + expf(-x)); }
};
struct Gelu {
  static constexpr float inv_sqrt2 = 0.707106781186547524f;
  static __device__ float of(float x) { return x == minus_infinity() ? 0 : 0.5f * x * erfcf(-x * inv_sqrt2); }
};
struct GeluTanh {
  static constexpr float sqrt_2_over_pi = 0.797884560802865356f;
  static __device__ float of(float x) {
    float inner = sqrt_2_over_pi * (x + 0.044715f * (x * x * x));
    // (1 + tanh(y)) / 2 = 1 / (1 + e^-2y), without the cancellation.
    return x == minus_infinity() ? 0 : x / (1 + expf(-2 * inner));
  }
};
struct Softplus {
  static __device__ float of(float x) { return larger(x, 0) + log1pf(expf(-fabsf(x))); }
};

template <typename F, typename X>
__device__ void unary(float* out, const X* x, long long count) {
  long long i = thread_number();
  if (i < count) out[i] = F::of(widen(x[i]));
}

template <typename X, typename Y>
__device__ void round(Y* out, const X* x, long long count) {
  long long i = thread_number();
  if (i < count) narrow(&out[i], widen(x[i]));
}

struct Add {
  static __device__ float of(float a, float b) { return a + b; }
};
struct Sub {
  static __device__ float of(float a, float b) { return a - b; }
};
struct Mul {
  static __device__ float of(float a, float b) { return a * b; }
};
struct Div {
  static __device__ float of(float a, float b) { return a / b; }
};
struct Max {
  static __device__ float of(float a, float b) { return larger(a, b); }
};
struct Min {
  static __device__ float of(float a, float b) { return smaller(a, b); }
};

// binary repeats operands along the axes where their stride is 0.
template <typename F, typename A, typename B, int RANK>
__device__ void binary(float* out, const A* a, const B* b, long long count, const Ints<RANK>& extents,
                       const Ints<RANK>& a_strides, const Ints<RANK>& b_strides) {
  long long i = thread_number();
  if (i >= count) return;
  long long rest = i, at_a = 0, at_b = 0;
#pragma unroll
  for (int d = RANK - 1; d >= 0; d--) {
    int k = rest % extents.at[d];
    rest /= extents.at[d];
    at_a += (long long)k * a_strides.at[d];
    at_b += (long long)k * b_strides.at[d];
  }
  out[i] = F::of(widen(a[at_a]), widen(b[at_b]));
}

}  // namespace moec
