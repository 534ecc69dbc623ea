// In place: optimizers, averages, sums of gradients. All numbers are floats.
//
// A table lists the pieces of all tensors, so that one launch changes them all: of block b tensor
// `tensor_of[b]`, from element `first_of[b]` on.
#pragma once
#include "common.cuh"

#define PIECE 8192

struct Tensors {
  const u32 *tensor_of;
  const i64 *first_of;
  const i64 *lengths;
};

#define EACH_OF_PIECE(i)                                                                                               \
  (i64 i = all.first_of[blockIdx.x] + threadIdx.x,                                                                     \
       end_##i = min(all.first_of[blockIdx.x] + PIECE, all.lengths[all.tensor_of[blockIdx.x]]);                        \
   i < end_##i; i += blockDim.x)

KERNEL(accumulate, (float *target, const float *term, i64 n)) {
  for EACH(i, n) target[i] += term[i];
}
KERNEL(scale_by, (float *target, float by, i64 n)) {
  for EACH(i, n) target[i] *= by;
}
KERNEL(blend, (float *target, const float *value, float decay, float rest, i64 n)) {
  for EACH(i, n) target[i] = decay * target[i] + rest * value[i];
}
KERNEL(blend_all, (float *const *targets, const float *const *values, float decay, float rest, const float *factor,
                   Tensors all)) {
  if (factor && factor[1] == 0) return;
  float *target = targets[all.tensor_of[blockIdx.x]];
  const float *value = values[all.tensor_of[blockIdx.x]];
  for EACH_OF_PIECE(i) target[i] = decay * target[i] + rest * value[i];
}
KERNEL(increment, (i64 *counter)) { *counter += 1; }

// A sum of squares in parts, one per block.
KERNEL(squares, (float *parts, const float *x, i64 n)) {
  float sum = 0;
  for EACH(i, n) sum += x[i] * x[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}
KERNEL(squares_all, (float *parts, const float *const *tensors, Tensors all)) {
  const float *x = tensors[all.tensor_of[blockIdx.x]];
  float sum = 0;
  for EACH_OF_PIECE(i) sum += x[i] * x[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}
// From the parts of the squared norm of all gradients: `out[0]` the norm, `out[1]` what gradients
// are multiplied with, zero where a step must not be taken. `unscale` is one over the loss scale; a
// limit of 0 is none. `own_limit` is the optimizer's own (LAMB), after clipping. `loss` is not
// finite in a bad step, too.
KERNEL(clip, (float *out, const float *parts, const float *loss, float unscale, float limit, float own_limit, i64 n)) {
  float sum = 0;
  for (i64 i = threadIdx.x; i < n; i += blockDim.x) sum += parts[i];
  float norm = sqrtf(block_sum(sum)) * unscale;
  if (threadIdx.x == 0) {
    bool good = isfinite(norm) && (!loss || isfinite(*loss));
    float by = limit > 0 ? fminf(limit / (norm + 1e-6f), 1.f) : 1.f;
    if (own_limit > 0) by /= fmaxf(by * norm / own_limit, 1.f);
    out[0] = norm;
    out[1] = good ? by * unscale : 0.f;
  }
}

// What the rates of a step are for one tensor.
struct Rates {
  float lr, weight_decay;
};
struct Adam {
  float beta1, beta2, fresh1, fresh2, correction1, root2, eps;
};

KERNEL(adamw_all, (float *const *params, const float *const *grads, float *const *means, float *const *squares,
                   const Rates *rates, const float *factor, Adam a, Tensors all)) {
  if (factor && factor[1] == 0) return;
  u32 t = all.tensor_of[blockIdx.x];
  float *p = params[t], *m = means[t], *v = squares[t];
  const float *grad = grads[t];
  float keep = 1 - rates[t].lr * rates[t].weight_decay, size = rates[t].lr / a.correction1, by = factor ? factor[1] : 1.f;
  for EACH_OF_PIECE(i) {
    float g = grad[i] * by;
    m[i] += (g - m[i]) * a.fresh1;
    v[i] = v[i] * a.beta2 + g * g * a.fresh2;
    p[i] = p[i] * keep - size * m[i] / (sqrtf(v[i]) / a.root2 + a.eps);
  }
}

__device__ __forceinline__ float lamb_update(const Adam &a, float decay, float p, float m, float v) {
  return (m / a.correction1) / (sqrtf(v) / a.root2 + a.eps) + decay * p;
}
// Moves the moments; parts of the squared norms of parameter and update, two numbers a block.
KERNEL(lamb_moments, (float *parts, float *const *params, const float *const *grads, float *const *means,
                      float *const *squares, const Rates *rates, const float *factor, Adam a, Tensors all)) {
  u32 t = all.tensor_of[blockIdx.x];
  float *p = params[t], *m = means[t], *v = squares[t];
  const float *grad = grads[t];
  float weight = 0, update = 0, by = factor ? factor[1] : 1.f;
  bool bad = factor && factor[1] == 0;
  if (!bad)
    for EACH_OF_PIECE(i) {
      float g = grad[i] * by;
      m[i] = m[i] * a.beta1 + g * a.fresh1;
      v[i] = v[i] * a.beta2 + g * g * a.fresh2;
      float u = lamb_update(a, rates[t].weight_decay, p[i], m[i], v[i]);
      weight += p[i] * p[i];
      update += u * u;
    }
  weight = block_sum(weight);
  update = block_sum(update);
  if (threadIdx.x == 0) {
    parts[2 * blockIdx.x] = weight;
    parts[2 * blockIdx.x + 1] = update;
  }
}
// `pieces_of[t]` is the first block of tensor t, `pieces_of[t + 1]` the one behind its last.
KERNEL(lamb_apply, (float *const *params, float *const *means, float *const *squares, const Rates *rates,
                    const float *parts, const u32 *pieces_of, const float *factor, Adam a, int always_adapt,
                    int trust_clip, Tensors all)) {
  if (factor && factor[1] == 0) return;
  u32 t = all.tensor_of[blockIdx.x];
  float weight = 0, update = 0;
  for (u32 i = pieces_of[t] + threadIdx.x; i < pieces_of[t + 1]; i += blockDim.x) {
    weight += parts[2 * i];
    update += parts[2 * i + 1];
  }
  weight = sqrtf(block_sum(weight));
  update = sqrtf(block_sum(update));
  float trust = (rates[t].weight_decay == 0 && !always_adapt) || weight == 0 || update == 0 ? 1.f : weight / update;
  float size = rates[t].lr * (trust_clip ? fminf(trust, 1.f) : trust);
  float *p = params[t], *m = means[t], *v = squares[t];
  for EACH_OF_PIECE(i) p[i] -= size * lamb_update(a, rates[t].weight_decay, p[i], m[i], v[i]);
}

KERNEL(sgd_all, (float *const *params, const float *const *grads, float *const *buffers, const Rates *rates,
                 const float *factor, int first, float kept, float ahead, float direct, Tensors all)) {
  if (factor && factor[1] == 0) return;
  u32 t = all.tensor_of[blockIdx.x];
  float *p = params[t], *b = buffers[t], by = factor ? factor[1] : 1.f;
  const float *grad = grads[t];
  for EACH_OF_PIECE(i) {
    float g = grad[i] * by + rates[t].weight_decay * p[i];
    // Not 0 * b[i]: what was there may not be a number.
    b[i] = first ? g : kept * b[i] + g;
    p[i] -= rates[t].lr * (direct * g + ahead * b[i]);
  }
}
