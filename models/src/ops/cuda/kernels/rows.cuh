// Sums over the rows of a matrix, for each of its columns.
//
// A block takes a strip of 64 columns and a part of the rows: each thread takes eight columns, and
// 32 threads take turns with the rows. `parts` of each column are added up by `sum_parts`, always
// in the same order.
#pragma once
#include "common.cuh"

#define STRIP 64
#define STRIP_LANES 32
// The first column of a thread, and which of the rows it takes.
#define FIRST_COLUMN ((i64)blockIdx.x * STRIP + threadIdx.x % (STRIP / 8) * 8)
#define ROW_LANE ((int)(threadIdx.x / (STRIP / 8)))

struct Part {
  i64 first, end;
};
// The rows that this block's part is.
__device__ __forceinline__ Part part_of(i64 rows) {
  i64 each = (rows + gridDim.y - 1) / gridDim.y, first = each * blockIdx.y;
  return {first, first + each < rows ? first + each : rows};
}

// Eight numbers of a row of `c` from column `first` on; zeros beyond the last.
template <class S> __device__ __forceinline__ void row8(float (&to)[8], const S *x, i64 row, i64 c, i64 first, bool wide) {
  if (wide) {
    load8(to, x + row * c + first);
  } else {
#pragma unroll
    for (int k = 0; k < 8; ++k) to[k] = first + k < c ? load(x[row * c + first + k]) : 0.f;
  }
}

// Adds up over the threads that have the same columns; thread t < 64 gets the sum of column t of
// the strip.
__device__ __forceinline__ float strip_sum(const float (&x)[8]) {
  __shared__ float sums[STRIP_LANES][STRIP + 4];
  __syncthreads();
#pragma unroll
  for (int k = 0; k < 8; ++k) sums[ROW_LANE][threadIdx.x % (STRIP / 8) * 8 + k] = x[k];
  __syncthreads();
  float total = 0;
  if (threadIdx.x < STRIP)
    for (int i = 0; i < STRIP_LANES; ++i) total += sums[i][threadIdx.x];
  return total;
}
__device__ __forceinline__ void give_strip(float *parts, i64 c, const float (&x)[8]) {
  float sum = strip_sum(x);
  i64 column = (i64)blockIdx.x * STRIP + threadIdx.x;
  if (threadIdx.x < STRIP && column < c) parts[blockIdx.y * c + column] = sum;
}

// Calls `f(row)` for the rows of this thread, several of which may be on their way at a time.
template <class F> __device__ __forceinline__ void each_row(i64 rows, i64 c, F f) {
  Part part = part_of(rows);
  if (FIRST_COLUMN >= c) return;
#pragma unroll 4
  for (i64 row = part.first + ROW_LANE; row < part.end; row += STRIP_LANES) f(row);
}

KERNEL(column_sums, (float *parts, const T *x, i64 rows, i64 c)) {
  bool wide = eights(c, x);
  i64 first = FIRST_COLUMN;
  float sums[8] = {};
  each_row(rows, c, [&](i64 row) {
    float v[8];
    row8(v, x, row, c, first, wide);
#pragma unroll
    for (int k = 0; k < 8; ++k) sums[k] += v[k];
  });
  give_strip(parts, c, sums);
}

// The gradient of a factor of each channel: sums of `dy * term * keep[sample]`.
template <class S, class B>
__device__ void factor_sum(float *parts, const S *dy, const B *term, const float *keep, i64 per_sample, i64 rows, i64 c) {
  bool wide = eights(c, dy, term);
  i64 first = FIRST_COLUMN;
  float sums[8] = {};
  each_row(rows, c, [&](i64 row) {
    float weight = keep ? keep[Index(row) / per_sample] : 1.f, g[8], t[8];
    if (weight == 0) return;
    row8(g, dy, row, c, first, wide);
    row8(t, term, row, c, first, wide);
#pragma unroll
    for (int k = 0; k < 8; ++k) sums[k] += g[k] * t[k] * weight;
  });
  give_strip(parts, c, sums);
}
KERNEL(factor_sums, (float *parts, const T *dy, const T *term, const float *keep, i64 per_sample, i64 rows, i64 c)) {
  factor_sum<T, T>(parts, dy, term, keep, per_sample, rows, c);
}
KERNEL(factor_sums_wide,
       (float *parts, const float *dy, const T *term, const float *keep, i64 per_sample, i64 rows, i64 c)) {
  factor_sum<float, T>(parts, dy, term, keep, per_sample, rows, c);
}

// A block of 32 columns, for each of which eight threads take turns with the parts.
__device__ __forceinline__ void sum_of_parts(float *out, const float *parts, i64 count, i64 c) {
  __shared__ float sums[8][32];
  int lane = threadIdx.x / 32;
  i64 column = (i64)blockIdx.x * 32 + threadIdx.x % 32;
  float sum = 0;
  if (column < c) {
#pragma unroll 8
    for (i64 i = lane; i < count; i += 8) sum += parts[i * c + column];
  }
  sums[lane][threadIdx.x % 32] = sum;
  __syncthreads();
  if (lane > 0 || column >= c) return;
  for (int i = 1; i < 8; ++i) sum += sums[i][threadIdx.x];
  out[column] = sum;
}
KERNEL(sum_parts, (float *out, const float *parts, i64 count, i64 c)) { sum_of_parts(out, parts, count, c); }
KERNEL(sum_two_parts, (float *first, float *second, const float *firsts, const float *seconds, i64 count, i64 c)) {
  if (blockIdx.y == 0) sum_of_parts(first, firsts, count, c);
  else sum_of_parts(second, seconds, count, c);
}

// Rows of the bias, for a product to be added to: the sum is rounded once then.
KERNEL(fill_bias, (T *y, const float *bias, i64 c, i64 n)) {
  if (eights(c, y, bias)) {
    for EACH(at, n / 8) {
      float b[8];
      load8(b, bias + (i64)(Index(at * 8) % c));
      store8(y + at * 8, b);
    }
    return;
  }
  for EACH(i, n) y[i] = store<T>(bias[i % c]);
}
