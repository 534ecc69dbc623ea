// Products of 16x16 tiles in shared memory by one warp, in single precision.
#pragma once
#include "common.cuh"

#if STORED == 0

// Each lane has eight numbers of the result: of two rows, eight apart, four columns. If the right
// factor is transposed, the columns are four apart too: its rows, which are read four numbers at a
// time, are in different banks of memory then.
struct Tile {
  float x[2][4];
};
#define TILE_ROW (threadIdx.x % 32 / 4)
template <bool TB> __device__ __forceinline__ int tile_column(int j) {
  int lane = threadIdx.x % 4;
  return TB ? lane + 4 * j : lane * 4 + j;
}
__device__ __forceinline__ void clear(Tile &c) {
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 4; ++j) c.x[i][j] = 0;
}

// c += a b, where `a` is transposed (`a[k * lda + row]`) if TA, and `b` (`b[column * ldb + k]`)
// if TB.
template <bool TA, bool TB> __device__ __forceinline__ void multiply(Tile &c, const T *a, int lda, const T *b, int ldb) {
  const int row = TILE_ROW;
#pragma unroll
  for (int k = 0; k < 16; k += 4) {
    // By row, and by column or `k`.
    float left[2][4], right[4][4];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if constexpr (TA)
        for (int e = 0; e < 4; ++e) left[i][e] = a[(k + e) * lda + row + 8 * i];
      else
        load4(left[i], a + (row + 8 * i) * lda + k);
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) load4(right[j], TB ? b + tile_column<true>(j) * ldb + k : b + (k + j) * ldb + tile_column<false>(0));
#pragma unroll
    for (int e = 0; e < 4; ++e)
#pragma unroll
      for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) c.x[i][j] += left[i][e] * (TB ? right[j][e] : right[e][j]);
  }
}
// Writes a product, the right factor of which was transposed if TB.
template <bool TB> __device__ __forceinline__ void put(float *out, int ld, const Tile &c) {
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) out[(TILE_ROW + 8 * i) * ld + tile_column<TB>(j)] = c.x[i][j];
}

#endif
