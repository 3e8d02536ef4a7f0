// A whole decoding step of a mixture-of-experts transformer in one kernel, for
// up to 64 tokens: the layers from the embedding to the logits.
//
// One block runs on each multiprocessor, all the time. Eight warps compute,
// one fills the ring of weights, one the ring of activations. A layer has seven
// phases: entry (sum of experts, norm), QKV with rotation and KV append,
// attention, output projection with residual, router, gate and up, down. After
// each the blocks wait for each other. Only the warps that compute and the one
// that brings activations wait: weights of the next phase are on their way,
// except that experts must be known.
//
// Units of a phase (64 rows of a weight, all features) are dealt out to blocks
// in turn, on from where the phase before ended.
#pragma once

#include "decode_attention.cuh"

namespace moec {

// Two warps of the last group have roles; four are there because registers are
// handed from group to group.
constexpr int decode_threads = compute_threads + group_threads;

// A block takes all the shared memory that it can have.
constexpr int decode_shared_bytes = 227 * 1024;

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// Lists say which slots (token * top + choice) each expert serves in a layer.
template <typename M>
struct Lists {
  int active;  // experts that serve any
  unsigned char expert[M::experts];
  unsigned char start[M::experts + 1];
  unsigned char slot[decode_tokens * M::top];

  // make is called by one warp.
  __device__ void make(const int* chosen, int slots) {
    constexpr int each = decode_tokens * M::top / warp_size;
    int mine[each];
#pragma unroll
    for (int k = 0; k < each; k++) mine[k] = k * warp_size + lane() < slots ? __ldcg(chosen + k * warp_size + lane()) : -1;
    int at = 0, have = 0;
    for (int e = 0; e < M::experts; e++) {
      int first = at;
#pragma unroll
      for (int k = 0; k < each; k++) {
        unsigned all = __ballot_sync(all_lanes, mine[k] == e);
        if (mine[k] == e) slot[at + __popc(all & ((1u << lane()) - 1))] = k * warp_size + lane();
        at += __popc(all);
      }
      if (at > first && lane() == 0) {
        expert[have] = e;
        start[have] = first;
      }
      have += at > first;
    }
    if (lane() == 0) {
      start[have] = at;
      active = have;
    }
    __syncwarp();
  }
};

// DecodeSpace is a block's shared memory.
template <typename M>
struct DecodeSpace {
  unsigned char weights[weight_stages * weight_stage_bytes];
  union {
    unsigned char rows[row_places * place_bytes];
    AttentionSpace<M> attention;
    float scratch[compute_warps * (1 + M::experts)];
  };
  unsigned long long filled[weight_stages], drained[weight_stages], rows_filled[row_places], rows_drained[row_places], listed;
  Lists<M> lists;
};

// Deal gives units to this block in turn. All roles deal alike.
struct Deal {
  int base = 0;

  __device__ int first() const { return (blockIdx.x + gridDim.x - base) % gridDim.x; }
  __device__ void past(int units) { base = (base + units) % gridDim.x; }
};

// Units of the phases.
template <typename M>
struct Units {
  static constexpr int qkv = (M::queries + 2 * M::keys) / tile_side, out = M::out_parts * M::hidden / tile_side, gate_up = M::ffn / tile_side,
                       down = M::hidden / tile_side, head = M::vocab / tile_side;
  static_assert(M::ffn % tile_side == 0 && M::vocab % tile_side == 0, "whole tiles");
};

// Numbers of phases that are over, in a layer.
enum { entered, projected, attended, joined, routed, gated, summed, phases_of_layer };

__device__ inline unsigned over(int layer, int phase) { return layer * phases_of_layer + phase + 1; }

// Weights is the role of the warp that fills the ring of weights.
template <typename M>
struct Weights {
  const Decoder& d;
  DecodeSpace<M>& space;
  WeightRing ring;
  Deal deal;
  Grid grid;

  __device__ void begin() {
    barrier_wait(ring.empty(), ring.parity ^ 1);
    barrier_expect(ring.full(), weight_stage_bytes);
  }

