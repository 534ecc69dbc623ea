/* Records the kernels, copies and fills of a CUDA program with CUPTI; the program needs no change.
 *
 *   gcc -O2 -shared -fPIC bench/cuda/kernel_trace.c -I $CUDA/include -L $CUDA/lib64 -lcupti -o kernel_trace.so
 *   CUDA_INJECTION64_PATH=$PWD/kernel_trace.so KERNEL_TRACE=trace.tsv program
 *
 * Each line of the trace has, separated by tabs: start and end in nanoseconds, kind, size (bytes of a copy or fill,
 * threads of a kernel), name. With KERNEL_TRACE_CALLS=1 the calls of the driver are recorded as well, kind `call`.
 * `bench/scripts/gpu_check.py --trace` sums them up.
 */
#include <cupti.h>
#include <stdio.h>
#include <stdlib.h>

#define BUFFER_BYTES (8 << 20)

static FILE *out;

static void CUPTIAPI request_buffer(uint8_t **buffer, size_t *size, size_t *max_records) {
  *size = BUFFER_BYTES;
  *buffer = aligned_alloc(8, *size);
  *max_records = 0;
}

static void write_line(uint64_t start, uint64_t end, const char *kind, uint64_t size, const char *name) {
  fprintf(out, "%llu\t%llu\t%s\t%llu\t%s\n", (unsigned long long)start, (unsigned long long)end, kind,
          (unsigned long long)size, name);
}

static void write_record(const CUpti_Activity *record) {
  switch (record->kind) {
  case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL: {
    const CUpti_ActivityKernel10 *k = (const CUpti_ActivityKernel10 *)record;
    uint64_t threads = (uint64_t)k->gridX * k->gridY * k->gridZ * k->blockX * k->blockY * k->blockZ;
    write_line(k->start, k->end, "kernel", threads, k->name);
    break;
  }
  case CUPTI_ACTIVITY_KIND_MEMCPY: {
    const CUpti_ActivityMemcpy6 *c = (const CUpti_ActivityMemcpy6 *)record;
    write_line(c->start, c->end, "copy", c->bytes, "copy");
    break;
  }
  case CUPTI_ACTIVITY_KIND_MEMSET: {
    const CUpti_ActivityMemset4 *f = (const CUpti_ActivityMemset4 *)record;
    write_line(f->start, f->end, "fill", f->bytes, "fill");
    break;
  }
  case CUPTI_ACTIVITY_KIND_DRIVER: {
    const CUpti_ActivityAPI *a = (const CUpti_ActivityAPI *)record;
    const char *name = "unknown";
    cuptiGetCallbackName(CUPTI_CB_DOMAIN_DRIVER_API, a->cbid, &name);
    write_line(a->start, a->end, "call", a->threadId, name);
    break;
  }
  default:
    break;
  }
}

static void CUPTIAPI complete_buffer(CUcontext context, uint32_t stream, uint8_t *buffer, size_t size, size_t valid) {
  CUpti_Activity *record = NULL;
  while (cuptiActivityGetNextRecord(buffer, valid, &record) == CUPTI_SUCCESS) write_record(record);
  free(buffer);
}

static void finish(void) {
  cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
  fclose(out);
}

/* Called by the driver when the program starts to use it. */
int InitializeInjection(void) {
  const char *path = getenv("KERNEL_TRACE");
  out = fopen(path ? path : "kernel_trace.tsv", "w");
  if (!out) return 0;
  cuptiActivityRegisterCallbacks(request_buffer, complete_buffer);
  cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL);
  cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMCPY);
  cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMSET);
  if (getenv("KERNEL_TRACE_CALLS")) cuptiActivityEnable(CUPTI_ACTIVITY_KIND_DRIVER);
  atexit(finish);
  return 1;
}
