// What puts weights in their places: made-up ones, and rows that become tiles.
#pragma once

#include "tiles.cuh"

namespace moec {

// Piece is a part of a weight in the whole logical one and where it goes in
// what a device keeps. Both have three axes, the first of which are 1 where
// there are fewer.
struct Piece {
  unsigned long long key, first;      // of the numbers; index of the first element
  unsigned long long strides[3];      // in the whole weight
  long long count;                    // of elements
  int extents[3], starts[3], kept[3]; // of the part; where it begins in what is kept; what is kept
  int vector;                         // 1: numbers around 1
  double scale;                       // else numbers up to this
};

// scrambled is the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
__device__ inline unsigned long long scrambled(unsigned long long x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ x >> 27) * 0x94d049bb133111ebull;
  return x ^ x >> 31;
}

// make_up gives elements the numbers that the host gives them: a grid of any
// size.
template <typename E, typename L>
__device__ void make_up(E* out, const Piece& p) {
  for (long long i = thread_number(); i < p.count; i += (long long)gridDim.x * blockDim.x) {
    int at2 = i % p.extents[2];
    long long rest = i / p.extents[2];
    int at1 = rest % p.extents[1], at0 = rest / p.extents[1];
    unsigned long long index = p.first + at0 * p.strides[0] + at1 * p.strides[1] + at2 * p.strides[2];
    double u = 2 * (double(scrambled(p.key + index * 0x9e3779b97f4a7c15ull) >> 11) / double(1ull << 53)) - 1;
    float x = p.vector ? float(1 + 0.1 * u) : float(u * p.scale);
    long long row = (long long)(at0 + p.starts[0]) * p.kept[1] + at1 + p.starts[1];
    narrow(&L::at(out, row, at2 + p.starts[2], p.kept[2]), x);
  }
}

// lay_tiles puts rows of k features, 64 rows or a multiple, into tiles: one
// thread a chunk.
template <typename E>
__device__ void lay_tiles(E* out, const E* rows, long long chunks, int k) {
  long long i = thread_number();
  if (i >= chunks) return;
  int in_row = k / chunk_elements, chunk = i % in_row;
  long long row = i / in_row;
  unsigned char* tile = (unsigned char*)out + tile_start(row / tile_side, chunk * chunk_elements / tile_side, k);
  *(uint4*)(tile + in_tile(row % tile_side, chunk % (tile_side / chunk_elements))) = ((const uint4*)rows)[i];
}

// read_all reads bytes once, as fast as memory gives them; the result is there
// so that they are read.
__device__ inline void read_all(unsigned* out, const uint4* from, long long count) {
  constexpr int ahead = 8;
  long long step = (long long)gridDim.x * blockDim.x;
  unsigned all = 0;
  for (long long i = thread_number(); i < count; i += ahead * step) {
    uint4 v[ahead];
#pragma unroll
    for (int k = 0; k < ahead; k++) v[k] = i + k * step < count ? __ldcs(from + i + k * step) : uint4{};
#pragma unroll
    for (int k = 0; k < ahead; k++) all ^= v[k].x ^ v[k].y ^ v[k].z ^ v[k].w;
  }
  if (all == 0x5ca1ab1e) *out = all;
}

}  // namespace moec
