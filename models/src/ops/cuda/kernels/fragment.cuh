// Products by one warp with fragments in registers, for activations in half precision: PTX's
// mma.m16n8k16.
//
// Lane l of a warp holds of a fragment, with g = l / 4 and t = l % 4 * 2:
//   Left   (16 rows of 16):    rows g and g + 8, columns t, t + 1, t + 8 and t + 9
//   Right  (16 rows of 16):    rows t, t + 1, t + 8 and t + 9, columns g and g + 8
//   Sums   (16 rows of 8):     rows g and g + 8, columns t and t + 1
#pragma once
#include "common.cuh"

#if STORED != 0

#define FRAGMENT_ROW (threadIdx.x % 32 / 4)
#define FRAGMENT_COLUMN (threadIdx.x % 4 * 2)

struct Left {
  u32 x[4];
};
struct Right {
  u32 x[4];
};
// Row g, columns t and t + 1, then row g + 8.
struct Sums {
  float x[4];
};

__device__ __forceinline__ void clear(Sums &c) { c.x[0] = c.x[1] = c.x[2] = c.x[3] = 0.f; }

__device__ __forceinline__ u32 two_of(T low, T high) {
  T both[2] = {low, high};
  u32 word;
  memcpy(&word, both, 4);
  return word;
}
__device__ __forceinline__ u32 two_of(float low, float high) { return two_of(store<T>(low), store<T>(high)); }

// Two adjacent fragments of sums as the left factor of a product.
__device__ __forceinline__ Left left_of(const Sums &a, const Sums &b) {
  return {{two_of(a.x[0], a.x[1]), two_of(a.x[2], a.x[3]), two_of(b.x[0], b.x[1]), two_of(b.x[2], b.x[3])}};
}

#ifdef EMULATED

__device__ __forceinline__ u32 emulated_two(const T *p, int apart) { return two_of(p[0], p[apart]); }

// From rows of the left factor.
__device__ __forceinline__ Left load_left(const T *p, int ld) {
  emulated_fragment(p, ld);
  const T *at = p + FRAGMENT_ROW * ld + FRAGMENT_COLUMN;
  return {{emulated_two(at, 1), emulated_two(at + 8 * ld, 1), emulated_two(at + 8, 1), emulated_two(at + 8 * ld + 8, 1)}};
}
// From rows of the left factor's transpose.
__device__ __forceinline__ Left load_left_transposed(const T *p, int ld) {
  emulated_fragment(p, ld);
  const T *at = p + FRAGMENT_COLUMN * ld + FRAGMENT_ROW;
  return {{emulated_two(at, ld), emulated_two(at + 8, ld), emulated_two(at + 8 * ld, ld), emulated_two(at + 8 * ld + 8, ld)}};
}
// From rows of the right factor's transpose.
__device__ __forceinline__ Right load_right_transposed(const T *p, int ld) {
  emulated_fragment(p, ld);
  const T *at = p + FRAGMENT_ROW * ld + FRAGMENT_COLUMN;
  return {{emulated_two(at, 1), emulated_two(at + 8, 1), emulated_two(at + 8 * ld, 1), emulated_two(at + 8 * ld + 8, 1)}};
}
// From rows of the right factor.
__device__ __forceinline__ Right load_right(const T *p, int ld) {
  emulated_fragment(p, ld);
  const T *at = p + FRAGMENT_COLUMN * ld + FRAGMENT_ROW;
  return {{emulated_two(at, ld), emulated_two(at + 8 * ld, ld), emulated_two(at + 8, ld), emulated_two(at + 8 * ld + 8, ld)}};
}

