/* lathe.h, used from C on the host executor: a batch, an envelope, a merge, an append; refusals and their text. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lathe/capi/lathe.h"

static int failures = 0;

#define CHECK(condition)                                                             \
  do {                                                                               \
    if (!(condition)) {                                                              \
      printf("%s:%d: %s; %s\n", __FILE__, __LINE__, #condition, lathe_last_error()); \
      failures++;                                                                    \
    }                                                                                \
  } while (0)

enum { HEADS = 2, GROUP = 2, DIM = 64, QO = 5, KV = 70 };

static uint16_t bf16_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return (uint16_t)(bits >> 16);
}

/* Memory for `count` bf16 elements of `value`, or of `value` times their row's number where rows have `row` elements. */
static lathe_memory* put(lathe_device* device, size_t count, size_t row, float value) {
  lathe_memory* memory = NULL;
  uint16_t* host = malloc(count * sizeof *host);
  for (size_t i = 0; i < count; ++i) host[i] = bf16_of(row == 0 ? value : value * (float)(i / row));
  CHECK(lathe_allocate(device, count * 2, &memory) == LATHE_OK);
  CHECK(lathe_copy_in(device, lathe_memory_address(memory), host, count * 2, NULL) == LATHE_OK);
  free(host);
  return memory;
}

static void expect_elements(lathe_device* device, const lathe_memory* memory, size_t count, float value) {
  uint16_t* host = malloc(count * sizeof *host);
  CHECK(lathe_copy_out(device, host, lathe_memory_address(memory), count * 2, NULL) == LATHE_OK);
  CHECK(lathe_synchronize(device, NULL) == LATHE_OK);
  size_t wrong = 0;
  for (size_t i = 0; i < count; ++i) wrong += host[i] != bf16_of(value);
  CHECK(wrong == 0);
  free(host);
}

static lathe_tensor rows(const lathe_memory* memory, int64_t n, int64_t heads) {
  const int64_t shape[] = {n, heads, DIM};
  return lathe_contiguous(lathe_memory_address(memory), 3, shape);
}

static void expect_refused(int status, const char* words) {
  CHECK(status == LATHE_INVALID_ARGUMENT);
  if (strstr(lathe_last_error(), words) == NULL) {
    printf("'%s' does not say '%s'\n", lathe_last_error(), words);
    failures++;
  }
}

static const char kSpec[] =
    "{\"group_size\": 2, \"head_dim_qk\": 64, \"head_dim_vo\": 64, \"layout\": \"ragged\", \"mask\": \"causal\", \"lse\": \"ln\"}";

