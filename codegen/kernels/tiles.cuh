// How weight matrices lie in tiles, for kernels that multiply on tensor cores.
//
// A matrix [N, K] of two-byte elements, both multiples of 64, is cut into tiles
// of 64 rows and 64 features. Tiles of the same rows follow each other along
// the features, so 64 whole rows are one piece of 128 K bytes. Experts follow
// each other. In a tile, a row has 128 bytes, in chunks of 16; chunk c of row r
// is in the place of chunk c xor (r mod 8). That is the 128-byte swizzle of
// wgmma and of tensor maps: a tile copied as it is to shared memory that is
// aligned to 1024 bytes can be multiplied, and read by ldmatrix without bank
// conflicts.
#pragma once

#include "element.cuh"

namespace moec {

constexpr int tile_side = 64;
constexpr int tile_row_bytes = 2 * tile_side;
constexpr int tile_bytes = tile_side * tile_row_bytes;
constexpr int chunk_bytes = 16;
constexpr int chunk_elements = 8;

// in_tile returns the offset in bytes of a chunk of a row of a tile.
__device__ inline int in_tile(int row, int chunk) { return row * tile_row_bytes + ((chunk ^ (row & 7)) * chunk_bytes); }

// tile_start returns the offset in bytes of the tile that has rows from
// 64 row_tile and features from 64 k_tile, in a matrix of k features.
__device__ inline long long tile_start(int row_tile, int k_tile, int k) {
  return ((long long)row_tile * (k / tile_side) + k_tile) * tile_bytes;
}

// Rows and Tiles are the layouts of a matrix [N, K] of which element (n, k)
// is wanted, K being the number of features.
struct Rows {
  template <typename W>
  static __device__ W& at(W* w, long long n, int k, int features) {
    return w[n * features + k];
  }
};
struct Tiles {
  template <typename W>
  static __device__ W& at(W* w, long long n, int k, int features) {
    static_assert(sizeof(W) == 2, "tiles are of two-byte elements");
    long long start = tile_start(n / tile_side, k / tile_side, features) / 2;
    return w[start + in_tile(n % tile_side, k % tile_side / chunk_elements) / 2 + k % chunk_elements];
  }
};

}  // namespace moec
