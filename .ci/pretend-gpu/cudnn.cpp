// As much of cuDNN as convolutions in training use, by plain loops over channels-last pictures and kernels. Three algorithms
// are proposed for each pass: one that wants more memory than there is, one that turns out not to work for pictures of an odd
// width and where there is something to add to, and one that does; its workspace is written to, so that one too small shows. An algorithm wants the kind of arithmetic
// that it was proposed with. Dilated convolutions are refused, some when they are asked for and some when they are run.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "emulated.h"

extern "C" int cuCtxGetCurrent(void **context);

namespace {
struct Shape {
  int n = 0, c = 0, h = 0, w = 0, type = -1;
  size_t at(int i, int y, int x, int ch) const { return (((size_t)i * h + y) * w + x) * c + ch; }
  size_t count() const { return (size_t)n * c * h * w; }
};
struct Rule {
  int pad = -1, stride = 0, dilation = 0, math = -1;
};
constexpr int PROPOSED = 3, PICKY = 1, CHOSEN = 2;
constexpr size_t WORKSPACE = 4096;
constexpr int NOT_SUPPORTED = 3000;

int refuse(const char *why) { return fprintf(stderr, "pretend cuDNN: %s\n", why), 2000; }

int set_shape(Shape *s, int format, int type, int n, int c, int h, int w) {
  if (format != 1) return refuse("a layout that is not channels-last");
  // 0: single precision, 2: half, 9: bfloat16, as cudnnDataType_t counts.
  if (type != 0 && type != 2 && type != 9) return refuse("an element type");
  *s = {n, c, h, w, type};
  return 0;
}

double number(const void *p, int type, size_t i) {
  if (type == 0) return ((const float *)p)[i];
  return type == 2 ? __half2float(((const __half *)p)[i]) : __bfloat162float(((const __nv_bfloat16 *)p)[i]);
}
void put(void *p, int type, size_t i, float value, float beta) {
  if (beta != 0) value += beta * (float)number(p, type, i);
  if (type == 0) ((float *)p)[i] = value;
  if (type == 2) ((__half *)p)[i] = __float2half(value);
  if (type == 9) ((__nv_bfloat16 *)p)[i] = __float2bfloat16(value);
}

// Whether shapes, rule and types belong together.
int check(const Shape *x, const Shape *w, const Rule *r, const Shape *y) {
  auto size = [&](int in, int k) { return (in + 2 * r->pad - (r->dilation * (k - 1) + 1)) / r->stride + 1; };
  if (x->type != w->type || x->type != y->type || r->math < 0) return refuse("descriptors that are not set");
  if (x->n != y->n || x->c != w->c || y->c != w->n) return refuse("shapes that do not belong together");
  if (y->h != size(x->h, w->h) || y->w != size(x->w, w->w)) return refuse("a result of another size");
  return 0;
}
// As it is asked for: tensor cores where numbers are narrow; in single precision only what was asked for.
int check_asked(const Shape *x, const Shape *w, const Rule *r, const Shape *y) {
  if (int bad = check(x, w, r, y)) return bad;
  if ((x->type == 0) == (r->math == 1)) return refuse("a kind of arithmetic that does not fit the type");
  return r->dilation > 1 && r->pad > 0 ? NOT_SUPPORTED : 0;
}

struct Proposal {
  int algorithm, status;
  float time;
  size_t memory;
  int determinism, math, reserved[3];
};
// The kind that an algorithm is proposed with: another one than was asked for, where that is allowed.
int math_of(const Shape *x, int asked) { return x->type == 0 ? asked : 0; }
int propose(const Shape *x, const Rule *r, int asked, int *count, Proposal *found) {
  if (asked < PROPOSED) return refuse("room for too few algorithms");
  *count = PROPOSED;
  int math = math_of(x, r->math);
  found[0] = {0, 0, 1.0f, (size_t)64 << 30, 1, math, {}};
  found[1] = {PICKY, 0, 2.0f, WORKSPACE, 1, math, {}};
  found[2] = {CHOSEN, 0, 3.0f, WORKSPACE, 1, math, {}};
  return 0;
}
int begin(const Shape *x, const Rule *r, int algorithm, void *work, size_t bytes, const float *alpha, const float *beta) {
  void *context = nullptr;
  cuCtxGetCurrent(&context);
  if (!context) return refuse("a thread without a context");
  if (x->type != 0 && r->math != math_of(x, r->math)) return refuse("another kind of arithmetic than an algorithm was proposed with");
  if (algorithm == PICKY && (x->w % 2 || *beta != 0)) return NOT_SUPPORTED;
  if (r->dilation > 1) return NOT_SUPPORTED;
  if (algorithm < PICKY || bytes < WORKSPACE || !work || *alpha != 1) return refuse("an algorithm without its memory");
  emulated_do([=] { memset(work, 0xff, WORKSPACE); });
  return 0;
}

// Calls `f(picture, y, x, row of the kernel, column, row of the result, column)` for all that meet.
template <class F> void meet(const Shape &x, const Shape &w, const Rule &r, const Shape &y, F f) {
  for (int i = 0; i < y.n; ++i)
    for (int oy = 0; oy < y.h; ++oy)
      for (int ox = 0; ox < y.w; ++ox)
        for (int ky = 0; ky < w.h; ++ky)
          for (int kx = 0; kx < w.w; ++kx) {
            int iy = oy * r.stride + ky * r.dilation - r.pad, ix = ox * r.stride + kx * r.dilation - r.pad;
            if (iy >= 0 && ix >= 0 && iy < x.h && ix < x.w) f(i, iy, ix, ky, kx, oy, ox);
          }
}
} // namespace

