// Attention of a decoding step: an item of work is one chunk of positions of
// one KV head of one token, for all query heads that share it.
//
// Chunks begin at fixed positions and are merged in order, by whichever block
// finishes last, so a token's bits depend on its own position alone.
#pragma once

#include "decode_phases.cuh"

namespace moec {

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// AttentionSpace is the shared memory of the phase: what each warp made of its
// positions.
template <typename M>
struct AttentionSpace {
  float weight[compute_warps][warp_size][M::share];
  float sum[compute_warps][M::share][M::dim + 8];  // entries in the order of order()
  float top[compute_warps][M::share], total[compute_warps][M::share];
  int last;
};

// part_size is the numbers that a chunk gives for one query head: the sum of
// values, the largest score, and the sum of weights.
template <typename M>
constexpr int part_size = M::dim + 2;

// Attention goes through a block's items. It is made before the last queries
// and keys are there: pages are looked up and on their way to the cache then,
// and while the item before is computed.
template <typename M>
struct Attention {
  using E = typename M::E;
  static constexpr int rows = M::chunk / compute_warps;  // positions of a warp: every eighth
  static constexpr int row = M::kv_heads * 2 * M::dim;   // elements of a position
  static_assert(M::chunk == compute_threads && rows == 32, "a position for each thread, two fragments of keys for each warp");
  static_assert(M::dim == 128, "16 entries for each group of lanes");
  static_assert(M::share <= 8 && M::share % 2 == 0, "heads that share are the columns of a matrix");

  const Decoder& d;
  AttentionSpace<M>& s;
  const E* cache;
  bool last;
  int count;
  int near_position, far_position;  // of the lane's row and of 32 rows further
  // The next item: its row, its number among the row's, and the place in the
  // cache of the lane's position: a warp has every eighth.
  int next_row = 0, turn, where = 0;
  float tops[2], totals[2];  // of the warp's positions, in its first lanes
  // The item that is computed.
  int at_row, kv_head, chunk, chunks, n;

  __device__ Attention(const Decoder& d, AttentionSpace<M>& s, int layer) : d(d), s(s), cache(d.cache.of<const E>(layer)), last(layer == M::layers - 1) {
    count = last ? d.row_count : d.token_count;
    near_position = lane() < count ? d.positions[token(lane())] : 0;
    far_position = lane() + 32 < count ? d.positions[token(lane() + 32)] : 0;
    turn = blockIdx.x;
    settle();
  }

  __device__ int token(int row) const { return last ? d.rows[row] : row; }
  __device__ int position(int row) const { return __shfl_sync(all_lanes, row < 32 ? near_position : far_position, row % 32); }

  // settle finds the row of the next item, and where its positions are.
  __device__ void settle() {
    int have = 0;
    for (; next_row < count; next_row++) {
      have = position(next_row);
      int items = (have / M::chunk + 1) * M::kv_heads;
      if (turn < items) break;
      turn -= items;
    }
    int p = turn / M::kv_heads * M::chunk + threadIdx.x / warp_size + lane() * compute_warps;
    where = 0;
    if (next_row == count || p > have) return;
    int t = token(next_row);
    where = d.pages[(long long)d.sequences[t] * d.table_width + p / M::page] * M::page + p % M::page;
    const E* from = cache + (long long)where * row + turn % M::kv_heads * 2 * M::dim;
#pragma unroll
    for (int i = 0; i < 4 * M::dim; i += 128) asm volatile("prefetch.global.L2 [%0];" ::"l"((const char*)from + i));
  }

  __device__ void run() {
    while (next_row < count) {
      at_row = next_row;
      kv_head = turn % M::kv_heads;
      chunk = turn / M::kv_heads;
      int position_here = position(at_row);
      chunks = position_here / M::chunk + 1;
      n = min(M::chunk, position_here + 1 - chunk * M::chunk);
      int here = where;
      turn += gridDim.x;
      settle();
      item(here);
    }
  }

  // has reports whether a position of this warp is one of the chunk's.
  __device__ bool has(int i) const { return threadIdx.x / warp_size + i * compute_warps < n; }

