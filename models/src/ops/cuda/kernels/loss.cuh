// Losses: one block a sample or token, then a mean.
#pragma once
#include "common.cuh"
#include "elementwise.cuh"

KERNEL(cross_entropy_rows, (float *losses, const float *logits, const float *targets, i64 classes)) {
  const float *x = logits + blockIdx.x * classes, *t = targets + blockIdx.x * classes;
  float best = -INFINITY;
  for (i64 j = threadIdx.x; j < classes; j += blockDim.x) best = fmaxf(best, x[j]);
  best = block_max(best);
  float sum = 0;
  for (i64 j = threadIdx.x; j < classes; j += blockDim.x) sum += expf(x[j] - best);
  float log_sum = best + logf(block_sum(sum)), loss = 0;
  for (i64 j = threadIdx.x; j < classes; j += blockDim.x) loss += t[j] * (log_sum - x[j]);
  loss = block_sum(loss);
  if (threadIdx.x == 0) losses[blockIdx.x] = loss;
}

// `scale` is the gradient of the mean; `share` one over the number of samples.
KERNEL(cross_entropy_backward,
       (float *dx, const float *logits, const float *targets, const float *scale, float share, i64 classes)) {
  const float *x = logits + blockIdx.x * classes, *t = targets + blockIdx.x * classes;
  float best = -INFINITY, mass = 0;
  for (i64 j = threadIdx.x; j < classes; j += blockDim.x) {
    best = fmaxf(best, x[j]);
    mass += t[j];
  }
  best = block_max(best);
  mass = block_sum(mass);
  float sum = 0;
  for (i64 j = threadIdx.x; j < classes; j += blockDim.x) sum += expf(x[j] - best);
  sum = block_sum(sum);
  for (i64 j = threadIdx.x; j < classes; j += blockDim.x)
    dx[blockIdx.x * classes + j] = *scale * share * (expf(x[j] - best) / sum * mass - t[j]);
}

KERNEL(binary_cross_entropy_rows, (float *losses, const float *logits, const float *targets, i64 classes)) {
  const float *x = logits + blockIdx.x * classes, *t = targets + blockIdx.x * classes;
  float loss = 0;
  for (i64 j = threadIdx.x; j < classes; j += blockDim.x)
    loss += fmaxf(x[j], 0.f) - x[j] * t[j] + log1pf(expf(-fabsf(x[j])));
  loss = block_sum(loss);
  if (threadIdx.x == 0) losses[blockIdx.x] = loss;
}
// `scale` is the gradient of the mean; `share` one over the number of logits.
KERNEL(binary_cross_entropy_backward,
       (float *dx, const float *logits, const float *targets, const float *scale, float share, i64 n)) {
  for EACH(i, n) dx[i] = *scale * share * (sigmoid(logits[i]) - targets[i]);
}
KERNEL(above, (float *y, const float *x, float threshold, i64 n)) {
  for EACH(i, n) y[i] = x[i] > threshold ? 1.f : 0.f;
}

// Squared distances of the tokens that are flagged; zero for all others, even where they are not
// finite.
KERNEL(squared_error_rows, (float *losses, const float *x, const float *target, const u8 *flags, i64 d)) {
  float sum = 0;
  if (flags[blockIdx.x])
    for (i64 j = threadIdx.x; j < d; j += blockDim.x) {
      float e = x[blockIdx.x * d + j] - target[blockIdx.x * d + j];
      sum += e * e;
    }
  sum = block_sum(sum);
  if (threadIdx.x == 0) losses[blockIdx.x] = sum;
}
KERNEL(squared_error_backward,
       (float *dx, const float *x, const float *target, const u8 *flags, const float *scale, float share, i64 d, i64 n)) {
  for EACH(i, n) dx[i] = flags[i / d] ? *scale * share * 2 * (x[i] - target[i]) : 0.f;
}

// `share` times the sum of all numbers; one block.
KERNEL(total, (float *out, const float *x, float share, i64 n)) {
  float sum = 0;
  for (i64 i = threadIdx.x; i < n; i += blockDim.x) sum += x[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *out = sum * share;
}
