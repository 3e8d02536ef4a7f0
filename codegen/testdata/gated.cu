// elementwise.cuh: mul_f32_bf16_2 round_f32_bf16 silu_bf16
#include "elementwise.cuh"

extern "C" __global__ void __launch_bounds__(256, 1) mul_f32_bf16_2(
    float* out,
    const float* a,
    const moec::bf16* b,
    long long count,
    const __grid_constant__ moec::Ints<2> extents,
    const __grid_constant__ moec::Ints<2> a_strides,
    const __grid_constant__ moec::Ints<2> b_strides) {
  moec::binary<moec::Mul, float, moec::bf16, 2>(out, a, b, count, extents, a_strides, b_strides);
}

extern "C" __global__ void __launch_bounds__(256, 1) round_f32_bf16(
    moec::bf16* out,
    const float* x,
    long long count) {
  moec::round<float, moec::bf16>(out, x, count);
}

extern "C" __global__ void __launch_bounds__(256, 1) silu_bf16(
    float* out,
    const moec::bf16* x,
    long long count) {
  moec::unary<moec::Silu, moec::bf16>(out, x, count);
}

// load.cuh: lay_tiles_bf16 make_up_bf16_rows make_up_bf16_tiles read_all
#include "load.cuh"

extern "C" __global__ void __launch_bounds__(256, 1) lay_tiles_bf16(
    moec::bf16* out,
    const moec::bf16* rows,
    long long chunks,
    int k) {
  moec::lay_tiles<moec::bf16>(out, rows, chunks, k);
}

extern "C" __global__ void __launch_bounds__(256, 1) make_up_bf16_rows(
    moec::bf16* out,
    const __grid_constant__ moec::Piece piece) {
  moec::make_up<moec::bf16, moec::Rows>(out, piece);
}

extern "C" __global__ void __launch_bounds__(256, 1) make_up_bf16_tiles(
    moec::bf16* out,
    const __grid_constant__ moec::Piece piece) {
  moec::make_up<moec::bf16, moec::Tiles>(out, piece);
}

extern "C" __global__ void __launch_bounds__(256, 1) read_all(
    unsigned* out,
    const uint4* from,
    long long count) {
  moec::read_all(out, from, count);
}

// matmul.cuh: matmul_bf16_bf16_rows_3_6_3_1
#include "matmul.cuh"

extern "C" __global__ void __launch_bounds__(256, 1) matmul_bf16_bf16_rows_3_6_3_1(
    float* out,
    const moec::bf16* x,
    const moec::bf16* w,
    long long rows,
    const __grid_constant__ moec::Segments<3, 1> cut) {
  moec::matmul<moec::bf16, moec::bf16, moec::Rows, 3, 6, 3, 1>(out, x, w, rows, cut);
}

// sample.cuh: choose
#include "sample.cuh"

extern "C" __global__ void __launch_bounds__(512, 1) choose(
    float* logits,
    const moec::Draw* draws,
    int vocab,
    const __grid_constant__ moec::Feed feed) {
  moec::choose(logits, draws, vocab, feed);
}