/* Equal values average to themselves, whatever the weights. */
static void attend(lathe_engine* engine, lathe_device* device) {
  lathe_attention* attention = NULL;
  lathe_plan* plan = NULL;
  lathe_memory *q = put(device, QO * HEADS * GROUP * DIM, DIM, 0.01f), *k = put(device, KV * HEADS * DIM, DIM, 0.02f);
  lathe_memory *v = put(device, KV * HEADS * DIM, 0, 0.75f), *o = put(device, QO * HEADS * GROUP * DIM, 0, -1);
  lathe_memory *lse = put(device, QO * HEADS * GROUP * 2, 0, -1), *workspace = NULL;
  const int32_t qo_indptr[] = {0, 1, QO}, kv_indptr[] = {0, 50, KV};
  lathe_batch batch = {.struct_size = sizeof batch, .batch = 2, .qo_indptr = qo_indptr, .kv_indptr = kv_indptr};
  const int64_t lse_shape[] = {QO, HEADS * GROUP};
  lathe_attention_args args = {.struct_size = sizeof args};
  args.q = rows(q, QO, HEADS * GROUP), args.o = rows(o, QO, HEADS * GROUP);
  args.k = rows(k, KV, HEADS), args.v = rows(v, KV, HEADS);
  args.lse = lathe_contiguous(lathe_memory_address(lse), 2, lse_shape);

  CHECK(lathe_attention_prepare(engine, device, kSpec, &attention) == LATHE_OK);
  CHECK(lathe_attention_plan(attention, &batch, HEADS, &plan) == LATHE_OK);
  CHECK(lathe_plan_workspace_bytes(plan) > 0);
  CHECK(lathe_allocate(device, lathe_plan_workspace_bytes(plan), &workspace) == LATHE_OK);
  void* memory = lathe_memory_address(workspace);
  CHECK(lathe_attention_upload(attention, plan, memory, lathe_plan_workspace_bytes(plan), NULL) == LATHE_OK);
  CHECK(lathe_attention_run(attention, plan, &args, memory, NULL) == LATHE_OK);
  expect_elements(device, o, QO * HEADS * GROUP * DIM, 0.75f);

  /* The same through an envelope, twice, which asks for no more. */
  lathe_bounds bounds = {
      .struct_size = sizeof bounds, .num_kv_heads = HEADS, .max_batch = 2, .max_qo_tokens = QO, .max_kv_entries = KV};
  lathe_envelope* envelope = NULL;
  lathe_memory* room = NULL;
  CHECK(lathe_envelope_open(attention, &bounds, &envelope) == LATHE_OK);
  const size_t bytes = lathe_envelope_workspace_bytes(envelope);
  CHECK(lathe_allocate(device, bytes, &room) == LATHE_OK);
  CHECK(lathe_envelope_prepare_workspace(envelope, lathe_memory_address(room), bytes, NULL) == LATHE_OK);
  for (int step = 0; step < 2; ++step) {
    lathe_memory* out = put(device, QO * HEADS * GROUP * DIM, 0, -1);
    args.o = rows(out, QO, HEADS * GROUP);
    CHECK(lathe_envelope_plan(envelope, &batch, lathe_memory_address(room), bytes, NULL) == LATHE_OK);
    CHECK(lathe_envelope_run(envelope, &args, lathe_memory_address(room), NULL) == LATHE_OK);
    expect_elements(device, out, QO * HEADS * GROUP * DIM, 0.75f);
    lathe_free(out);
  }

  /* Refusals. */
  lathe_attention* none = NULL;
  expect_refused(lathe_attention_prepare(engine, device, "{\"head_dim_qk\": 24}", &none), "head_dim_qk: 24 is not allowed");
  expect_refused(lathe_attention_prepare(NULL, device, NULL, &none), "engine: is null");
  CHECK(none == NULL);
  batch.struct_size = 3;
  expect_refused(lathe_attention_plan(attention, &batch, HEADS, &plan), "batch.struct_size: is 3");
  batch.struct_size = sizeof batch;
  expect_refused(lathe_attention_plan(attention, NULL, HEADS, &plan), "batch: is null");
  const int32_t falling[] = {0, 60, 50};
  batch.kv_indptr = falling;
  expect_refused(lathe_attention_plan(attention, &batch, HEADS, &plan), "kv_indptr[2]");
  args.k.shape[1] = 3;
  expect_refused(lathe_attention_run(attention, plan, &args, memory, NULL), "k: dimension 1 is 3, must be 2");
  /* A caller of a later version, whose structure goes on: zero is fine, anything else is not known here. */
  struct {
    lathe_attention_args known;
    int64_t later;
  } longer = {args, 0};
  longer.known.struct_size = sizeof longer;
  longer.known.k.shape[1] = HEADS;
  longer.known.o = rows(o, QO, HEADS * GROUP);
  CHECK(lathe_attention_run(attention, plan, &longer.known, memory, NULL) == LATHE_OK);
  longer.later = 1;
  expect_refused(lathe_attention_run(attention, plan, &longer.known, memory, NULL), "args.struct_size");

  lathe_envelope_close(envelope);
  lathe_plan_close(plan);
  lathe_attention_close(attention);
  lathe_memory* all[] = {q, k, v, o, lse, workspace, room};
  for (size_t i = 0; i < sizeof all / sizeof *all; ++i) lathe_free(all[i]);
}

