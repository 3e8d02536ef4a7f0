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

// tree_levels returns how many unfinished subtrees there can be before the
// last of n leaves comes.
constexpr int tree_levels(int n) { return n > 1 ? 1 + tree_levels((n + 1) / 2) : 0; }

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

// barrier_over reports whether the phase of that parity is over.
__device__ inline bool barrier_over(unsigned barrier, unsigned parity) {
  unsigned over;
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "mbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p;\n"
      "}\n"
      : "=r"(over)
      : "r"(barrier), "r"(parity)
      : "memory");
  return over;
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

// A sum's first registers, and their names in an instruction.
#define MOEC_SUM16(d) "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15])
#define MOEC_NAMES16 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
#define MOEC_SUM32(d) MOEC_SUM16(d), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
#define MOEC_NAMES32 MOEC_NAMES16 ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define MOEC_SUM48(d) MOEC_SUM32(d), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47])
#define MOEC_NAMES48 MOEC_NAMES32 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47"
#define MOEC_SUM64(d) MOEC_SUM48(d), "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
#define MOEC_NAMES64 MOEC_NAMES48 ",%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define MOEC_SUM80(d) MOEC_SUM64(d), "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67]), "+f"(d[68]), "+f"(d[69]), "+f"(d[70]), "+f"(d[71]), "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75]), "+f"(d[76]), "+f"(d[77]), "+f"(d[78]), "+f"(d[79])
#define MOEC_NAMES80 MOEC_NAMES64 ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79"
#define MOEC_SUM96(d) MOEC_SUM80(d), "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83]), "+f"(d[84]), "+f"(d[85]), "+f"(d[86]), "+f"(d[87]), "+f"(d[88]), "+f"(d[89]), "+f"(d[90]), "+f"(d[91]), "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95])
#define MOEC_NAMES96 MOEC_NAMES80 ",%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
#define MOEC_SUM112(d) MOEC_SUM96(d), "+f"(d[96]), "+f"(d[97]), "+f"(d[98]), "+f"(d[99]), "+f"(d[100]), "+f"(d[101]), "+f"(d[102]), "+f"(d[103]), "+f"(d[104]), "+f"(d[105]), "+f"(d[106]), "+f"(d[107]), "+f"(d[108]), "+f"(d[109]), "+f"(d[110]), "+f"(d[111])
#define MOEC_NAMES112 MOEC_NAMES96 ",%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111"
#define MOEC_SUM128(d) MOEC_SUM112(d), "+f"(d[112]), "+f"(d[113]), "+f"(d[114]), "+f"(d[115]), "+f"(d[116]), "+f"(d[117]), "+f"(d[118]), "+f"(d[119]), "+f"(d[120]), "+f"(d[121]), "+f"(d[122]), "+f"(d[123]), "+f"(d[124]), "+f"(d[125]), "+f"(d[126]), "+f"(d[127])
#define MOEC_NAMES128 MOEC_NAMES112 ",%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"

// Mma multiplies 64 rows by the transpose of N rows, 16 features, and adds to
// the sum, or begins one. A thread of the warp group has, of rows r and r + 8
// with r = thread / 32 * 16 + thread % 32 / 4, the entries 8j + 2q and the next
// with q = thread % 4: d[4j], d[4j + 1] of row r, d[4j + 2], d[4j + 3] of the
// other. The sum may have room for more.
template <typename E, int N>
struct Mma;

#define MOEC_MMA(TYPE, NAME, N, SUMS, A, B, ADD)                                                                 \
  template <>                                                                                                    \
  struct Mma<TYPE, N> {                                                                                          \
    template <int ROOM>                                                                                          \
    static __device__ __forceinline__ void tiles(float (&d)[ROOM], unsigned long long a, unsigned long long b,   \
                                                 int add) {                                                      \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" ADD ", 0;\n"                                            \
                   "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." NAME "." NAME " {" MOEC_NAMES##SUMS "}, %" A \
                   ", %" B ", p, 1, 1, 0, 0;\n}\n"                                                               \
                   : MOEC_SUM##SUMS(d)                                                                           \
                   : "l"(a), "l"(b), "r"(add));                                                                  \
    }                                                                                                            \
  };

#define MOEC_MMAS(TYPE, NAME)                               \
  MOEC_MMA(TYPE, NAME, 32, 16, "16", "17", "18") \
  MOEC_MMA(TYPE, NAME, 64, 32, "32", "33", "34") \
  MOEC_MMA(TYPE, NAME, 96, 48, "48", "49", "50") \
  MOEC_MMA(TYPE, NAME, 128, 64, "64", "65", "66") \
  MOEC_MMA(TYPE, NAME, 160, 80, "80", "81", "82") \
  MOEC_MMA(TYPE, NAME, 192, 96, "96", "97", "98") \
  MOEC_MMA(TYPE, NAME, 224, 112, "112", "113", "114") \
  MOEC_MMA(TYPE, NAME, 256, 128, "128", "129", "130")
MOEC_MMAS(bf16, "bf16")
MOEC_MMAS(f16, "f16")
#undef MOEC_MMAS
#undef MOEC_MMA

// mma_turned multiplies 64 rows, a thread's four words of them, by a turned
// tile of 16 rows and 128 columns, and adds to the sum.
#define MOEC_MMA(TYPE, NAME)                                                                                       \
  __device__ __forceinline__ void mma_turned(TYPE, float (&d)[64], const unsigned (&a)[4], unsigned long long b) { \
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32." NAME "." NAME " {" MOEC_NAMES64                    \
                 "}, {%64,%65,%66,%67}, %68, 1, 1, 1, 1;\n"                                                        \
                 : MOEC_SUM64(d)                                                                                   \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                                            \
  }
MOEC_MMA(bf16, "bf16")
MOEC_MMA(f16, "f16")
#undef MOEC_MMA
#undef MOEC_SUM16
#undef MOEC_NAMES16
#undef MOEC_SUM32
#undef MOEC_NAMES32
#undef MOEC_SUM48
#undef MOEC_NAMES48
#undef MOEC_SUM64
#undef MOEC_NAMES64
#undef MOEC_SUM80
#undef MOEC_NAMES80
#undef MOEC_SUM96
#undef MOEC_NAMES96
#undef MOEC_SUM112
#undef MOEC_NAMES112
#undef MOEC_SUM128
#undef MOEC_NAMES128

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