  // item computes one chunk; a lane gives the place of its position. All that
  // is read is on its way before the first of it is used.
  __device__ void item(int here) {
    constexpr int pieces = M::dim / 32;  // of eight elements, of a row's four lanes
    int quad = lane() % 4, group = lane() / 4;
    const E* head = cache + kv_head * 2 * M::dim;
    Eight query[pieces], keys[4][pieces], vals[2][4][2];
#pragma unroll
    for (int c = 0; c < pieces; c++) {
      query[c] = group < M::share ? *(const Eight*)((const E*)d.query + (long long)token(at_row) * M::queries + (kv_head * M::share + group) * M::dim + (quad + 4 * c) * 8) : Eight{};
    }
#pragma unroll
    for (int r = 0; r < 4; r++) {
      int i = group + 8 * r;
      const E* key = head + (long long)__shfl_sync(all_lanes, here, i) * row + quad * 8;
#pragma unroll
      for (int c = 0; c < pieces; c++) keys[r][c] = has(i) ? *(const Eight*)(key + 32 * c) : Eight{};
    }
#pragma unroll
    for (int r = 0; r < 8; r++) {
      int i = r / 4 * 16 + 4 * quad + r % 4;
      const E* value = head + (long long)__shfl_sync(all_lanes, here, i) * row + M::dim + group * 8;
#pragma unroll
      for (int c = 0; c < 2; c++) vals[r / 4][r % 4][c] = has(i) ? *(const Eight*)(value + 64 * c) : Eight{};
    }
    weigh(keys, query);
    compute_sync();  // the sums of the item before are read
    add_values(vals);
    compute_sync();
    leave();
  }

  // score multiplies 16 keys by the queries. The order of features is the
  // same for both, and otherwise free: a lane has eight that follow each other.
  template <int PIECES>
  static __device__ void score(float* sum, const Eight (&low)[PIECES], const Eight (&high)[PIECES], const Eight (&query)[PIECES]) {
#pragma unroll
    for (int c = 0; c < PIECES; c++) {
      unsigned first[4] = {low[c].x, high[c].x, low[c].y, high[c].y}, second[4] = {low[c].z, high[c].z, low[c].w, high[c].w};
      mma16(E(), sum, first, query[c].x, query[c].y);
      mma16(E(), sum, second, query[c].z, query[c].w);
    }
  }

  // weigh leaves the weights of the warp's positions, the largest score and the
  // sum of weights. A lane has two heads and every eighth of the warp's
  // positions.
  template <int PIECES>
  __device__ void weigh(const Eight (&keys)[4][PIECES], const Eight (&query)[PIECES]) {
    int warp = threadIdx.x / warp_size, quad = lane() % 4, group = lane() / 4;
    float sum[2][4] = {};
    score(sum[0], keys[0], keys[1], query);
    score(sum[1], keys[2], keys[3], query);
#pragma unroll
    for (int h = 0; h < 2; h++) {
      float x[4], top = minus_infinity(), total = 0;
#pragma unroll
      for (int r = 0; r < 4; r++) {
        x[r] = has(group + 8 * r) ? sum[r / 2][r % 2 * 2 + h] * d.scale : minus_infinity();
        top = larger(top, x[r]);
      }
#pragma unroll
      for (int far = 4; far < warp_size; far *= 2) top = larger(top, __shfl_xor_sync(all_lanes, top, far));
#pragma unroll
      for (int r = 0; r < 4; r++) {
        x[r] = has(group + 8 * r) ? expf(x[r] - top) : 0;
        total += x[r];
      }
#pragma unroll
      for (int far = 4; far < warp_size; far *= 2) total += __shfl_xor_sync(all_lanes, total, far);
      int head = 2 * quad + h;
      if (head >= M::share) continue;
#pragma unroll
      for (int r = 0; r < 4; r++) s.weight[warp][group + 8 * r][head] = x[r];
      if (group == 0) {
        tops[h] = top;
        totals[h] = total;
      }
    }
    __syncwarp();
  }

  // Halves of two words that belong together.
  static __device__ unsigned lower(unsigned a, unsigned b) { return __byte_perm(a, b, 0x5410); }
  static __device__ unsigned upper(unsigned a, unsigned b) { return __byte_perm(a, b, 0x7632); }

  // weights_of gives two weights in two words, rounded and what that lost, so
  // that products are of nearly all their bits.
  __device__ void weights_of(int head, int i, unsigned* high, unsigned* low) const {
    float w[2], r[2];
#pragma unroll
    for (int k = 0; k < 2; k++) w[k] = head < M::share ? s.weight[threadIdx.x / warp_size][i + k][head] : 0;
    *high = pack(E(), w[0], w[1]);
    spread(E(), *high, &r[0], &r[1]);
    *low = pack(E(), w[0] - r[0], w[1] - r[1]);
  }