static void merge(lathe_engine* engine, lathe_device* device) {
  lathe_merge* kernel = NULL;
  lathe_memory *o = put(device, 2 * 3 * DIM, 0, 0.5f), *lse = put(device, 2 * 3 * 2, 0, 0), *out = put(device, 3 * DIM, 0, -1);
  lathe_memory* sizes = NULL;
  const int32_t counts[] = {3, 2};
  CHECK(lathe_allocate(device, sizeof counts, &sizes) == LATHE_OK);
  CHECK(lathe_copy_in(device, lathe_memory_address(sizes), counts, sizeof counts, NULL) == LATHE_OK);
  const int64_t states[] = {2, 3, 1, DIM}, of_lse[] = {2, 3, 1}, merged[] = {3, 1, DIM};
  lathe_merge_args args = {.struct_size = sizeof args};
  args.o = lathe_contiguous(lathe_memory_address(o), 4, states);
  args.lse = lathe_contiguous(lathe_memory_address(lse), 3, of_lse);
  args.merged_o = lathe_contiguous(lathe_memory_address(out), 3, merged);
  args.sizes = lathe_memory_address(sizes);
  CHECK(lathe_merge_prepare(engine, device, "{\"op\": \"merge\", \"head_dim\": 64}", &kernel) == LATHE_OK);
  CHECK(lathe_merge_run(kernel, &args, NULL) == LATHE_OK);
  expect_elements(device, out, 3 * DIM, 0.5f);
  args.sizes = NULL;
  expect_refused(lathe_merge_run(kernel, &args, NULL), "sizes: is null");
  lathe_merge_close(kernel);
  /* With hooks: o * c + g[tok, h]. */
  args.sizes = lathe_memory_address(sizes);
  CHECK(lathe_merge_prepare(engine, device,
                            "{\"op\": \"merge\", \"head_dim\": 64, \"hooks\": \"param c: f32; tensor g: f32[TOK, HQ]; output = o * c + g[tok, h]\"}",
                            &kernel) == LATHE_OK);
  expect_refused(lathe_merge_run(kernel, &args, NULL), "hook_params.c: is missing");
  lathe_memory* g = put(device, 2 * 3, 0, 0); /* zeros, whatever the type */
  const int64_t of_g[] = {3, 1};
  const lathe_hook_param param = {.name = "c", .value = 4};
  const lathe_hook_tensor tensor = {.name = "g", .tensor = lathe_contiguous(lathe_memory_address(g), 2, of_g)};
  args.hook_params = &param, args.num_hook_params = 1;
  args.hook_tensors = &tensor, args.num_hook_tensors = 1;
  CHECK(lathe_merge_run(kernel, &args, NULL) == LATHE_OK);
  expect_elements(device, out, 3 * DIM, 2);
  /* A caller of before there were hooks gives a shorter structure. */
  args.struct_size = offsetof(lathe_merge_args, hook_params);
  expect_refused(lathe_merge_run(kernel, &args, NULL), "hook_tensors.g: is missing");
  lathe_merge_close(kernel);
  lathe_free(g);
  lathe_free(o), lathe_free(lse), lathe_free(out), lathe_free(sizes);
}

static void append(lathe_engine* engine, lathe_device* device) {
  lathe_append* kernel = NULL;
  lathe_memory *k = put(device, 4 * DIM, 0, 0.5f), *v = put(device, 4 * DIM, 0, 0.25f);
  lathe_memory *k_cache = put(device, 16 * DIM, 0, 0.5f), *v_cache = put(device, 16 * DIM, 0, 0.25f), *slots = NULL;
  const int64_t places[] = {3, 9, -1, 15}, pages[] = {4, 4, 1, DIM};
  CHECK(lathe_allocate(device, sizeof places, &slots) == LATHE_OK);
  CHECK(lathe_copy_in(device, lathe_memory_address(slots), places, sizeof places, NULL) == LATHE_OK);
  lathe_append_args args = {.struct_size = sizeof args};
  args.k = rows(k, 4, 1), args.v = rows(v, 4, 1);
  args.k_cache = lathe_contiguous(lathe_memory_address(k_cache), 4, pages);
  args.v_cache = lathe_contiguous(lathe_memory_address(v_cache), 4, pages);
  args.slot_mapping = lathe_memory_address(slots);
  const char spec[] = "{\"op\": \"append\", \"head_dim_qk\": 64, \"head_dim_vo\": 64, \"layout\": {\"page_size\": 4}}";
  CHECK(lathe_append_prepare(engine, device, spec, &kernel) == LATHE_OK);
  CHECK(lathe_append_run(kernel, &args, NULL) == LATHE_OK);
  expect_elements(device, k_cache, 16 * DIM, 0.5f);
  expect_elements(device, v_cache, 16 * DIM, 0.25f);
  /* Other values, in place 9 alone. */
  lathe_memory* other = put(device, 4 * DIM, 0, 2);
  args.k = rows(other, 4, 1);
  CHECK(lathe_append_run(kernel, &args, NULL) == LATHE_OK);
  uint16_t stored[16 * DIM];
  CHECK(lathe_copy_out(device, stored, lathe_memory_address(k_cache), sizeof stored, NULL) == LATHE_OK);
  CHECK(stored[9 * DIM] == bf16_of(2) && stored[8 * DIM] == bf16_of(0.5f) && stored[15 * DIM + 63] == bf16_of(2));
  args.positions = (const int32_t*)lathe_memory_address(slots);
  expect_refused(lathe_append_run(kernel, &args, NULL), "positions: is given");
  lathe_append_close(kernel);
  lathe_memory* all[] = {k, v, k_cache, v_cache, slots, other};
  for (size_t i = 0; i < sizeof all / sizeof *all; ++i) lathe_free(all[i]);
}

