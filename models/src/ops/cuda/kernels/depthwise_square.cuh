// Depthwise convolution with stride 1 and a square kernel of channels-last images, for even numbers
// of channels.
//
// A thread has two channels next to each other, and computes SQUARE_ROWS x SQUARE_COLUMNS pixels of
// them: each number that it reads serves up to seven pixels of a row, and both rows. Weights are
// stored tap by tap, `[K * K, C]`.
#pragma once
#include "depthwise.cuh"

// Feature maps of the models are multiples of seven at their usual size.
#define SQUARE_COLUMNS 7
#define SQUARE_ROWS 2
// Pairs of channels of a block that sums over pixels, and how many threads share each of them.
#define SQUARE_PAIRS 16
#define SQUARE_LANES 8
#define SQUARE_THREADS (SQUARE_PAIRS * SQUARE_LANES)

template <class S> struct alignas(2 * sizeof(S)) Pair {
  S x[2];
};
template <class S> __device__ __forceinline__ void load2(float (&to)[2], const S *from) {
  Pair<S> v = *(const Pair<S> *)from;
  to[0] = load(v.x[0]);
  to[1] = load(v.x[1]);
}
__device__ __forceinline__ void store2(T *to, const float (&from)[2]) {
  Pair<T> v;
  v.x[0] = store<T>(from[0]);
  v.x[1] = store<T>(from[1]);
  *(Pair<T> *)to = v;
}

// COUNT numbers of a row from column `first` on, with zeros beside it.
template <int COUNT>
__device__ __forceinline__ void run_of_pairs(float (&to)[COUNT][2], const T *row, int first, int columns, int c) {
  const T *from = row + (i64)first * c;
#pragma unroll
  for (int i = 0; i < COUNT; ++i) {
    to[i][0] = to[i][1] = 0.f;
    if (first + i >= 0 && first + i < columns) load2(to[i], from + i * c);
  }
}

// With `flipped` the kernel is turned by half a turn: the gradient of the source.
template <int K>
__device__ __forceinline__ void depthwise_square(T *y, const T *x, const float *w, const float *bias, int flipped,
                                                 const Depthwise &g, i64 n) {
  const int c = (int)g.c, columns = ((int)g.wo + SQUARE_COLUMNS - 1) / SQUARE_COLUMNS, rows = ((int)g.ho + SQUARE_ROWS - 1) / SQUARE_ROWS;
  for EACH(at, n) {
    Index place = at / (g.c / 2);
    int channel = (int)(at % (g.c / 2)) * 2, x0 = (int)(place % columns) * SQUARE_COLUMNS;
    int y0 = (int)(place / columns % rows) * SQUARE_ROWS;
    i64 image = place / columns / rows;
    float sums[SQUARE_ROWS][SQUARE_COLUMNS][2], start[2] = {};
    if (bias) load2(start, bias + channel);
#pragma unroll
    for (int r = 0; r < SQUARE_ROWS; ++r)
#pragma unroll
      for (int i = 0; i < SQUARE_COLUMNS; ++i) {
        sums[r][i][0] = start[0];
        sums[r][i][1] = start[1];
      }
#pragma unroll 1
    for (int iy = 0; iy < SQUARE_ROWS + K - 1; ++iy) {
      int row = y0 + iy - (int)g.pad_y;
      if (row < 0 || row >= (int)g.h) continue;
      float v[SQUARE_COLUMNS + K - 1][2];
      run_of_pairs(v, x + (image * g.h + row) * g.w * c + channel, x0 - (int)g.pad_x, (int)g.w, c);
#pragma unroll
      for (int r = 0; r < SQUARE_ROWS; ++r) {
        int ky = iy - r;
        if (ky < 0 || ky >= K) continue;
        int tap = flipped ? K * K - 1 - ky * K : ky * K, next = flipped ? -1 : 1;
        const float *weights = w + (i64)tap * c + channel;
#pragma unroll
        for (int kx = 0; kx < K; ++kx) {
          float by[2];
          load2(by, weights + kx * next * c);
#pragma unroll
          for (int i = 0; i < SQUARE_COLUMNS; ++i) {
            sums[r][i][0] += v[i + kx][0] * by[0];
            sums[r][i][1] += v[i + kx][1] * by[1];
          }
        }
      }
    }
#pragma unroll
    for (int r = 0; r < SQUARE_ROWS; ++r) {
      if (y0 + r >= (int)g.ho) break;
      T *to = y + ((image * g.ho + y0 + r) * g.wo + x0) * c + channel;
#pragma unroll
      for (int i = 0; i < SQUARE_COLUMNS; ++i)
        if (x0 + i < (int)g.wo) store2(to + i * c, sums[r][i]);
    }
  }
}