  // rows brings units of 64 rows of one matrix of k features, in parts.
  __device__ void rows(const unsigned char* matrix, int units, int k, int parts) {
    if (lane() == 0) {
      for (int u = deal.first(); u < units; u += gridDim.x) {
        whole(matrix + tile_start(u / parts, u % parts * (k / parts / tile_side), k), k / parts);
      }
    }
    deal.past(units);
  }
  __device__ void whole(const unsigned char* tiles, int k) {
    for (int i = 0; i < k; i += 4 * tile_side) {
      begin();
      first_out_load(ring.at(), tiles + (long long)i * tile_row_bytes, weight_stage_bytes, ring.full());
      ring.next();
    }
  }

  // pairs brings units of half a tile and the same half of the next one.
  __device__ void pairs(const unsigned char* matrix, int units, int k) {
    if (lane() == 0) {
      for (int u = deal.first(); u < units; u += gridDim.x) {
        const unsigned char *a = matrix + tile_start(u / 2 * 2, 0, k) + u % 2 * (tile_bytes / 2), *b = a + tile_start(1, 0, k);
        for (int i = 0; i < k / tile_side; i += 4) {
          begin();
          for (int t = 0; t < 4; t++) {
            first_out_load(ring.at() + t * tile_bytes, a + (i + t) * tile_bytes, tile_bytes / 2, ring.full());
            first_out_load(ring.at() + t * tile_bytes + tile_bytes / 2, b + (i + t) * tile_bytes, tile_bytes / 2, ring.full());
          }
          ring.next();
        }
      }
    }
    deal.past(units);
  }

  __device__ void gate_up(int layer) {
    constexpr long long expert_bytes = 2ll * 2 * M::ffn * M::hidden;
    int units = space.lists.active * Units<M>::gate_up;
    if (lane() == 0) {
      for (int u = deal.first(); u < units; u += gridDim.x) {
        const unsigned char* gate = d.gate_up.of<const unsigned char>(layer) + space.lists.expert[u / Units<M>::gate_up] * expert_bytes +
                                    tile_start(u % Units<M>::gate_up, 0, M::hidden);
        const unsigned char* up = gate + expert_bytes / 2;
        for (int i = 0; i < M::hidden / tile_side; i += 2) {
          begin();
          first_out_load(ring.at(), gate + i * tile_bytes, 2 * tile_bytes, ring.full());
          first_out_load(ring.at() + 2 * tile_bytes, up + i * tile_bytes, 2 * tile_bytes, ring.full());
          ring.next();
        }
      }
    }
    deal.past(units);
  }

  __device__ void down(int layer) {
    constexpr long long expert_bytes = 2ll * M::ffn * M::hidden;
    int units = space.lists.active * Units<M>::down;
    if (lane() == 0) {
      for (int u = deal.first(); u < units; u += gridDim.x) {
        whole(d.down.of<const unsigned char>(layer) + space.lists.expert[u / Units<M>::down] * expert_bytes +
                  tile_start(u % Units<M>::down, 0, M::ffn),
              M::ffn);
      }
    }
    deal.past(units);
  }

  __device__ void run() {
    for (int layer = 0; layer < M::layers; layer++) {
      pairs(d.qkv.of<const unsigned char>(layer), Units<M>::qkv, M::hidden);
      rows(d.out.of<const unsigned char>(layer), Units<M>::out, M::queries, M::out_parts);
      if (lane() == 0) grid.await(over(layer, routed));
      __syncwarp();
      space.lists.make(d.chosen, (layer == M::layers - 1 ? d.row_count : d.token_count) * M::top);
      if (lane() == 0) {
        barrier_arrive(shared_address(&space.listed));
        if (blockIdx.x == 0) d.state[experts_counted<M>] += space.lists.active;
      }
      gate_up(layer);
      down(layer);
    }
    rows((const unsigned char*)d.head, Units<M>::head, M::hidden, 1);
  }
};

// Bringer is the role of the warp that brings activations: the rows of the
// tokens of each unit, stage by stage. A lane brings two rows.
template <typename M>
struct Bringer {
  using E = typename M::E;
  const Decoder& d;
  DecodeSpace<M>& space;
  RowRing ring;
  Deal deal;
  Grid grid;

