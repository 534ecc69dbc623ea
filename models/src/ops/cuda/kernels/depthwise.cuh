// Depthwise convolution with stride 1 of channels-last images. Each tile of the image is padded on
// its own.
//
// A thread computes a run of RUN pixels next to each other, so that what it reads serves several of
// them; of a row of the kernel KW numbers at a time are in registers. Weights are stored tap by
// tap, `[KH * KW, C]`, next to each other for the threads of a warp.
#pragma once
#include "rows.cuh"

#define RUN 4
// Position of a thread in its block of 32 columns times 8 rows, of the sums over runs.
#define COLUMN ((i64)blockIdx.x * 32 + threadIdx.x % 32)
#define RUN_LANE ((int)(threadIdx.x / 32))

// Adds up over the eight rows of threads; right in the first of them.
__device__ __forceinline__ float lane_rows_sum(float x) {
  __shared__ float sums[8][32];
  __syncthreads();
  sums[RUN_LANE][threadIdx.x % 32] = x;
  __syncthreads();
  float total = 0;
  for (int i = 0; i < 8; ++i) total += sums[i][threadIdx.x % 32];
  return total;
}

// Sizes of the source and of the result, the kernel, the padding above and on the left, and tiles.
struct Depthwise {
  i64 h, w, c, kh, kw, pad_y, pad_x, ho, wo, th, tw;
  __device__ __forceinline__ bool whole() const { return th == h && tw == w; }
  __device__ __forceinline__ i64 runs() const { return (wo + RUN - 1) / RUN; }
};

// A run: image, row, and first column.
struct Run {
  i64 image, y, x;
};
__device__ __forceinline__ Run run_of(const Depthwise &g, Index at) {
  i64 runs = g.runs();
  return {at / runs / g.ho, at / runs % g.ho, at % runs * RUN};
}

// The row of the source that row `y` of the result sees at row `ky` of the kernel; -1 if that is
// padding.
__device__ __forceinline__ i64 seen_row(const Depthwise &g, i64 y, i64 ky) {
  i64 row = y + ky - g.pad_y;
  if (row < 0 || row >= g.h) return -1;
  return g.whole() || Index(row) / g.th == Index(y) / g.th ? row : -1;
}

// Calls `f(of the run, of the kernel, number)` for the numbers of a row of the source that meet,
// where column `first` of the kernel is number 0.
template <int KW, class F>
__device__ __forceinline__ void meet(const Depthwise &g, const T *row, i64 x, i64 first, F f) {
  bool whole = g.whole();
  i64 tile[RUN];
#pragma unroll
  for (int r = 0; r < RUN; ++r) tile[r] = whole ? 0 : (i64)(Index(x + r) / g.tw);
#pragma unroll
  for (int t = 0; t < KW + RUN - 1; ++t) {
    i64 column = x + t + first - g.pad_x;
    if (column < 0 || column >= g.w) continue;
    float v = load(row[column * g.c]);
    i64 own = whole ? 0 : (i64)(Index(column) / g.tw);
#pragma unroll
    for (int r = 0; r < RUN; ++r) {
      int k = t - r;
      if (k >= 0 && k < KW && own == tile[r]) f(r, k, v);
    }
  }
}

// With `flipped` the kernel is turned by half a turn: the gradient of the source.
template <int KW>
__device__ void depthwise(T *y, const T *x, const float *w, const float *bias, int flipped, Depthwise g, i64 n) {
  for EACH(i, n) {
    i64 ch = i % g.c, last = g.kh * g.kw - 1;
    Run at = run_of(g, i / g.c);
    float sums[RUN], start = bias ? bias[ch] : 0.f;
#pragma unroll
    for (int r = 0; r < RUN; ++r) sums[r] = start;
    for (i64 ky = 0; ky < g.kh; ++ky) {
      i64 row = seen_row(g, at.y, ky);
      if (row < 0) continue;
      for (i64 first = 0; first < g.kw; first += KW) {
        float weights[KW];
#pragma unroll
        for (int k = 0; k < KW; ++k) {
          i64 place = ky * g.kw + first + k;
          weights[k] = w[(flipped ? last - place : place) * g.c + ch];
        }
        meet<KW>(g, x + (at.image * g.h + row) * g.w * g.c + ch, at.x, first,
                 [&](int r, int k, float v) { sums[r] += v * weights[k]; });
      }
    }
#pragma unroll
    for (int r = 0; r < RUN; ++r)
      if (at.x + r < g.wo) y[((at.image * g.ho + at.y) * g.wo + at.x + r) * g.c + ch] = store<T>(sums[r]);
  }
}

// Parts `[parts, kh * kw, c]` of the weight's gradient, from runs of the result; a block for each
// row of the kernel, KW of its numbers at a time.
template <int KW> __device__ void depthwise_sum(float *parts, const T *x, const T *dy, Depthwise g, i64 runs) {
  Part part = part_of(runs);
  i64 pieces = g.kw / KW, ky = blockIdx.z / pieces, first = blockIdx.z % pieces * KW;
  float sums[KW];
#pragma unroll
  for (int k = 0; k < KW; ++k) sums[k] = 0;
  if (COLUMN < g.c)
    for (i64 run = part.first + RUN_LANE; run < part.end; run += 8) {
      Run at = run_of(g, run);
      i64 row = seen_row(g, at.y, ky);
      if (row < 0) continue;
      float slopes[RUN];
#pragma unroll
      for (int r = 0; r < RUN; ++r)
        slopes[r] = at.x + r < g.wo ? load(dy[((at.image * g.ho + at.y) * g.wo + at.x + r) * g.c + COLUMN]) : 0.f;
      meet<KW>(g, x + (at.image * g.h + row) * g.w * g.c + COLUMN, at.x, first,
               [&](int r, int k, float v) { sums[k] += v * slopes[r]; });
    }
#pragma unroll
  for (int k = 0; k < KW; ++k) {
    float sum = lane_rows_sum(sums[k]);
    i64 place = ky * g.kw + first + k;
    if (RUN_LANE == 0 && COLUMN < g.c) parts[(blockIdx.y * g.kh * g.kw + place) * g.c + COLUMN] = sum;
  }
}

#define DEPTHWISE(kw)                                                                                                  \
  KERNEL(depthwise_##kw, (T * y, const T *x, const float *w, const float *bias, int flipped, Depthwise g, i64 n)) {    \
    depthwise<kw>(y, x, w, bias, flipped, g, n);                                                                       \
  }                                                                                                                    \
  KERNEL(depthwise_sums_##kw, (float *parts, const T *x, const T *dy, Depthwise g, i64 runs)) {                        \
    depthwise_sum<kw>(parts, x, dy, g, runs);                                                                          \
  }
DEPTHWISE(1)
DEPTHWISE(3)
DEPTHWISE(7)
