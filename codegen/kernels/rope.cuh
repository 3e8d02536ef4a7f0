// Rotary embedding: one thread a pair of a head, or an entry that is kept.
#pragma once

#include "element.cuh"

namespace moec {

// turn returns cosine and sine of an angle in radians. In units of pi the
// angle is reduced exactly; double keeps what a large angle has left of it.
__device__ inline void turn(float angle, float* c, float* s) {
  constexpr double inv_pi = 0.318309886183790671538;
  double dc, ds;
  sincospi(double(angle) * inv_pi, &ds, &dc);
  *c = float(dc);
  *s = float(ds);
}

// rope pairs entry i with i + FREQS, or 2i with 2i+1 if INTERLEAVED; entries
// past 2 FREQS are kept.
template <typename X, typename F, int HEADS, int DIM, int FREQS, int INTERLEAVED>
__device__ void rope(float* out, const X* x, const int* positions, const F* freqs, long long tokens, float scale) {
  constexpr int items = DIM - FREQS;  // of a head
  long long item = thread_number();
  if (item >= tokens * HEADS * items) return;
  int i = item % items;
  long long head = item / items;
  x += head * DIM;
  out += head * DIM;
  if (i >= FREQS) {
    out[i + FREQS] = widen(x[i + FREQS]);
    return;
  }
  float c, s;
  turn(float(positions[head / HEADS]) * widen(freqs[i]), &c, &s);
  c *= scale;
  s *= scale;
  int a = INTERLEAVED ? 2 * i : i, b = INTERLEAVED ? 2 * i + 1 : i + FREQS;
  float u = widen(x[a]), v = widen(x[b]);
  out[a] = u * c - v * s;
  out[b] = v * c + u * s;
}

}  // namespace moec