  __device__ void await(unsigned phases) {
    if (lane() == 0) grid.await(phases);
    __syncwarp();
    asm volatile("fence.proxy.async;" ::: "memory");
  }

  // unit brings stages of so many bytes a row; row gives the start of a row.
  template <typename F>
  __device__ void unit(int tokens, int stages, int bytes, F row) {
    const unsigned char* from[2];
    for (int k = 0; k < 2; k++) from[k] = lane() + 32 * k < tokens ? (const unsigned char*)row(lane() + 32 * k) : nullptr;
    int places = places_of(tokens);
    ring.begin(places);
    for (int i = 0; i < stages; i++) {
      for (int p = 0; p < places; p++) barrier_wait(ring.empty(p), ring.empty_parity(p) ^ 1);
      if (lane() == 0) barrier_expect(ring.full(), tokens * bytes);
      __syncwarp();
      for (int k = 0; k < 2; k++) {
        if (from[k]) bulk_load(ring.at() + (lane() + 32 * k) * (bytes + chunk_bytes), from[k] + (long long)i * bytes, bytes, ring.full());
      }
      ring.next(places);
    }
  }

  // panels brings units of all tokens, in parts of k features.
  __device__ void panels(const void* from, int count, int tokens, int k, int parts) {
    int places = places_of(tokens), stages = k / parts / (4 * tile_side);
    for (int u = deal.first(); u < count; u += gridDim.x) {
      const unsigned char* at = (const unsigned char*)from + (u % parts * stages * 4 + lane()) * panel_bytes;
      ring.begin(places);
      for (int i = 0; i < stages; i++) {
        for (int p = 0; p < places; p++) barrier_wait(ring.empty(p), ring.empty_parity(p) ^ 1);
        if (lane() == 0) barrier_expect(ring.full(), 4 * tokens * tile_row_bytes);
        __syncwarp();
        if (lane() < 4) bulk_load(ring.at() + lane() * places * place_rows * tile_row_bytes, at + 4 * i * panel_bytes, tokens * tile_row_bytes, ring.full());
        ring.next(places);
      }
    }
    deal.past(count);
  }

  __device__ void experts(int layer) {
    const Lists<M>& lists = space.lists;
    barrier_wait(shared_address(&space.listed), layer & 1);
    int count = lists.active * Units<M>::gate_up;
    for (int u = deal.first(); u < count; u += gridDim.x) {
      int i = u / Units<M>::gate_up, start = lists.start[i];
      unit(lists.start[i + 1] - start, M::hidden / (2 * tile_side), 2 * tile_row_bytes,
           [&](int n) { return (const E*)d.normed + lists.slot[start + n] / M::top * M::hidden; });
    }
    deal.past(count);
    await(over(layer, gated));
    count = lists.active * Units<M>::down;
    for (int u = deal.first(); u < count; u += gridDim.x) {
      int i = u / Units<M>::down, start = lists.start[i];
      unit(lists.start[i + 1] - start, M::ffn / (4 * tile_side), 4 * tile_row_bytes,
           [&](int n) { return (const E*)d.gated + (long long)lists.slot[start + n] * M::ffn; });
    }
    deal.past(count);
  }

  __device__ void run() {
    for (int layer = 0; layer < M::layers; layer++) {
      await(over(layer, entered));
      panels(d.normed, Units<M>::qkv, d.token_count, M::hidden, 1);
      await(over(layer, attended));
      panels(d.attended, Units<M>::out, layer == M::layers - 1 ? d.row_count : d.token_count, M::queries, M::out_parts);
      await(over(layer, routed));
      experts(layer);
    }
    await(over(M::layers, entered));
    panels(d.normed, Units<M>::head, d.row_count, M::hidden, 1);
  }
};

// Computer is the role of the computing warps.
template <typename M>
struct Computer {
  using E = typename M::E;
  const Decoder& d;
  DecodeSpace<M>& space;
  Stream stream;
  Deal deal;
  Grid grid;
  int tokens = 0;  // of the layer's part after attention

  // finish ends a phase: everybody's results are written, and seen by all.
  __device__ void finish(unsigned phases) {
    asm volatile("fence.proxy.async;" ::: "memory");
    compute_sync();
    if (threadIdx.x == 0) {
      grid.arrive();
      grid.await(phases);
    }
    compute_sync();
  }

