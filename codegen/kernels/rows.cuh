// Along the last axis: one warp a row. A lane takes every 32nd element, then
// the lanes are added in pairs, so a row's bits depend on that row alone.
#pragma once

#include "element.cuh"

namespace moec {

template <typename X, int N>
__device__ void softmax(float* out, const X* x, long long rows) {
  long long row = warp_number();
  if (row >= rows) return;
  x += row * N;
  out += row * N;
  float top = minus_infinity();
  for (int i = lane(); i < N; i += warp_size) top = larger(top, widen(x[i]));
  top = warp_max(top);
  float sum = 0;
  for (int i = lane(); i < N; i += warp_size) sum += expf(widen(x[i]) - top);
  sum = warp_sum(sum);
  for (int i = lane(); i < N; i += warp_size) out[i] = expf(widen(x[i]) - top) / sum;
}

template <typename X, int N>
__device__ void sum(float* out, const X* x, long long rows) {
  long long row = warp_number();
  if (row >= rows) return;
  float s = 0;
  for (int i = lane(); i < N; i += warp_size) s += widen(x[row * N + i]);
  s = warp_sum(s);
  if (lane() == 0) out[row] = s;
}

// norm_factor is 1 / sqrt(mean of squares + eps), rounded once.
__device__ inline float norm_factor(float squares, int n, double eps) {
  return float(1 / sqrt(double(squares) / n + eps));
}

// rms_norm takes no weights if w is null.
template <typename X, typename W, int N>
__device__ void rms_norm(float* out, const X* x, const W* w, long long rows, double eps) {
  long long row = warp_number();
  if (row >= rows) return;
  x += row * N;
  out += row * N;
  float squares = 0;
  for (int i = lane(); i < N; i += warp_size) squares = fmaf(widen(x[i]), widen(x[i]), squares);
  float factor = norm_factor(warp_sum(squares), N, eps);
  for (int i = lane(); i < N; i += warp_size) {
    float y = widen(x[i]) * factor;
    out[i] = w ? y * widen(w[i]) : y;
  }
}

// layer_norm takes no weights if w is null, and adds nothing if b is.
template <typename X, typename W, typename B, int N>
__device__ void layer_norm(float* out, const X* x, const W* w, const B* b, long long rows, double eps) {
  long long row = warp_number();
  if (row >= rows) return;
  x += row * N;
  out += row * N;
  float s = 0;
  for (int i = lane(); i < N; i += warp_size) s += widen(x[i]);
  float mean = float(double(warp_sum(s)) / N);
  float squares = 0;
  for (int i = lane(); i < N; i += warp_size) {
    float y = widen(x[i]) - mean;
    squares = fmaf(y, y, squares);
  }
  float factor = norm_factor(warp_sum(squares), N, eps);
  for (int i = lane(); i < N; i += warp_size) {
    float y = (widen(x[i]) - mean) * factor;
    if (w) y = y * widen(w[i]);
    out[i] = b ? y + widen(b[i]) : y;
  }
}

}  // namespace moec
