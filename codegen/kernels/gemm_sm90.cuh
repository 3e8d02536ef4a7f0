// What matrix products on Hopper are made of: barriers in shared memory, the
// two ways to fill it, and the instructions of a warp group (four warps).
//
// Shared memory holds tiles of 64 elements of two bytes, 128 bytes, a row. In
// each row the eight pieces of 16 bytes are permuted: piece c of row r is at
// place c ^ (r % 8), which is the permutation ("128-byte swizzle") that the
// matrix instructions undo.
#pragma once

#include "element.cuh"

namespace moec {

constexpr int group_threads = 128;  // of a warp group
constexpr int deep = 64;            // features of a block
constexpr int piece = 16;           // bytes that a thread copies at once

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

__device__ inline unsigned shared_address(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }

// Barriers count arrivals, and bytes that are still to come.
__device__ inline void barrier_init(unsigned barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

__device__ inline void barrier_arrive(unsigned barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

__device__ inline void barrier_expect(unsigned barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

// barrier_wait returns when the phase of that parity is over.
__device__ inline void barrier_wait(unsigned barrier, unsigned parity) {
  unsigned over;
  do {
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n"
        "}\n"
        : "=r"(over)
        : "r"(barrier), "r"(parity)
        : "memory");
  } while (!over);
}

// publish_barriers makes initialised barriers known to copies.
__device__ inline void publish_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

// publish makes what a thread wrote to shared memory known to copies and
// matrix instructions.
__device__ inline void publish() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// bulk_load copies contiguous bytes, which the barrier then expects no longer.
__device__ inline void bulk_load(unsigned to, const void* from, int bytes, unsigned barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
               "l"(from), "r"(bytes), "r"(barrier)
               : "memory");
}

// piece_load copies 16 bytes, or writes zeros.
__device__ inline void piece_load(unsigned to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}

__device__ inline void piece_load(unsigned to, const void* from, bool real) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(real ? piece : 0) : "memory");
}

__device__ inline void pieces_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// pieces_wait returns when all but the thread's last N groups of pieces came.
template <int N>
__device__ inline void pieces_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// fewer_registers and more_registers hand registers from one warp group to
// others.
template <int N>
__device__ inline void fewer_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

template <int N>
__device__ inline void more_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}

// tile_of describes a tile to the matrix instructions. A tile whose rows are
// the rows or columns of the product has groups of eight rows 1024 bytes
// apart. Of a tile whose rows are features ("turned"), halves is how many
// bytes lie between one 64 columns and the next.
__device__ inline unsigned long long tile_of(unsigned address, int halves = 16) {
  constexpr unsigned long long swizzle = 1ull << 62, eight_rows = (1024ull >> 4) << 32;
  return swizzle | eight_rows | (unsigned long long)(halves >> 4) << 16 | (address & 0x3ffff) >> 4;
}

// One instruction takes 16 features: 32 bytes further in each row, or 16 rows
// further in a turned tile.
constexpr int step_features = 16;
constexpr int next_step = step_features * 2 >> 4;
constexpr int next_turned_step = step_features * 128 >> 4;

__device__ inline void mma_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void mma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// mma_wait returns when all but the last N groups of instructions are done.
template <int N>
__device__ inline void mma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

// hold keeps the compiler from moving accesses to a sum across this point.
template <int N>
__device__ inline void hold(float (&d)[N]) {
#pragma unroll
  for (int i = 0; i < N; i++) asm volatile("" : "+f"(d[i])::"memory");
}

// A sum's registers, and their names in an instruction.
#define MOEC_SUM8(d, i) \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define MOEC_SUM32(d, i) MOEC_SUM8(d, i), MOEC_SUM8(d, i + 8), MOEC_SUM8(d, i + 16), MOEC_SUM8(d, i + 24)
#define MOEC_SUM64(d) MOEC_SUM32(d, 0), MOEC_SUM32(d, 32)
#define MOEC_SUM128(d) MOEC_SUM64(d), MOEC_SUM32(d, 64), MOEC_SUM32(d, 96)
#define MOEC_N8 "%0,%1,%2,%3,%4,%5,%6,%7"
#define MOEC_N16 MOEC_N8 ",%8,%9,%10,%11,%12,%13,%14,%15"
#define MOEC_N24 MOEC_N16 ",%16,%17,%18,%19,%20,%21,%22,%23"
#define MOEC_N32 MOEC_N24 ",%24,%25,%26,%27,%28,%29,%30,%31"
#define MOEC_N40 MOEC_N32 ",%32,%33,%34,%35,%36,%37,%38,%39"
#define MOEC_N48 MOEC_N40 ",%40,%41,%42,%43,%44,%45,%46,%47"
#define MOEC_N56 MOEC_N48 ",%48,%49,%50,%51,%52,%53,%54,%55"
#define MOEC_N64 MOEC_N56 ",%56,%57,%58,%59,%60,%61,%62,%63"
#define MOEC_N72 MOEC_N64 ",%64,%65,%66,%67,%68,%69,%70,%71"
#define MOEC_N80 MOEC_N72 ",%72,%73,%74,%75,%76,%77,%78,%79"
#define MOEC_N88 MOEC_N80 ",%80,%81,%82,%83,%84,%85,%86,%87"
#define MOEC_N96 MOEC_N88 ",%88,%89,%90,%91,%92,%93,%94,%95"
#define MOEC_N104 MOEC_N96 ",%96,%97,%98,%99,%100,%101,%102,%103"
#define MOEC_N112 MOEC_N104 ",%104,%105,%106,%107,%108,%109,%110,%111"
#define MOEC_N120 MOEC_N112 ",%112,%113,%114,%115,%116,%117,%118,%119"
#define MOEC_N128 MOEC_N120 ",%120,%121,%122,%123,%124,%125,%126,%127"