  // each calls f with each token and entry of a thread's sums in a row.
  template <int WIDTH, typename F>
  __device__ static __forceinline__ void each(int count, F f) {
#pragma unroll
    for (int j = 0; j < WIDTH; j++) {
#pragma unroll
      for (int c = 0; c < 2; c++) {
        int n = (token_half() * WIDTH + j) * 8 + lane() % 4 * 2 + c;
        asm volatile("" : "+r"(n));  // else addresses of all units' tokens are kept in registers
        if (n < count) f(n, 4 * j + c);
      }
    }
  }

  // qkv rotates queries and keys; row r of a head and row r + 64 are in one
  // thread.
  __device__ void qkv(int layer) {
    constexpr int pairs = M::dim / 2, half = tile_side / 2;
    Lane at(true);
    for (int u = deal.first(); u < Units<M>::qkv; u += gridDim.x) {
      int head = u / 2, i = u % 2 * half + row_warp() * 8 + lane() / 4;
      with_width(d.token_count, [&](auto width) {
        constexpr int W = decltype(width)::value;
        Sums<W> s;
        product<E, M::hidden, 1, Panels>(s, stream, at, d.token_count);
        each<W>(d.token_count, [&](int n, int k) {
          float a = s.at[k], b = s.at[k + 2];
          E* to;
          if (head < M::heads) {
            to = (E*)d.query + n * M::queries + head * M::dim;
          } else {
            bool value = head >= M::heads + M::kv_heads;
            int kv_head = head - M::heads - (value ? M::kv_heads : 0);
            to = d.cache.of<E>(layer) + (((long long)d.places[n] * M::kv_heads + kv_head) * 2 + value) * M::dim;
          }
          if (head < M::heads + M::kv_heads) {
            float2 t = d.turns[n * pairs + i];
            float turned = a * t.x - b * t.y;
            b = b * t.x + a * t.y;
            a = turned;
          }
          narrow(to + i, a);
          narrow(to + i + pairs, b);
        });
      });
    }
  }

  // out leaves the parts of sums to the router, which adds them.
  __device__ void out() {
    Lane at(false);
    for (int u = deal.first(); u < Units<M>::out; u += gridDim.x) {
      with_width(tokens, [&](auto width) {
        constexpr int W = decltype(width)::value;
        Sums<W> s;
        product<E, M::queries / M::out_parts, M::out_segments / M::out_parts, Panels>(s, stream, at, tokens);
        each<W>(tokens, [&](int n, int k) {
          float* to = d.joining + (long long)(u % M::out_parts * decode_tokens + n) * M::hidden + u / M::out_parts * tile_side + row_warp() * 16 + lane() / 4;
          to[0] = s.at[k];
          to[8] = s.at[k + 2];
        });
      });
    }
  }

  __device__ void gate_up() {
    Lane at(false);
    const Lists<M>& lists = space.lists;
    for (int u = deal.first(); u < lists.active * Units<M>::gate_up; u += gridDim.x) {
      int i = u / Units<M>::gate_up, start = lists.start[i], count = lists.start[i + 1] - start;
      with_width(count, [&](auto width) {
        constexpr int W = decltype(width)::value;
        Sums<W> gate, up;
        product_pair<E, M::hidden>(gate, up, stream, at, count);
        each<W>(count, [&](int n, int k) {
          E* to = (E*)d.gated + (long long)lists.slot[start + n] * M::ffn;
#pragma unroll
          for (int r = 0; r < 2; r++) {
            float g = gate.at[k + 2 * r];
            narrow(to + u % Units<M>::gate_up * tile_side + row_warp() * 16 + lane() / 4 + 8 * r, g / (1 + expf(-g)) * up.at[k + 2 * r]);
          }
        });
      });
    }
  }

