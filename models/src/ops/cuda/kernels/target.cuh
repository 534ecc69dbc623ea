// What masked autoencoders have to predict.
#pragma once
#include "common.cuh"

// Each row less its mean, over its deviation (the unbiased variance, and a millionth so that it is
// never 0).
KERNEL(standardize_rows, (float *y, const float *x, i64 width)) {
  const float *row = x + blockIdx.x * width;
  float sum = 0, squares = 0;
  for (i64 j = threadIdx.x; j < width; j += blockDim.x) sum += row[j];
  float mean = block_sum(sum) / width;
  for (i64 j = threadIdx.x; j < width; j += blockDim.x) squares += (row[j] - mean) * (row[j] - mean);
  float deviation = sqrtf(block_sum(squares) / (width > 2 ? width - 1 : 1) + 1e-6f);
  for (i64 j = threadIdx.x; j < width; j += blockDim.x) y[blockIdx.x * width + j] = (row[j] - mean) / deviation;
}

struct HogShape {
  i64 h, w, c, cell, window, bins;
};

// The pixel before or after one along an edge, reflected at the border.
__device__ __forceinline__ i64 before(i64 at) { return at > 0 ? at - 1 : 1; }
__device__ __forceinline__ i64 after(i64 at, i64 length) { return at + 1 < length ? at + 1 : length - 2; }

// Histograms of oriented gradients: a block for each cell (x) and channel (y). In double precision
// and in the order of the CPU, so that each pixel falls in the same bin. `table` has the weights of
// the window, then sine and cosine of each limit between two bins.
KERNEL(hog_cells, (float *out, const float *x, const double *table, HogShape s)) {
  SHARED_BYTES(memory);
  i64 area = s.cell * s.cell, rows = s.h / s.cell, cols = s.w / s.cell, channel = blockIdx.y;
  double *lengths = (double *)memory, *histogram = lengths + area;
  int *bins = (int *)(histogram + s.bins);
  const double *limits = table + s.window * s.window;
  const float *image = x + blockIdx.x / (rows * cols) * (s.h * s.w * s.c) + channel;
  i64 cell = blockIdx.x % (rows * cols);
  for (i64 i = threadIdx.x; i < area; i += blockDim.x) {
    i64 py = cell / cols * s.cell + i / s.cell, px = cell % cols * s.cell + i % s.cell;
    i64 ys[3] = {before(py), py, after(py, s.h)}, xs[3] = {before(px), px, after(px, s.w)};
    double at[3][3];
    for (int a = 0; a < 3; ++a)
      for (int b = 0; b < 3; ++b) at[a][b] = image[(ys[a] * s.w + xs[b]) * s.c];
    double gx = (at[0][0] - at[0][2]) + 2 * (at[1][0] - at[1][2]) + (at[2][0] - at[2][2]);
    double gy = (at[0][0] - at[2][0]) + 2 * (at[0][1] - at[2][1]) + (at[0][2] - at[2][2]);
    lengths[i] = table[py % s.window * s.window + px % s.window] * sqrt(gx * gx + gy * gy);
    // By the angle from the vertical, opposite angles alike: the number of limits at or before it.
    double sign = gx < 0 ? -1 : 1;
    int bin = 0;
    if (gx != 0)
      for (i64 k = 0; k + 1 < s.bins; ++k) bin += sign * gx * limits[2 * k + 1] >= sign * gy * limits[2 * k];
    bins[i] = bin;
  }
  __syncthreads();
  for (i64 k = threadIdx.x; k < s.bins; k += blockDim.x) {
    double sum = 0;
    for (i64 i = 0; i < area; ++i) sum += bins[i] == k ? lengths[i] : 0.0;
    histogram[k] = sum;
  }
  __syncthreads();
  double squares = 0;
  for (i64 k = 0; k < s.bins; ++k) squares += histogram[k] * histogram[k];
  // A flat cell stays zero.
  double length = fmax(sqrt(squares), 1e-12);
  for (i64 k = threadIdx.x; k < s.bins; k += blockDim.x)
    out[(blockIdx.x * s.c + channel) * s.bins + k] = (float)(histogram[k] / length);
}