extern "C" {
int cudnnCreate(void **handle) { return *handle = (void *)56, 0; }
int cudnnDestroy(void *) { return 0; }
int cudnnSetStream(void *, void *) { return 0; }
int cudnnCreateTensorDescriptor(Shape **s) { return *s = new Shape, 0; }
int cudnnDestroyTensorDescriptor(Shape *s) { return delete s, 0; }
int cudnnSetTensor4dDescriptor(Shape *s, int format, int type, int n, int c, int h, int w) {
  return set_shape(s, format, type, n, c, h, w);
}
int cudnnCreateFilterDescriptor(Shape **s) { return *s = new Shape, 0; }
int cudnnDestroyFilterDescriptor(Shape *s) { return delete s, 0; }
int cudnnSetFilter4dDescriptor(Shape *s, int type, int format, int k, int c, int h, int w) {
  return set_shape(s, format, type, k, c, h, w);
}
int cudnnCreateConvolutionDescriptor(Rule **r) { return *r = new Rule, 0; }
int cudnnDestroyConvolutionDescriptor(Rule *r) { return delete r, 0; }
int cudnnSetConvolution2dDescriptor(Rule *r, int ph, int pw, int sh, int sw, int dh, int dw, int mode, int compute) {
  if (ph != pw || sh != sw || dh != dw || mode != 1 || compute != 0) return refuse("a rule");
  *r = {ph, sh, dh, r->math};
  return 0;
}
int cudnnSetConvolutionMathType(Rule *r, int math) { return r->math = math, 0; }

int cudnnGetConvolutionForwardAlgorithm_v7(void *, Shape *x, Shape *w, Rule *r, Shape *y, int asked, int *count,
                                           Proposal *found) {
  int bad = check_asked(x, w, r, y);
  return bad ? bad : propose(x, r, asked, count, found);
}
int cudnnGetConvolutionBackwardDataAlgorithm_v7(void *, Shape *w, Shape *dy, Rule *r, Shape *dx, int asked, int *count,
                                                Proposal *found) {
  int bad = check_asked(dx, w, r, dy);
  return bad ? bad : propose(dx, r, asked, count, found);
}
int cudnnGetConvolutionBackwardFilterAlgorithm_v7(void *, Shape *x, Shape *dy, Rule *r, Shape *dw, int asked, int *count,
                                                  Proposal *found) {
  int bad = check_asked(x, dw, r, dy);
  return bad ? bad : propose(x, r, asked, count, found);
}

int cudnnConvolutionForward(void *, const float *alpha, Shape *x, const void *xs, Shape *w, const void *ws, Rule *r,
                            int algorithm, void *work, size_t bytes, const float *beta, Shape *y, void *ys) {
  if (int bad = check(x, w, r, y)) return bad;
  if (int bad = begin(x, r, algorithm, work, bytes, alpha, beta)) return bad;
  emulated_do([=, x = *x, w = *w, r = *r, y = *y, scale = *beta] {
    std::vector<double> sums(y.count());
    meet(x, w, r, y, [&](int i, int iy, int ix, int ky, int kx, int oy, int ox) {
      for (int o = 0; o < y.c; ++o)
        for (int c = 0; c < x.c; ++c)
          sums[y.at(i, oy, ox, o)] += number(xs, x.type, x.at(i, iy, ix, c)) * number(ws, w.type, w.at(o, ky, kx, c));
    });
    for (size_t i = 0; i < sums.size(); ++i) put(ys, y.type, i, (float)sums[i], scale);
  });
  return 0;
}
int cudnnConvolutionBackwardData(void *, const float *alpha, Shape *w, const void *ws, Shape *dy, const void *dys, Rule *r,
                                 int algorithm, void *work, size_t bytes, const float *beta, Shape *dx, void *dxs) {
  if (int bad = check(dx, w, r, dy)) return bad;
  if (int bad = begin(dx, r, algorithm, work, bytes, alpha, beta)) return bad;
  emulated_do([=, w = *w, dy = *dy, r = *r, dx = *dx, scale = *beta] {
    std::vector<double> sums(dx.count());
    meet(dx, w, r, dy, [&](int i, int iy, int ix, int ky, int kx, int oy, int ox) {
      for (int o = 0; o < dy.c; ++o)
        for (int c = 0; c < dx.c; ++c)
          sums[dx.at(i, iy, ix, c)] += number(dys, dy.type, dy.at(i, oy, ox, o)) * number(ws, w.type, w.at(o, ky, kx, c));
    });
    for (size_t i = 0; i < sums.size(); ++i) put(dxs, dx.type, i, (float)sums[i], scale);
  });
  return 0;
}
int cudnnConvolutionBackwardFilter(void *, const float *alpha, Shape *x, const void *xs, Shape *dy, const void *dys, Rule *r,
                                   int algorithm, void *work, size_t bytes, const float *beta, Shape *dw, void *dws) {
  if (int bad = check(x, dw, r, dy)) return bad;
  if (int bad = begin(x, r, algorithm, work, bytes, alpha, beta)) return bad;
  emulated_do([=, x = *x, dy = *dy, r = *r, dw = *dw, scale = *beta] {
    std::vector<double> sums(dw.count());
    meet(x, dw, r, dy, [&](int i, int iy, int ix, int ky, int kx, int oy, int ox) {
      for (int o = 0; o < dy.c; ++o)
        for (int c = 0; c < x.c; ++c)
          sums[dw.at(o, ky, kx, c)] += number(dys, dy.type, dy.at(i, oy, ox, o)) * number(xs, x.type, x.at(i, iy, ix, c));
    });
    for (size_t i = 0; i < sums.size(); ++i) put(dws, dw.type, i, (float)sums[i], scale);
  });
  return 0;
}
}
