// Products of 16x16 tiles in shared memory by one warp: tensor cores for bfloat16 and half, plain
// arithmetic for float.
#pragma once
#include "common.cuh"

#if STORED == 0 || defined(EMULATED)

// Where tensor cores are emulated, that they could have read a tile from there.
#if STORED != 0
#define TILE_AT(p, ld) emulated_tile(p, ld)
#else
#define TILE_AT(p, ld)
#endif

// Each lane has half a row of the result.
struct Tile {
  float x[8];
};
__device__ __forceinline__ void clear(Tile &c) {
  for (int j = 0; j < 8; ++j) c.x[j] = 0;
}
// c += a b, where `a` is transposed (`a[k * lda + row]`) if TA, and `b` (`b[column * ldb + k]`)
// if TB.
template <bool TA, bool TB> __device__ __forceinline__ void multiply(Tile &c, const T *a, int lda, const T *b, int ldb) {
  TILE_AT(a, lda);
  TILE_AT(b, ldb);
  int row = threadIdx.x % 32 / 2, first = threadIdx.x % 2 * 8;
  for (int k = 0; k < 16; ++k) {
    float left = load(TA ? a[k * lda + row] : a[row * lda + k]);
    for (int j = 0; j < 8; ++j) c.x[j] += left * load(TB ? b[(first + j) * ldb + k] : b[k * ldb + first + j]);
  }
}
__device__ __forceinline__ void put(float *out, int ld, const Tile &c) {
  TILE_AT(out, ld);
  int row = threadIdx.x % 32 / 2, first = threadIdx.x % 2 * 8;
  for (int j = 0; j < 8; ++j) out[row * ld + first + j] = c.x[j];
}

#else

namespace wmma = nvcuda::wmma;
struct Tile {
  wmma::fragment<wmma::accumulator, 16, 16, 16, float> x;
};
__device__ __forceinline__ void clear(Tile &c) { wmma::fill_fragment(c.x, 0.f); }
template <bool transposed> struct Order {
  typedef wmma::row_major type;
};
template <> struct Order<true> {
  typedef wmma::col_major type;
};
template <bool TA, bool TB> __device__ __forceinline__ void multiply(Tile &c, const T *a, int lda, const T *b, int ldb) {
  wmma::fragment<wmma::matrix_a, 16, 16, 16, T, typename Order<TA>::type> left;
  wmma::fragment<wmma::matrix_b, 16, 16, 16, T, typename Order<TB>::type> right;
  wmma::load_matrix_sync(left, a, lda);
  wmma::load_matrix_sync(right, b, ldb);
  wmma::mma_sync(c.x, left, right, c.x);
}
__device__ __forceinline__ void put(float *out, int ld, const Tile &c) {
  wmma::store_matrix_sync(out, c.x, ld, wmma::mem_row_major);
}

#endif
