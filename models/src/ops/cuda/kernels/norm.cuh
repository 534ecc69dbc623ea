// Layer norm and batch norm.
#pragma once
#include "rows.cuh"

// A warp a row, so that nothing waits for other warps; `stats` keeps mean and one over the
// deviation of each row.
#define ROW_OF_WARP ((i64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32)
#define LANES(j, c) (i64 j = threadIdx.x % 32; j < (c); j += 32)

template <class O, class S>
__device__ void layer_norm(O *y, float *stats, const S *x, const float *weight, const float *bias, i64 rows, i64 c,
                           float eps) {
  i64 at = ROW_OF_WARP;
  if (at >= rows) return;
  const S *row = x + at * c;
  float sum = 0;
  for LANES(j, c) sum += load(row[j]);
  float mean = warp_sum(sum) / c, squares = 0;
  for LANES(j, c) {
    float d = load(row[j]) - mean;
    squares += d * d;
  }
  float inv = rsqrtf(warp_sum(squares) / c + eps);
  for LANES(j, c) y[at * c + j] = store<O>((load(row[j]) - mean) * inv * weight[j] + (bias ? bias[j] : 0.f));
  if (threadIdx.x % 32 == 0) {
    stats[2 * at] = mean;
    stats[2 * at + 1] = inv;
  }
}

template <class S, class O>
__device__ void layer_norm_slope(S *dx, const S *x, const O *dy, const float *weight, const float *stats, i64 rows, i64 c) {
  i64 row = ROW_OF_WARP, at = row * c;
  if (row >= rows) return;
  float mean = stats[2 * row], inv = stats[2 * row + 1], sum = 0, dot = 0;
  for LANES(j, c) {
    float g = load(dy[at + j]) * weight[j];
    sum += g;
    dot += g * (load(x[at + j]) - mean) * inv;
  }
  sum = warp_sum(sum) / c;
  dot = warp_sum(dot) / c;
  for LANES(j, c) {
    float g = load(dy[at + j]) * weight[j], normal = (load(x[at + j]) - mean) * inv;
    dx[at + j] = store<S>(inv * (g - sum - normal * dot));
  }
}

// Parts of the gradients of weight and bias.
template <class S, class O>
__device__ void layer_norm_sums(float *dweight, float *dbias, const S *x, const O *dy, const float *stats, i64 rows, i64 c) {
  column_sums_of_two(dweight, dbias, rows, c, [=](i64 row, i64 j) {
    float g = load(dy[row * c + j]);
    return Two{g * (load(x[row * c + j]) - stats[2 * row]) * stats[2 * row + 1], g};
  });
}

#define LAYER_NORM(suffix, S, O)                                                                                       \
  KERNEL(layer_norm_forward##suffix,                                                                                   \
         (O * y, float *stats, const S *x, const float *weight, const float *bias, i64 rows, i64 c, float eps)) {      \
    layer_norm<O, S>(y, stats, x, weight, bias, rows, c, eps);                                                         \
  }                                                                                                                    \
  KERNEL(layer_norm_backward##suffix,                                                                                  \
         (S * dx, const S *x, const O *dy, const float *weight, const float *stats, i64 rows, i64 c)) {                \
    layer_norm_slope<S, O>(dx, x, dy, weight, stats, rows, c);                                                         \
  }                                                                                                                    \
  KERNEL(layer_norm_sums##suffix,                                                                                      \
         (float *dweight, float *dbias, const S *x, const O *dy, const float *stats, i64 rows, i64 c)) {               \
    layer_norm_sums<S, O>(dweight, dbias, x, dy, stats, rows, c);                                                      \
  }
LAYER_NORM(, T, T)
LAYER_NORM(_from_wide, float, T)
LAYER_NORM(_to_wide, T, float)

// Mean and sum of squared distances from it, of each column of a part of the rows: two passes over
// the part, so that numbers far from zero lose nothing.
KERNEL(channel_moments, (float *means, float *squares, const T *x, i64 rows, i64 c)) {
  Part part = part_of(rows);
  float sum = 0;
  if (COLUMN < c)
    for (i64 row = part.first + ROW_LANE; row < part.end; row += 8) sum += load(x[row * c + COLUMN]);
  float mean = part.end > part.first ? lane_rows_sum(sum) / (part.end - part.first) : 0.f, square = 0;
  if (COLUMN < c)
    for (i64 row = part.first + ROW_LANE; row < part.end; row += 8) {
      float d = load(x[row * c + COLUMN]) - mean;
      square += d * d;
    }
  square = lane_rows_sum(square);
  if (ROW_LANE == 0 && COLUMN < c) {
    means[blockIdx.y * c + COLUMN] = mean;
    squares[blockIdx.y * c + COLUMN] = square;
  }
}

