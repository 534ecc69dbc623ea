// Bytes to pictures, pooling, and convolutions by unfolding, of channels-last pictures.
#pragma once
#include "columns.cuh"

struct Window {
  i64 h, w, c, kernel, stride, pad, ho, wo;
};

// A batch of bytes and how each picture is blended with its partner: 0 not at all, 1 by a share, 2 by a box.
struct Batch {
  i64 n, h, w, blend, y0, y1, x0, x1;
};

// Normalised, or what the picture's box (top, left, height, width, first value) is overwritten with.
__device__ __forceinline__ float finished(const u8 *x, const u32 *boxes, const float *values, float mean, float std,
                                          Batch g, i64 picture, i64 row, i64 col, i64 ch) {
  const u32 *box = boxes + 5 * picture;
  if (row >= box[0] && row < box[0] + box[2] && col >= box[1] && col < box[1] + box[3])
    return values[box[4] + ((row - box[0]) * box[3] + col - box[1]) * 3 + ch];
  return ((float)x[((picture * g.h + row) * g.w + col) * 3 + ch] / 255.0f - mean) / std;
}

KERNEL(finish_pictures, (float *y, const u8 *x, const u32 *boxes, const float *values, float mean0, float mean1,
                         float mean2, float std0, float std1, float std2, float own, Batch g, i64 n)) {
  for EACH(i, n) {
    i64 ch = i % 3, col = i / 3 % g.w, row = i / 3 / g.w % g.h, picture = i / 3 / g.w / g.h;
    i64 partner = g.n - 1 - picture;
    float mean = ch == 0 ? mean0 : ch == 1 ? mean1 : mean2, std = ch == 0 ? std0 : ch == 1 ? std1 : std2;
    bool inside = g.blend == 2 && row >= g.y0 && row < g.y1 && col >= g.x0 && col < g.x1;
    float value = finished(x, boxes, values, mean, std, g, inside ? partner : picture, row, col, ch);
    if (g.blend == 1 && partner != picture)
      value = value * own + finished(x, boxes, values, mean, std, g, partner, row, col, ch) * (1.0f - own);
    y[i] = value;
  }
}

// Ties go to the first pixel in reading order; what is not a number wins, as in PyTorch. `taps` remembers the winner's
// place in its window.
KERNEL(max_pool_forward, (T *y, u8 *taps, const T *x, Window g, i64 n)) {
  for EACH(i, n) {
    i64 ch = i % g.c, ox = i / g.c % g.wo, oy = i / g.c / g.wo % g.ho, b = i / g.c / g.wo / g.ho;
    float best = 0;
    int tap = -1;
    for (i64 ky = 0; ky < g.kernel; ++ky)
      for (i64 kx = 0; kx < g.kernel; ++kx) {
        i64 iy = oy * g.stride + ky - g.pad, ix = ox * g.stride + kx - g.pad;
        if (iy < 0 || ix < 0 || iy >= g.h || ix >= g.w) continue;
        float v = load(x[((b * g.h + iy) * g.w + ix) * g.c + ch]);
        if (tap < 0 || v > best || v != v) {
          best = v;
          tap = ky * g.kernel + kx;
        }
      }
    y[i] = store<T>(best);
    taps[i] = tap;
  }
}

KERNEL(max_pool_backward, (T *dx, const T *dy, const u8 *taps, Window g, i64 n)) {
  for EACH(i, n) {
    i64 ch = i % g.c, ix = i / g.c % g.w, iy = i / g.c / g.w % g.h, b = i / g.c / g.w / g.h;
    float sum = 0;
    for (i64 ky = 0; ky < g.kernel; ++ky)
      for (i64 kx = 0; kx < g.kernel; ++kx) {
        i64 top = iy + g.pad - ky, left = ix + g.pad - kx;
        if (top < 0 || left < 0) continue;
        i64 oy = Index(top) / g.stride, ox = Index(left) / g.stride;
        if (oy * g.stride != top || ox * g.stride != left) continue;
        if (oy >= g.ho || ox >= g.wo) continue;
        i64 o = ((b * g.ho + oy) * g.wo + ox) * g.c + ch;
        if (taps[o] == ky * g.kernel + kx) sum += load(dy[o]);
      }
    dx[i] = store<T>(sum);
  }
}

KERNEL(mean_pool_forward, (T *y, const T *x, i64 pixels, i64 c, i64 n)) {
  for EACH(i, n) {
    i64 b = i / c, ch = i % c;
    float sum = 0;
    for (i64 p = 0; p < pixels; ++p) sum += load(x[(b * pixels + p) * c + ch]);
    y[i] = store<T>(sum / pixels);
  }
}
KERNEL(mean_pool_backward, (T *dx, const T *dy, i64 pixels, i64 c, i64 n)) {
  for EACH(i, n) dx[i] = store<T>(load(dy[i / c / pixels * c + i % c]) / pixels);
}

struct Geometry {
  i64 h, w, c, kh, kw, stride, pad, dilation, ho, wo;
};

// The window of every place as a row `[kh, kw, c]`.
KERNEL(unfold, (T *rows, const T *x, Geometry g, i64 n)) {
  for EACH(i, n) {
    Index rest = i / g.c, place = rest / g.kw / g.kh;
    i64 ch = i % g.c, kx = rest % g.kw, ky = rest / g.kw % g.kh;
    i64 ox = place % g.wo, oy = place / g.wo % g.ho, b = place / g.wo / g.ho;
    i64 iy = oy * g.stride + ky * g.dilation - g.pad, ix = ox * g.stride + kx * g.dilation - g.pad;
    bool inside = iy >= 0 && ix >= 0 && iy < g.h && ix < g.w;
    rows[i] = inside ? x[((b * g.h + iy) * g.w + ix) * g.c + ch] : store<T>(0.f);
  }
}

// The sum over all windows that a pixel is in: the transpose of `unfold`.
KERNEL(fold, (T *dx, const float *rows, Geometry g, i64 n)) {
  for EACH(i, n) {
    i64 ch = i % g.c, ix = i / g.c % g.w, iy = i / g.c / g.w % g.h, b = i / g.c / g.w / g.h;
    float sum = 0;
    for (i64 ky = 0; ky < g.kh; ++ky)
      for (i64 kx = 0; kx < g.kw; ++kx) {
        i64 top = iy + g.pad - ky * g.dilation, left = ix + g.pad - kx * g.dilation;
        if (top < 0 || left < 0) continue;
        i64 oy = Index(top) / g.stride, ox = Index(left) / g.stride;
        if (oy * g.stride != top || ox * g.stride != left) continue;
        if (oy >= g.ho || ox >= g.wo) continue;
        i64 place = (b * g.ho + oy) * g.wo + ox;
        sum += rows[((place * g.kh + ky) * g.kw + kx) * g.c + ch];
      }
    dx[i] = store<T>(sum);
  }
}

// Weights `[o, c, k]` of a file to `[o, k, c]` in the type of the activations, and the gradient back.
KERNEL(pack_weight, (T *packed, const float *w, i64 c, i64 k, i64 n)) {
  for EACH(i, n) {
    i64 ch = i % c, place = i / c % k, o = i / c / k;
    packed[i] = store<T>(w[(o * c + ch) * k + place]);
  }
}
KERNEL(unpack_weight, (float *w, const float *packed, i64 c, i64 k, i64 n)) {
  for EACH(i, n) {
    i64 place = i % k, ch = i / k % c, o = i / k / c;
    w[i] = packed[(o * k + place) * c + ch];
  }
}
