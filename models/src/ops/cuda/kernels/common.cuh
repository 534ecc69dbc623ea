// Shared by all kernels: storage types, and sums over a block.
//
// This file is compiled once for each way that activations are stored; arithmetic is in float
// throughout.
//   STORED 0: float, 1: bfloat16, 2: half
#pragma once

#ifndef EMULATED
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define KERNEL(name, arguments) extern "C" __global__ void name arguments
// For blocks of up to so many threads, of which a multiprocessor should hold so many at least.
#define BOUNDED_KERNEL(name, threads, blocks, arguments)                                                               \
  extern "C" __global__ void __launch_bounds__(threads, blocks) name arguments
// Fragments are loaded and rows copied from multiples of 16 bytes.
#define SHARED_BYTES(name) extern __shared__ __align__(128) unsigned char name[]
#endif

#if STORED == 0
typedef float T;
#elif STORED == 1
typedef __nv_bfloat16 T;
#else
typedef __half T;
#endif

__device__ __forceinline__ float load(float x) { return x; }
__device__ __forceinline__ float load(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float load(__half x) { return __half2float(x); }

template <class S> __device__ __forceinline__ S store(float x);
template <> __device__ __forceinline__ float store<float>(float x) { return x; }
template <> __device__ __forceinline__ __nv_bfloat16 store<__nv_bfloat16>(float x) { return __float2bfloat16(x); }
template <> __device__ __forceinline__ __half store<__half>(float x) { return __float2half(x); }

typedef long long i64;
typedef unsigned int u32;
typedef unsigned char u8;

// A place among many. Division in 64 bits is slow on a GPU, and few tensors need it.
struct Index {
  i64 at;
  __device__ __forceinline__ Index(i64 at) : at(at) {}
  __device__ __forceinline__ operator i64() const { return at; }
  __device__ __forceinline__ Index &operator+=(i64 by) {
    at += by;
    return *this;
  }
};
__device__ __forceinline__ Index operator/(Index a, i64 b) {
  return ((a.at | b) >> 32) == 0 ? (i64)((u32)a.at / (u32)b) : a.at / b;
}
__device__ __forceinline__ Index operator%(Index a, i64 b) {
  return ((a.at | b) >> 32) == 0 ? (i64)((u32)a.at % (u32)b) : a.at % b;
}

// Eight numbers at a time, from and to addresses that are multiples of 16.
template <class S> __device__ __forceinline__ void load8(float (&to)[8], const S *from) {
  __align__(16) S x[8];
#pragma unroll
  for (int k = 0; k < 8; k += 16 / sizeof(S)) *(uint4 *)(x + k) = *(const uint4 *)(from + k);
#pragma unroll
  for (int k = 0; k < 8; ++k) to[k] = load(x[k]);
}
template <class S> __device__ __forceinline__ void store8(S *to, const float (&from)[8]) {
  __align__(16) S x[8];
#pragma unroll
  for (int k = 0; k < 8; ++k) x[k] = store<S>(from[k]);
#pragma unroll
  for (int k = 0; k < 8; k += 16 / sizeof(S)) *(uint4 *)(to + k) = *(uint4 *)(x + k);
}
// Whether rows of so many numbers at these addresses (or none) can be taken like that.
template <class... P> __device__ __forceinline__ bool eights(i64 width, const P *...at) {
  return width % 8 == 0 && ((0 | ... | (unsigned long long)at)) % 16 == 0;
}

// The place of this thread among all, and those a whole grid further on: `for EACH(i, n)` goes
// through n elements.
#define EACH(i, n)                                                                                                     \
  (Index i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i.at < (n); i += (i64)gridDim.x * blockDim.x)

// Sums over the threads of a block (at most 1024, whole warps); every thread gets the result.
__device__ __forceinline__ float warp_sum(float x) {
  for (int other = 16; other > 0; other >>= 1) x += __shfl_xor_sync(0xffffffffu, x, other);
  return x;
}

__device__ __forceinline__ float block_sum(float x) {
  __shared__ float parts[32];
  x = warp_sum(x);
  __syncthreads();
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  float total = 0;
  for (int i = 0; i < (int)(blockDim.x / 32); ++i) total += parts[i];
  return total;
}

__device__ __forceinline__ float block_max(float x) {
  __shared__ float parts[32];
  for (int other = 16; other > 0; other >>= 1) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, other));
  __syncthreads();
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  float best = parts[0];
  for (int i = 1; i < (int)(blockDim.x / 32); ++i) best = fmaxf(best, parts[i]);
  return best;
}

// Four numbers at a time, from and to addresses that are multiples of four of them.
template <class S> struct alignas(4 * sizeof(S)) Four {
  S x[4];
};
template <class S> __device__ __forceinline__ void load4(float (&to)[4], const S *from) {
  Four<S> v = *(const Four<S> *)from;
#pragma unroll
  for (int k = 0; k < 4; ++k) to[k] = load(v.x[k]);
}
template <class S> __device__ __forceinline__ void store4(S *to, const float (&from)[4]) {
  Four<S> v;
#pragma unroll
  for (int k = 0; k < 4; ++k) v.x[k] = store<S>(from[k]);
  *(Four<S> *)to = v;
}