// Parts `[parts, K * K, C]` of the weight's gradient, from runs of the result.
template <int K> __device__ __forceinline__ void depthwise_square_sums(float *parts, const T *x, const T *dy, const Depthwise &g, i64 runs) {
  __shared__ float lanes[SQUARE_LANES][K][2 * SQUARE_PAIRS];
  const int c = (int)g.c, columns = ((int)g.wo + SQUARE_COLUMNS - 1) / SQUARE_COLUMNS;
  int pair = threadIdx.x % SQUARE_PAIRS, lane = threadIdx.x / SQUARE_PAIRS;
  int channel = ((int)blockIdx.x * SQUARE_PAIRS + pair) * 2;
  Part part = part_of(runs);
  float sums[K][K][2];
#pragma unroll
  for (int i = 0; i < K; ++i)
#pragma unroll
    for (int j = 0; j < K; ++j) sums[i][j][0] = sums[i][j][1] = 0.f;
  if (channel < c) {
#pragma unroll 1
    for (Index run = part.first + lane; run.at < part.end; run += SQUARE_LANES) {
      int x0 = (int)(run % columns) * SQUARE_COLUMNS, row = (int)(run / columns % g.ho);
      i64 image = run / columns / g.ho;
      float slopes[SQUARE_COLUMNS][2];
      run_of_pairs(slopes, dy + (image * g.ho + row) * g.wo * c + channel, x0, (int)g.wo, c);
      const T *source = x + image * g.h * g.w * c + channel;
#pragma unroll
      for (int ky = 0; ky < K; ++ky) {
        int from = row + ky - (int)g.pad_y;
        if (from < 0 || from >= (int)g.h) continue;
        float v[SQUARE_COLUMNS + K - 1][2];
        run_of_pairs(v, source + (i64)from * g.w * c, x0 - (int)g.pad_x, (int)g.w, c);
#pragma unroll
        for (int kx = 0; kx < K; ++kx)
#pragma unroll
          for (int i = 0; i < SQUARE_COLUMNS; ++i) {
            sums[ky][kx][0] += v[i + kx][0] * slopes[i][0];
            sums[ky][kx][1] += v[i + kx][1] * slopes[i][1];
          }
      }
    }
  }
#pragma unroll
  for (int ky = 0; ky < K; ++ky) {
    __syncthreads();
#pragma unroll
    for (int kx = 0; kx < K; ++kx) {
      lanes[lane][kx][2 * pair] = sums[ky][kx][0];
      lanes[lane][kx][2 * pair + 1] = sums[ky][kx][1];
    }
    __syncthreads();
    for (int at = threadIdx.x; at < K * 2 * SQUARE_PAIRS; at += SQUARE_THREADS) {
      int kx = at / (2 * SQUARE_PAIRS), own = at % (2 * SQUARE_PAIRS), to = (int)blockIdx.x * 2 * SQUARE_PAIRS + own;
      float total = 0;
      for (int i = 0; i < SQUARE_LANES; ++i) total += lanes[i][kx][own];
      if (to < c) parts[((i64)blockIdx.y * K * K + ky * K + kx) * c + to] = total;
    }
  }
}

#define DEPTHWISE_SQUARE(k)                                                                                            \
  BOUNDED_KERNEL(depthwise_square_##k, 256, 2,                                                                         \
                 (T * y, const T *x, const float *w, const float *bias, int flipped, Depthwise g, i64 n)) {            \
    depthwise_square<k>(y, x, w, bias, flipped, g, n);                                                                 \
  }                                                                                                                    \
  BOUNDED_KERNEL(depthwise_square_sums_##k, SQUARE_THREADS, 3,                                                         \
                 (float *parts, const T *x, const T *dy, Depthwise g, i64 runs)) {                                     \
    depthwise_square_sums<k>(parts, x, dy, g, runs);                                                                   \
  }
DEPTHWISE_SQUARE(3)
DEPTHWISE_SQUARE(7)