// Mma multiplies 64 rows by the transpose of N rows, 16 features, and adds to
// the sum, or begins one. A thread of the warp group has, of rows r and r + 8
// with r = thread / 32 * 16 + thread % 32 / 4, the entries 8j + 2q and the next
// with q = thread % 4: d[4j], d[4j + 1] of row r, d[4j + 2], d[4j + 3] of the
// other. The sum may have room for more than N columns.
template <typename E, int N>
struct Mma;

#define MOEC_MMA(TYPE, NAME, N, HALF, SUMS, A, B, ADD)                                                        \
  template <>                                                                                                 \
  struct Mma<TYPE, N> {                                                                                       \
    static __device__ void tiles(float (&d)[SUMS], unsigned long long a, unsigned long long b, int add) {     \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" ADD ", 0;\n"                                         \
                   "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." NAME "." NAME " {" MOEC_N##HALF "}, %" A \
                   ", %" B ", p, 1, 1, 0, 0;\n}\n"                                                            \
                   : MOEC_SUM##SUMS(d)                                                                        \
                   : "l"(a), "l"(b), "r"(add));                                                               \
    }                                                                                                         \
  };

#define MOEC_MMAS(TYPE, NAME)                                                                             \
  MOEC_MMA(TYPE, NAME, 16, 8, 64, "64", "65", "66") MOEC_MMA(TYPE, NAME, 32, 16, 64, "64", "65", "66")     \
  MOEC_MMA(TYPE, NAME, 48, 24, 64, "64", "65", "66") MOEC_MMA(TYPE, NAME, 64, 32, 64, "64", "65", "66")    \
  MOEC_MMA(TYPE, NAME, 80, 40, 64, "64", "65", "66") MOEC_MMA(TYPE, NAME, 96, 48, 64, "64", "65", "66")    \
  MOEC_MMA(TYPE, NAME, 112, 56, 64, "64", "65", "66") MOEC_MMA(TYPE, NAME, 128, 64, 64, "64", "65", "66")  \
  MOEC_MMA(TYPE, NAME, 256, 128, 128, "128", "129", "130")
MOEC_MMAS(bf16, "bf16")
MOEC_MMAS(f16, "f16")
#undef MOEC_MMAS
#undef MOEC_MMA

// mma_turned multiplies 64 rows, a thread's four words of them, by a turned
// tile of 16 rows and 128 columns, and adds to the sum.
#define MOEC_MMA(TYPE, NAME)                                                                                           \
  __device__ inline void mma_turned(TYPE, float (&d)[64], const unsigned (&a)[4], unsigned long long b) {              \
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32." NAME "." NAME " {" MOEC_N64                            \
                 "}, {%64,%65,%66,%67}, %68, 1, 1, 1, 1;\n"                                                            \
                 : MOEC_SUM64(d)                                                                                       \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                                                \
  }
MOEC_MMA(bf16, "bf16")
MOEC_MMA(f16, "f16")
#undef MOEC_MMA
#undef MOEC_N8
#undef MOEC_N16
#undef MOEC_N24
#undef MOEC_N32
#undef MOEC_N40
#undef MOEC_N48
#undef MOEC_N56
#undef MOEC_N64
#undef MOEC_N72
#undef MOEC_N80
#undef MOEC_N88
#undef MOEC_N96
#undef MOEC_N104
#undef MOEC_N112
#undef MOEC_N120
#undef MOEC_N128
#undef MOEC_SUM128
#undef MOEC_SUM64
#undef MOEC_SUM32
#undef MOEC_SUM8

// same tells the compiler that a number is the same in all lanes.
__device__ inline int same(int x) { return __shfl_sync(all_lanes, x, 0); }

// pack rounds two numbers as narrow does, the first into the low half.
__device__ inline unsigned pack(bf16, float low, float high) {
  unsigned both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
}

__device__ inline unsigned pack(f16, float low, float high) {
  unsigned both;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
}

// spread widens the halves of a word.
__device__ inline void spread(bf16, unsigned both, float* low, float* high) {
  *low = __uint_as_float(both << 16);
  *high = __uint_as_float(both & 0xffff0000);
}

__device__ inline void spread(f16, unsigned both, float* low, float* high) {
  *low = widen(f16{(unsigned short)both});
  *high = widen(f16{(unsigned short)(both >> 16)});
}

// exchange transposes four words of four lanes that follow each other: lane i
// gets the lanes' words number i.
__device__ inline void exchange(unsigned (&w)[4]) {
  int q = threadIdx.x % 4;
#pragma unroll
  for (int far = 1; far <= 2; far *= 2) {
    bool upper = q & far;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      if (i & far) continue;
      unsigned got = __shfl_xor_sync(all_lanes, upper ? w[i] : w[i + far], far);
      if (upper) {
        w[i] = got;
      } else {
        w[i + far] = got;
      }
    }
  }
}

#endif

}  // namespace moec
