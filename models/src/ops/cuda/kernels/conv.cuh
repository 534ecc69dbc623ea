// Convolution of channels-last images by im2col.
#pragma once
#include "common.cuh"

struct Geometry {
  i64 h, w, c, kh, kw, stride, pad, dilation, ho, wo;
};

// The window of every output pixel as a row `[kh, kw, c]`.
KERNEL(im2col, (T *rows, const T *x, Geometry g, i64 n)) {
  for EACH(i, n) {
    Index rest = i / g.c, place = rest / g.kw / g.kh;
    i64 ch = i % g.c, kx = rest % g.kw, ky = rest / g.kw % g.kh;
    i64 ox = place % g.wo, oy = place / g.wo % g.ho, b = place / g.wo / g.ho;
    i64 iy = oy * g.stride + ky * g.dilation - g.pad, ix = ox * g.stride + kx * g.dilation - g.pad;
    bool inside = iy >= 0 && ix >= 0 && iy < g.h && ix < g.w;
    rows[i] = inside ? x[((b * g.h + iy) * g.w + ix) * g.c + ch] : store<T>(0.f);
  }
}

// The sum over all windows that a pixel is in: the transpose of `im2col`.
KERNEL(col2im, (T *dx, const float *rows, Geometry g, i64 n)) {
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

// Weights `[o, c, k]` of a file to `[o, k, c]` in the type of the activations, and the gradient
// back.
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