__device__ __forceinline__ float emulated_half(u32 word, int which) {
  T both[2];
  memcpy(both, &word, 4);
  return load(both[which]);
}
// One half of the right factor, 8 columns.
__device__ __forceinline__ void multiply(Sums &c, const Left &a, const Right &b, int half) {
  static u32 lanes[32][32][6];
  auto *warp = lanes[threadIdx.x / 32];
  u32 *own = warp[threadIdx.x % 32];
  for (int i = 0; i < 4; ++i) own[i] = a.x[i];
  for (int i = 0; i < 2; ++i) own[4 + i] = b.x[2 * half + i];
  __syncwarp();
  int g = FRAGMENT_ROW, t = FRAGMENT_COLUMN;
  for (int at = 0; at < 4; ++at) {
    int row = at / 2, column = t + at % 2;
    for (int k = 0; k < 16; ++k) {
      int pair = k % 8 / 2, high = k / 8;
      float left = emulated_half(warp[g * 4 + pair][row + 2 * high], k % 2);
      c.x[at] += left * emulated_half(warp[column * 4 + pair][4 + high], k % 2);
    }
  }
  __syncwarp();
}
__device__ __forceinline__ float power_of_two(float x) { return exp2f(x); }

// Copies sixteen bytes to shared memory, or writes zeros there, by the next `arrived`.
__device__ __forceinline__ void copy16(T *to, const T *from, bool inside) {
  *(uint4 *)to = inside ? *(const uint4 *)from : make_uint4(0, 0, 0, 0);
}
__device__ __forceinline__ void copies_end() {}
template <int LATER> __device__ __forceinline__ void arrived() {}

#else

__device__ __forceinline__ u32 shared_address(const T *p) { return (u32)__cvta_generic_to_shared(p); }

// Loads four matrices of 8 x 8 numbers, of which lane l gives the address of row l % 8 of matrix
// l / 8; with TRANSPOSED, a lane gets numbers of a column.
template <bool TRANSPOSED> __device__ __forceinline__ void load_matrices(u32 (&to)[4], const T *row) {
  if constexpr (TRANSPOSED)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
}
// The row of a lane where matrices follow each other down first, or along the rows first.
__device__ __forceinline__ const T *row_down_first(const T *p, int ld) {
  int lane = threadIdx.x % 32;
  return p + lane % 16 * ld + lane / 16 * 8;
}
__device__ __forceinline__ const T *row_along_first(const T *p, int ld) {
  int lane = threadIdx.x % 32;
  return p + (lane % 8 + lane / 16 * 8) * ld + lane / 8 % 2 * 8;
}

__device__ __forceinline__ Left load_left(const T *p, int ld) {
  Left a;
  load_matrices<false>(a.x, row_down_first(p, ld));
  return a;
}
__device__ __forceinline__ Left load_left_transposed(const T *p, int ld) {
  Left a;
  load_matrices<true>(a.x, row_along_first(p, ld));
  return a;
}
__device__ __forceinline__ Right load_right_transposed(const T *p, int ld) {
  Right b;
  load_matrices<false>(b.x, row_along_first(p, ld));
  return b;
}
__device__ __forceinline__ Right load_right(const T *p, int ld) {
  Right b;
  load_matrices<true>(b.x, row_down_first(p, ld));
  return b;
}

#if STORED == 1
#define MMA "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"
#else
#define MMA "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
#endif
__device__ __forceinline__ void multiply(Sums &c, const Left &a, const Right &b, int half) {
  asm volatile(MMA " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c.x[0]), "+f"(c.x[1]), "+f"(c.x[2]), "+f"(c.x[3])
               : "r"(a.x[0]), "r"(a.x[1]), "r"(a.x[2]), "r"(a.x[3]), "r"(b.x[2 * half]), "r"(b.x[2 * half + 1]));
}
__device__ __forceinline__ float power_of_two(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ void copy16(T *to, const T *from, bool inside) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(inside ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void copies_end() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits for all copies of this thread but the last groups of them.
template <int LATER> __device__ __forceinline__ void arrived() {
  asm volatile("cp.async.wait_group %0;" ::"n"(LATER) : "memory");
}

#endif
#endif
