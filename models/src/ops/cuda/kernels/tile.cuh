// Products of 16x16 tiles in shared memory by one warp, in single precision.
#pragma once
#include "common.cuh"

#if STORED == 0

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
  int row = threadIdx.x % 32 / 2, first = threadIdx.x % 2 * 8;
  for (int k = 0; k < 16; ++k) {
    float left = load(TA ? a[k * lda + row] : a[row * lda + k]);
    for (int j = 0; j < 8; ++j) c.x[j] += left * load(TB ? b[(first + j) * ldb + k] : b[k * ldb + first + j]);
  }
}
__device__ __forceinline__ void put(float *out, int ld, const Tile &c) {
  int row = threadIdx.x % 32 / 2, first = threadIdx.x % 2 * 8;
  for (int j = 0; j < 8; ++j) out[row * ld + first + j] = c.x[j];
}

#endif