  // add_values multiplies weights, 8 heads and 16 positions at once, by values:
  // a lane has 16 entries of 4 positions.
  __device__ void add_values(const Eight (&vals)[2][4][2]) {
    int warp = threadIdx.x / warp_size, quad = lane() % 4, group = lane() / 4;
    float sum[16][4] = {};
#pragma unroll
    for (int k = 0; k < 2; k++) {
      unsigned high[4] = {}, low[4] = {};
      weights_of(group, 16 * k + 4 * quad, &high[0], &low[0]);
      weights_of(group, 16 * k + 4 * quad + 2, &high[2], &low[2]);
#pragma unroll
      for (int word = 0; word < 8; word++) {
        unsigned v[4];
#pragma unroll
        for (int m = 0; m < 4; m++) {
          const Eight& e = vals[k][m][word / 4];
          v[m] = word % 4 == 0 ? e.x : word % 4 == 1 ? e.y : word % 4 == 2 ? e.z : e.w;
        }
        unsigned even[2] = {lower(v[0], v[1]), lower(v[2], v[3])}, odd[2] = {upper(v[0], v[1]), upper(v[2], v[3])};
        mma16(E(), sum[2 * word], high, even[0], even[1]);
        mma16(E(), sum[2 * word + 1], high, odd[0], odd[1]);
        mma16(E(), sum[2 * word], low, even[0], even[1]);
        mma16(E(), sum[2 * word + 1], low, odd[0], odd[1]);
      }
    }
    if (group == 0 && 2 * quad < M::share) {
#pragma unroll
      for (int h = 0; h < 2; h++) {
        s.top[warp][2 * quad + h] = tops[h];
        s.total[warp][2 * quad + h] = totals[h];
      }
    }
    if (group >= M::share) return;
#pragma unroll
    for (int j = 0; j < 16; j++) *(float2*)&s.sum[warp][group][8 * j + 2 * quad] = make_float2(sum[j][0], sum[j][1]);
  }

  // order is where an entry of a head is among the sums.
  static __device__ int order(int entry) { return (entry / 64 * 8 + entry % 8) * 8 + entry % 64 / 8; }

  // attended is where an entry of the row's result goes.
  __device__ E* attended(int feature) const {
    return (E*)((unsigned char*)d.attended + in_panels(at_row, feature)) + feature % chunk_elements;
  }
  __device__ float* part(int head) const {
    return d.parts + ((long long)at_row * M::heads + head) * (d.table_width * M::page / M::chunk + 1) * part_size<M>;
  }

  // leave adds the warps' sums. A chunk that is not alone leaves its part, and
  // the last one of a row and KV head merges them.
  __device__ void leave() {
    for (int i = threadIdx.x; i < M::share * M::dim; i += compute_threads) {
      int h = i / M::dim, entry = i % M::dim, head = kv_head * M::share + h;
      float top = s.top[0][h], sum = 0, total = 0;
#pragma unroll
      for (int w = 1; w < compute_warps; w++) top = larger(top, s.top[w][h]);
#pragma unroll
      for (int w = 0; w < compute_warps; w++) {
        float part = expf(s.top[w][h] - top);
        sum += part * s.sum[w][h][order(entry)];
        total += part * s.total[w][h];
      }
      if (chunks == 1) {
        narrow(attended(head * M::dim + entry), sum / total);
        continue;
      }
      float* to = part(head) + chunk * part_size<M>;
      to[entry] = sum;
      if (entry == 0) {
        to[M::dim] = top;
        to[M::dim + 1] = total;
      }
    }
    if (chunks == 1) return;
    unsigned* done = d.state + 2 + at_row * M::kv_heads + kv_head;
    __threadfence();
    compute_sync();
    if (threadIdx.x == 0) {
      s.last = atomicAdd(done, 1) == chunks - 1;
      if (s.last) *done = 0;
      __threadfence();
    }
    compute_sync();
    if (s.last) merge();
  }

  // merge adds the chunks of one KV head of one row, in order.
  __device__ void merge() {
    for (int i = threadIdx.x; i < M::share * M::dim; i += compute_threads) {
      int head = kv_head * M::share + i / M::dim, entry = i % M::dim;
      const float* from = part(head);
      float top = minus_infinity(), total = 0, sum = 0;
      for (int c = 0; c < chunks; c++) top = larger(top, __ldcg(from + c * part_size<M> + M::dim));
      for (int c = 0; c < chunks; c++) {
        float w = expf(__ldcg(from + c * part_size<M> + M::dim) - top);
        total += __ldcg(from + c * part_size<M> + M::dim + 1) * w;
        sum += __ldcg(from + c * part_size<M> + entry) * w;
      }
      narrow(attended(head * M::dim + entry), sum / total);
    }
  }
};

#endif

}  // namespace moec
