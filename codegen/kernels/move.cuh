// Copies of elements, whatever they stand for: one thread an element of the
// result.
#pragma once

#include "element.cuh"

namespace moec {

// copy takes the elements from number first on; x may be in the memory of
// another device.
template <typename E>
__device__ void copy(E* out, const E* x, long long count, long long first) {
  long long i = thread_number();
  if (i < count) out[i] = x[first + i];
}

// strided takes, of an axis of extent from, the entries lo, lo + step, ... to
// of them. Step 0 repeats one.
template <typename E>
__device__ void strided(E* out, const E* x, long long count, int from, int to, int inner, int lo, int step) {
  long long i = thread_number();
  if (i >= count) return;
  long long outer = i / inner / to;
  int k = i / inner % to, in = i % inner;
  out[i] = x[(outer * from + lo + (long long)k * step) * inner + in];
}

// concat puts operands one after the other along an axis; extents are theirs,
// whole is their sum. Operands may be in the memory of other devices.
template <typename E, int PARTS>
__device__ void concat(E* out, const Pointers<PARTS>& parts, const Ints<PARTS>& extents, long long count, int whole,
                       int inner) {
  long long i = thread_number();
  if (i >= count) return;
  long long outer = i / inner / whole;
  int k = i / inner % whole, in = i % inner;
#pragma unroll
  for (int p = 0; p < PARTS; p++) {
    if (k >= 0 && k < extents.at[p]) {
      out[i] = static_cast<const E*>(parts.at[p])[(outer * extents.at[p] + k) * inner + in];
    }
    k -= extents.at[p];
  }
}

// take_rows takes the rows of x that are listed.
template <typename E>
__device__ void take_rows(E* out, const E* x, const int* rows, long long count, int width) {
  long long i = thread_number();
  if (i < count) out[i] = x[(long long)rows[i / width] * width + i % width];
}

// gather takes, of each row, the entries that are listed for it.
template <typename E>
__device__ void gather(E* out, const E* x, const int* ids, long long count, int width, int picks) {
  long long i = thread_number();
  if (i < count) out[i] = x[i / picks * width + ids[i]];
}

}  // namespace moec