  __device__ void down() {
    Lane at(false);
    const Lists<M>& lists = space.lists;
    for (int u = deal.first(); u < lists.active * Units<M>::down; u += gridDim.x) {
      int i = u / Units<M>::down, start = lists.start[i], count = lists.start[i + 1] - start;
      with_width(count, [&](auto width) {
        constexpr int W = decltype(width)::value;
        Sums<W> s;
        product<E, M::ffn, M::down_segments, Gathered>(s, stream, at, count);
        each<W>(count, [&](int n, int k) {
          E* to = (E*)d.expert_out + lists.slot[start + n] * M::hidden;
#pragma unroll
          for (int r = 0; r < 2; r++) narrow(to + u % Units<M>::down * tile_side + row_warp() * 16 + lane() / 4 + 8 * r, s.at[k + 2 * r]);
        });
      });
    }
  }

  __device__ void head() {
    Lane at(false);
    for (int u = deal.first(); u < Units<M>::head; u += gridDim.x) {
      with_width(d.row_count, [&](auto width) {
        constexpr int W = decltype(width)::value;
        Sums<W> s;
        product<E, M::hidden, 1, Panels>(s, stream, at, d.row_count);
        each<W>(d.row_count, [&](int n, int k) {
          float* to = d.logits + (long long)n * M::vocab + u * tile_side + row_warp() * 16 + lane() / 4;
          to[0] = s.at[k];
          to[8] = s.at[k + 2];
        });
      });
    }
  }

  __device__ void run() {
    Entry<M> entry(d, 0);
    for (int layer = 0; layer < M::layers; layer++) {
      tokens = layer == M::layers - 1 ? d.row_count : d.token_count;
      entry.run(d, layer, space.scratch);
      finish(over(layer, entered));
      qkv(layer);
      deal.past(Units<M>::qkv);
      Attention<M> attention(d, space.attention, layer);
      finish(over(layer, projected));
      attention.run();
      finish(over(layer, attended));
      out();
      deal.past(Units<M>::out);
      Router<M> router(d, layer);
      finish(over(layer, joined));
      router.run(space.scratch, tokens);
      finish(over(layer, routed));
      barrier_wait(shared_address(&space.listed), layer & 1);
      gate_up();
      deal.past(space.lists.active * Units<M>::gate_up);
      finish(over(layer, gated));
      down();
      deal.past(space.lists.active * Units<M>::down);
      entry = Entry<M>(d, layer + 1);
      finish(over(layer, summed));
    }
    entry.run(d, M::layers, space.scratch);
    finish(over(M::layers, entered));
    head();
  }
};

// end sets the counters back when all blocks are past their last wait.
__device__ inline void end(unsigned* state) {
  if (threadIdx.x != 0) return;
  if (atomicAdd(state + 1, 1) == gridDim.x - 1) {
    state[0] = state[1] = 0;
    __threadfence();
  }
}

#endif

template <typename M>
__device__ void decode(const Decoder& d) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(128) unsigned char shared[];
  static_assert(sizeof(DecodeSpace<M>) <= decode_shared_bytes, "shared memory of a block");
  auto& space = *(DecodeSpace<M>*)shared;
  if (threadIdx.x == 0) {
    for (int i = 0; i < weight_stages; i++) {
      barrier_init(shared_address(&space.filled[i]), 1);
      barrier_init(shared_address(&space.drained[i]), compute_warps);
    }
    for (int i = 0; i < row_places; i++) {
      barrier_init(shared_address(&space.rows_filled[i]), 1);
      barrier_init(shared_address(&space.rows_drained[i]), compute_warps);
    }
    barrier_init(shared_address(&space.listed), 1);
    publish_barriers();
  }
  __syncthreads();
  WeightRing weights{shared_address(space.weights), shared_address(space.filled), shared_address(space.drained)};
  RowRing rows{shared_address(space.rows), shared_address(space.rows_filled), shared_address(space.rows_drained)};
  Grid grid{d.state};
  int warp = same(threadIdx.x / warp_size);
  if (warp >= compute_warps) {
    fewer_registers<40>();
    if (warp == compute_warps) Weights<M>{d, space, weights, Deal(), grid}.run();
    if (warp == compute_warps + 1) Bringer<M>{d, space, rows, Deal(), grid}.run();
  } else {
    more_registers<232>();
    Computer<M>{d, space, {weights, rows}, Deal(), grid}.run();
  }
  __syncthreads();
  end(d.state);
#endif
}

}  // namespace moec