// The parts together (Chan, Golub & LeVeque): mean and biased variance of each channel.
KERNEL(join_moments, (float *mean, float *variance, const float *means, const float *squares, i64 parts, i64 rows, i64 c)) {
  i64 each = (rows + parts - 1) / parts;
  for EACH(j, c) {
    float count = 0, m = 0, s = 0;
    for (i64 i = 0; i < parts; ++i) {
      i64 left = rows - i * each;
      if (left <= 0) break;
      float n = left < each ? left : each, d = means[i * c + j] - m;
      s += squares[i * c + j] + d * d * count * n / (count + n);
      m += d * n / (count + n);
      count += n;
    }
    mean[j] = m;
    variance[j] = s / count;
  }
}

KERNEL(batch_norm_forward, (T *y, const T *x, const float *mean, const float *variance, const float *weight,
                            const float *bias, const T *residual, int rectify, float eps, i64 c, i64 n)) {
  if (eights(c, y, x, residual, mean, variance, weight, bias)) {
    for EACH(at, n / 8) {
      i64 i = at * 8, j = Index(i) % c;
      float v[8], r[8] = {}, m[8], s[8], w[8], b[8];
      load8(v, x + i);
      if (residual) load8(r, residual + i);
      load8(m, mean + j);
      load8(s, variance + j);
      load8(w, weight + j);
      load8(b, bias + j);
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        v[k] = (v[k] - m[k]) * rsqrtf(s[k] + eps) * w[k] + b[k];
        if (residual) v[k] += r[k];
        v[k] = rectify ? relu(v[k]) : v[k];
      }
      store8(y + i, v);
    }
    return;
  }
  for EACH(i, n) {
    i64 j = i % c;
    float v = (load(x[i]) - mean[j]) * rsqrtf(variance[j] + eps) * weight[j] + bias[j];
    if (residual) v += load(residual[i]);
    y[i] = store<T>(rectify ? relu(v) : v);
  }
}

// Parts of the sums of the gradient and of its product with the normalized input: gradients of bias
// and weight. Where the value was rectified, `y` says which elements the gradient passes.
KERNEL(batch_norm_sums, (float *dweight, float *dbias, const T *x, const T *dy, const T *y, const float *mean,
                         const float *variance, float eps, i64 rows, i64 c)) {
  i64 column = COLUMN < c ? COLUMN : 0;
  float middle = mean[column], inv = rsqrtf(variance[column] + eps);
  column_sums_of_two(dweight, dbias, rows, c, [=](i64 row, i64 j) {
    i64 i = row * c + j;
    float g = y && !(load(y[i]) > 0) ? 0.f : load(dy[i]);
    return Two{g * (load(x[i]) - middle) * inv, g};
  });
}

// `dresidual` is null where there is no residual. With the batch's own statistics the gradient
// loses its mean and its part along the normalized input.
KERNEL(batch_norm_backward, (T *dx, T *dresidual, const T *x, const T *dy, const T *y, const float *mean,
                             const float *variance, const float *weight, const float *dweight, const float *dbias,
                             int from_batch, float eps, i64 rows, i64 c)) {
  if (eights(c, dx, dresidual, x, dy, y, mean, variance, weight, dweight, dbias)) {
    for EACH(at, rows * c / 8) {
      i64 i = at * 8, j = Index(i) % c;
      float v[8], g[8], o[8], m[8], s[8], w[8], dw[8], db[8];
      load8(v, x + i);
      load8(g, dy + i);
      if (y) load8(o, y + i);
      load8(m, mean + j);
      load8(s, variance + j);
      load8(w, weight + j);
      load8(dw, dweight + j);
      load8(db, dbias + j);
#pragma unroll
      for (int k = 0; k < 8; ++k)
        if (y && !(o[k] > 0)) g[k] = 0;
      if (dresidual) store8(dresidual + i, g);
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        float inv = rsqrtf(s[k] + eps), normal = (v[k] - m[k]) * inv;
        if (from_batch) g[k] -= (db[k] + normal * dw[k]) / rows;
        v[k] = g[k] * inv * w[k];
      }
      store8(dx + i, v);
    }
    return;
  }
  for EACH(i, rows * c) {
    i64 j = i % c;
    float g = y && !(load(y[i]) > 0) ? 0.f : load(dy[i]);
    if (dresidual) dresidual[i] = store<T>(g);
    float inv = rsqrtf(variance[j] + eps), normal = (load(x[i]) - mean[j]) * inv;
    if (from_batch) g -= (dbias[j] + normal * dweight[j]) / rows;
    dx[i] = store<T>(g * inv * weight[j]);
  }
}
