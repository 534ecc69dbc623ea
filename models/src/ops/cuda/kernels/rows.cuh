// Sums over the rows of a matrix, for each of its columns.
//
// A block takes a strip of 32 columns and a part of the rows; its 8 rows of threads go through the
// part together. `parts` of each column are added up by `sum_parts`, always in the same order.
#pragma once
#include "common.cuh"

// Position of a thread in its block of 32 columns times 8 rows.
#define COLUMN ((i64)blockIdx.x * 32 + threadIdx.x % 32)
#define ROW_LANE ((int)(threadIdx.x / 32))

struct Part {
  i64 first, end;
};
// The rows that this block's part is.
__device__ __forceinline__ Part part_of(i64 rows) {
  i64 each = (rows + gridDim.y - 1) / gridDim.y, first = each * blockIdx.y;
  return {first, first + each < rows ? first + each : rows};
}

// Adds up over the eight rows of threads; right in row lane 0.
__device__ __forceinline__ float lane_rows_sum(float x) {
  __shared__ float sums[8][32];
  __syncthreads();
  sums[ROW_LANE][threadIdx.x % 32] = x;
  __syncthreads();
  float total = 0;
  for (int i = 0; i < 8; ++i) total += sums[i][threadIdx.x % 32];
  return total;
}

template <class S, class F> __device__ void column_sum(float *parts, i64 rows, i64 c, F term) {
  Part part = part_of(rows);
  float sum = 0;
  if (COLUMN < c)
    for (i64 row = part.first + ROW_LANE; row < part.end; row += 8) sum += term(row, COLUMN);
  sum = lane_rows_sum(sum);
  if (ROW_LANE == 0 && COLUMN < c) parts[blockIdx.y * c + COLUMN] = sum;
}

// Two sums over the same rows, each of which is read once.
struct Two {
  float first, second;
};
template <class F> __device__ void column_sums_of_two(float *firsts, float *seconds, i64 rows, i64 c, F terms) {
  Part part = part_of(rows);
  float first = 0, second = 0;
  if (COLUMN < c)
    for (i64 row = part.first + ROW_LANE; row < part.end; row += 8) {
      Two both = terms(row, COLUMN);
      first += both.first;
      second += both.second;
    }
  first = lane_rows_sum(first);
  second = lane_rows_sum(second);
  if (ROW_LANE == 0 && COLUMN < c) {
    firsts[blockIdx.y * c + COLUMN] = first;
    seconds[blockIdx.y * c + COLUMN] = second;
  }
}

KERNEL(column_sums, (float *parts, const T *x, i64 rows, i64 c)) {
  column_sum<T>(parts, rows, c, [=](i64 row, i64 j) { return load(x[row * c + j]); });
}

// The gradient of a factor of each channel: sums of `dy * term * keep[sample]`.
template <class S, class B>
__device__ void factor_sum(float *parts, const S *dy, const B *term, const float *keep, i64 per_sample, i64 rows, i64 c) {
  column_sum<S>(parts, rows, c, [=](i64 row, i64 j) {
    float k = keep ? keep[Index(row) / per_sample] : 1.f;
    return k == 0 ? 0.f : load(dy[row * c + j]) * load(term[row * c + j]) * k;
  });
}
KERNEL(factor_sums, (float *parts, const T *dy, const T *term, const float *keep, i64 per_sample, i64 rows, i64 c)) {
  factor_sum<T, T>(parts, dy, term, keep, per_sample, rows, c);
}
KERNEL(factor_sums_wide,
       (float *parts, const float *dy, const T *term, const float *keep, i64 per_sample, i64 rows, i64 c)) {
  factor_sum<float, T>(parts, dy, term, keep, per_sample, rows, c);
}

KERNEL(sum_parts, (float *out, const float *parts, i64 count, i64 c)) {
  for EACH(j, c) {
    float sum = 0;
    for (i64 i = 0; i < count; ++i) sum += parts[i * c + j];
    out[j] = sum;
  }
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
