#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "lathe.h"

#define MUST(call)                                            \
  do {                                                        \
    if ((call) != LATHE_OK) {                                 \
      fprintf(stderr, "%s: %s\n", #call, lathe_last_error()); \
      return 1;                                               \
    }                                                         \
  } while (0)

int main(void) {
  const char spec[] = "{\"group_size\": 4, \"layout\": \"ragged\", \"mask\": \"causal\"}";
  lathe_engine* engine;
  lathe_device* device;
  lathe_attention* attention;
  MUST(lathe_engine_open(&engine));
  MUST(lathe_host_device(&device)); /* on a GPU: lathe_cuda_device(0, &device) */
  MUST(lathe_attention_prepare(engine, device, spec, &attention));
  /* Two requests, one new token after 299 others and a prompt of 19, with 2 kv heads and so 8 query heads. */
  const int32_t qo_indptr[] = {0, 1, 20}, kv_indptr[] = {0, 300, 319};
  const lathe_batch batch = {.struct_size = sizeof batch, .batch = 2, .qo_indptr = qo_indptr, .kv_indptr = kv_indptr};
  lathe_plan* plan;
  MUST(lathe_attention_plan(attention, &batch, 2, &plan));
  lathe_memory* memory; /* 4 MB of workspace, then 1 MB each for q, k, v and o */
  MUST(lathe_allocate(device, 8 << 20, &memory));
  static uint8_t bytes[8 << 20];
  memset(bytes, 0x3f, sizeof bytes); /* 0x3f3f is 0.746 in bf16 */
  char* base = lathe_memory_address(memory);
  MUST(lathe_copy_in(device, base, bytes, sizeof bytes, NULL));
  MUST(lathe_attention_upload(attention, plan, base, 4 << 20, NULL));
  const int64_t of_q[] = {20, 8, 128}, of_k[] = {319, 2, 128};
  lathe_attention_args args = {.struct_size = sizeof args};
  args.q = lathe_contiguous(base + (4 << 20), 3, of_q);
  args.k = lathe_contiguous(base + (5 << 20), 3, of_k);
  args.v = lathe_contiguous(base + (6 << 20), 3, of_k);
  args.o = lathe_contiguous(base + (7 << 20), 3, of_q);
  MUST(lathe_attention_run(attention, plan, &args, base, NULL));
  uint16_t first;
  MUST(lathe_copy_out(device, &first, args.o.data, sizeof first, NULL));
  MUST(lathe_synchronize(device, NULL));
  printf("o[0] = 0x%04x: equal values average to themselves\n", first);
  lathe_plan_close(plan), lathe_attention_close(attention), lathe_free(memory);
  lathe_device_close(device), lathe_engine_close(engine);
  return first == 0x3f3f ? 0 : 1;
}