/* CUDA text: refused unless the engine was opened for it and the call asks for it. */
static void unsafe_cuda(lathe_device* device) {
  static const char kCuda[] =
      "{\"head_dim_qk\": 64, \"head_dim_vo\": 64, \"hooks\": \"mask = unsafe_cuda(\\\"return a0 <= a1;\\\", kv_pos, q_pos)\"}";
  static const char kMerge[] = "{\"op\": \"merge\", \"hooks\": \"output = unsafe_cuda(\\\"return -a0;\\\", o)\"}";
  lathe_attention* attention = NULL;
  lathe_merge* merge = NULL;
  for (int32_t allows = 0; allows <= 1; ++allows) {
    lathe_engine* engine = NULL;
    const lathe_engine_options options = {.struct_size = sizeof options, .unsafe_cuda = allows};
    CHECK(lathe_engine_open_with(&options, &engine) == LATHE_OK);
    expect_refused(lathe_attention_prepare(engine, device, kCuda, &attention), "PrepareOptions::unsafe_cuda");
    lathe_prepare_options prepare = {.struct_size = sizeof prepare};
    expect_refused(lathe_attention_prepare_with(engine, device, kCuda, &prepare, &attention), "PrepareOptions::unsafe_cuda");
    prepare.unsafe_cuda = 2;
    expect_refused(lathe_attention_prepare_with(engine, device, kCuda, &prepare, &attention), "options.unsafe_cuda: is 2; allowed: 0, 1");
    prepare.unsafe_cuda = 1;
    if (allows == 0) {
      expect_refused(lathe_attention_prepare_with(engine, device, kCuda, &prepare, &attention), "EngineOptions::unsafe_cuda");
    } else {
      CHECK(lathe_attention_prepare_with(engine, device, kCuda, &prepare, &attention) == LATHE_OK);
      lathe_attention_close(attention);
    }
    expect_refused(lathe_merge_prepare(engine, device, kMerge, &merge), "PrepareOptions::unsafe_cuda");
    expect_refused(lathe_merge_prepare_with(engine, device, kMerge, NULL, &merge), "options: is null");
    if (allows == 0) {
      expect_refused(lathe_merge_prepare_with(engine, device, kMerge, &prepare, &merge), "EngineOptions::unsafe_cuda");
    } else {
      CHECK(lathe_merge_prepare_with(engine, device, kMerge, &prepare, &merge) == LATHE_OK);
      lathe_merge_close(merge);
    }
    lathe_engine_close(engine);
  }
  lathe_engine* engine = NULL;
  expect_refused(lathe_engine_open_with(NULL, &engine), "options: is null");
  const lathe_engine_options wrong = {.struct_size = sizeof wrong, .unsafe_cuda = -1};
  expect_refused(lathe_engine_open_with(&wrong, &engine), "options.unsafe_cuda: is -1; allowed: 0, 1");
  CHECK(lathe_engine_open(&engine) == LATHE_OK);
  expect_refused(lathe_attention_prepare(engine, device, kCuda, &attention), "PrepareOptions::unsafe_cuda");
  lathe_engine_close(engine);
}

int main(void) {
  lathe_engine* engine = NULL;
  lathe_device* device = NULL;
  CHECK(strlen(lathe_version()) >= 5);
  CHECK(strcmp(lathe_last_error(), "") == 0);
  expect_refused(lathe_engine_open(NULL), "out: is null");
  CHECK(lathe_engine_open(&engine) == LATHE_OK);
  CHECK(lathe_host_device(&device) == LATHE_OK);
  CHECK(strcmp(lathe_device_arch(device), "host") == 0);
  attend(engine, device);
  merge(engine, device);
  append(engine, device);
  unsafe_cuda(device);
  lathe_engine_close(engine);
  lathe_device_close(device);
  lathe_engine_close(NULL), lathe_device_close(NULL), lathe_free(NULL), lathe_plan_close(NULL);
  printf(failures == 0 ? "all right\n" : "%d failed\n", failures);
  return failures == 0 ? 0 : 1;
}
