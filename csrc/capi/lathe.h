/* Lathe in C: opaque handles, plain structures, an int for the outcome.
 *
 *   lathe_engine* engine;            lathe_engine_open(&engine);
 *   lathe_device* device;            lathe_host_device(&device);                  or lathe_cuda_device(0, &device)
 *   lathe_attention* attention;      lathe_attention_prepare(engine, device, "{\"mask\": \"causal\"}", &attention);
 *   lathe_plan* plan;                lathe_attention_plan(attention, &batch, num_kv_heads, &plan);
 *                                    lathe_attention_upload(attention, plan, workspace, bytes, stream);
 *                                    lathe_attention_run(attention, plan, &args, workspace, stream);
 *
 * Every function but the closing ones returns a lathe_status; after one that is not 0, lathe_last_error() is its text, which names
 * the argument, its value and what is allowed. Specs are JSON (docs/spec.md). What the calls mean is told beside the C++ functions
 * of the same names (csrc/api).
 *
 * Structures begin with their size as the caller knows it: set it to sizeof and the rest to zero. A later version may have more
 * members at the end; those that a caller does not know are zero. Handles are made by functions that write through their last
 * argument, and given back by the closing functions, which take NULL too. Handles of kernels and envelopes may be used by many
 * threads at once; a plan by one. A handle keeps what it was made from.
 */
#ifndef LATHE_H
#define LATHE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum lathe_status {
  LATHE_OK = 0,
  LATHE_INVALID_ARGUMENT = 1, /* the caller's mistake */
  LATHE_UNSUPPORTED = 2,
  LATHE_UNAVAILABLE = 3, /* a part is missing: no NVRTC, no driver, no host compiler */
  LATHE_COMPILE_FAILED = 4,
  LATHE_LAUNCH_FAILED = 5,
  LATHE_DEVICE_LOST = 6,
  LATHE_RESOURCE_EXHAUSTED = 7,
  LATHE_INTERNAL = 8
} lathe_status;

typedef struct lathe_engine lathe_engine;
typedef struct lathe_device lathe_device;
typedef struct lathe_memory lathe_memory;
typedef struct lathe_attention lathe_attention;
typedef struct lathe_plan lathe_plan;
typedef struct lathe_envelope lathe_envelope;
typedef struct lathe_merge lathe_merge;
typedef struct lathe_append lathe_append;

/* A stream of the device (CUstream); NULL: its default stream, and the host executor's only one. */
typedef void* lathe_stream;

/* Of the last call of this thread that failed; "" when none did. Valid until the next one that does. */
const char* lathe_last_error(void);
/* "0.1.0" */
const char* lathe_version(void);

/* Cache, compilers and templates as the environment says (README, "Knobs"). */
int lathe_engine_open(lathe_engine** out);
typedef struct lathe_engine_options {
  size_t struct_size;
  int32_t unsafe_cuda; /* 0 or 1: kernels may hold CUDA text of callers, which runs as it stands; each call must ask for it too */
} lathe_engine_options;
int lathe_engine_open_with(const lathe_engine_options* options, lathe_engine** out);
void lathe_engine_close(lathe_engine* engine);

int lathe_host_device(lathe_device** out);
int lathe_cuda_device(int ordinal, lathe_device** out);
/* "sm_90a" or "host"; valid while the device is open. */
const char* lathe_device_arch(const lathe_device* device);
void lathe_device_close(lathe_device* device);

/* Memory of the device, 1024-byte aligned. Other memory of the same device serves as well. */
int lathe_allocate(lathe_device* device, size_t bytes, lathe_memory** out);
void* lathe_memory_address(const lathe_memory* memory);
void lathe_free(lathe_memory* memory);
int lathe_copy_in(lathe_device* device, void* to, const void* host, size_t bytes, lathe_stream stream);
int lathe_copy_out(lathe_device* device, void* host, const void* from, size_t bytes, lathe_stream stream);
int lathe_synchronize(lathe_device* device, lathe_stream stream);

/* Strides are in elements, the innermost is 1. rank 0: no tensor. */
typedef struct lathe_tensor {
  void* data;
  int32_t rank;
  int64_t shape[5];
  int64_t stride[5];
} lathe_tensor;

/* A contiguous tensor of `rank` at most 5. */
lathe_tensor lathe_contiguous(void* data, int32_t rank, const int64_t* shape);

/* Scales and zero-points of keys or values of 8 bits (docs/kv-formats.md). */
typedef struct lathe_kv_scales {
  float scale; /* 0: 1 */
  lathe_tensor token_scale, channel_scale, zero;
} lathe_kv_scales;

/* Values of a spec's hooks, by name. */
typedef struct lathe_hook_param {
  const char* name;
  double value;
} lathe_hook_param;
typedef struct lathe_hook_tensor {
  const char* name;
  lathe_tensor tensor;
} lathe_hook_tensor;

/* Lists in the memory of the host, read during the call only; NULL where the layout has no such list. */
typedef struct lathe_batch {
  size_t struct_size;
  int32_t batch;                /* requests */
  const int32_t* qo_indptr;     /* [batch + 1] */
  const int32_t* kv_indptr;     /* [batch + 1]: ragged in tokens, csr in entries of kv_indices */
  const int32_t* last_page_len; /* [batch], csr */
  const int32_t* seq_lens;      /* [batch], table */
  int32_t block_table_stride;   /* table */
  int32_t window;               /* where the mask has one */
  const int32_t* kv_indices;    /* optional copy of the page ids: each is checked, and prefixes are shared */
  int64_t num_kv_indices;
  int64_t num_pages;
  const lathe_hook_param* hook_params; /* where the spec has a mask of hooks: all its params, and copies of its tensors */
  size_t num_hook_params;
  const lathe_hook_tensor* hook_tensors;
  size_t num_hook_tensors;
} lathe_batch;

/* In the memory of the device. */
typedef struct lathe_attention_args {
  size_t struct_size;
  lathe_tensor q, k, v, o, lse;
  const int32_t* kv_indices;
  int64_t num_kv_indices;
  float sm_scale; /* 0: 1 / sqrt(head_dim_qk) */
  float soft_cap;
  lathe_kv_scales k_scales, v_scales;
  const lathe_hook_param* hook_params;
  size_t num_hook_params;
  const lathe_hook_tensor* hook_tensors;
  size_t num_hook_tensors;
} lathe_attention_args;

int lathe_attention_prepare(lathe_engine* engine, lathe_device* device, const char* spec_json, lathe_attention** out);
typedef struct lathe_prepare_options {
  size_t struct_size;
  int32_t unsafe_cuda; /* 0 or 1: the spec's hooks may be unsafe_cuda (docs/expressions.md), where the engine allows it as well */
} lathe_prepare_options;
int lathe_attention_prepare_with(lathe_engine* engine, lathe_device* device, const char* spec_json,
                                 const lathe_prepare_options* options, lathe_attention** out);
void lathe_attention_close(lathe_attention* attention);

int lathe_attention_plan(const lathe_attention* attention, const lathe_batch* batch, int32_t num_kv_heads, lathe_plan** out);
size_t lathe_plan_workspace_bytes(const lathe_plan* plan);
void lathe_plan_close(lathe_plan* plan);
/* `workspace`: device memory, 256-byte aligned. */
int lathe_attention_upload(const lathe_attention* attention, const lathe_plan* plan, void* workspace, size_t workspace_bytes,
                           lathe_stream stream);
int lathe_attention_run(const lathe_attention* attention, const lathe_plan* plan, const lathe_attention_args* args, void* workspace,
                        lathe_stream stream);

/* One workspace and one launch for every batch within bounds; the launch may be captured (docs/planner.md, "Envelope"). */
typedef struct lathe_bounds {
  size_t struct_size;
  int32_t num_kv_heads;
  int32_t max_batch;
  int64_t max_qo_tokens;
  int64_t max_kv_entries;
  int64_t max_kv_len;
  int32_t window;
  int32_t share_prefixes; /* 0 or 1 */
  int64_t max_qo_len;
  const lathe_hook_param* hook_params;
  size_t num_hook_params;
} lathe_bounds;

int lathe_envelope_open(const lathe_attention* attention, const lathe_bounds* bounds, lathe_envelope** out);
size_t lathe_envelope_workspace_bytes(const lathe_envelope* envelope);
void lathe_envelope_close(lathe_envelope* envelope);
int lathe_envelope_prepare_workspace(const lathe_envelope* envelope, void* workspace, size_t workspace_bytes, lathe_stream stream);
/* Each step: plans `batch` and queues one copy, without waiting. */
int lathe_envelope_plan(const lathe_envelope* envelope, const lathe_batch* batch, void* workspace, size_t workspace_bytes,
                        lathe_stream stream);
int lathe_envelope_run(const lathe_envelope* envelope, const lathe_attention_args* args, void* workspace, lathe_stream stream);

typedef struct lathe_merge_args {
  size_t struct_size;
  lathe_tensor o, lse;
  lathe_tensor merged_o, merged_lse;
  const int32_t* sizes; /* device: {tokens * heads, num_states} */
  const lathe_hook_param* hook_params;
  size_t num_hook_params;
  const lathe_hook_tensor* hook_tensors;
  size_t num_hook_tensors;
} lathe_merge_args;
int lathe_merge_prepare(lathe_engine* engine, lathe_device* device, const char* spec_json, lathe_merge** out);
int lathe_merge_prepare_with(lathe_engine* engine, lathe_device* device, const char* spec_json,
                             const lathe_prepare_options* options, lathe_merge** out);
int lathe_merge_run(const lathe_merge* merge, const lathe_merge_args* args, lathe_stream stream);
void lathe_merge_close(lathe_merge* merge);

/* Lists are on the device (docs/kv-append.md). */
typedef struct lathe_append_args {
  size_t struct_size;
  lathe_tensor q, q_out, k, v, k_cache, v_cache;
  lathe_kv_scales k_scales, v_scales;
  const int64_t* slot_mapping;
  const int32_t* batch_indices;
  const int32_t* positions;
  const int32_t* kv_indptr;
  int64_t num_requests;
  const int32_t* kv_indices;
  int64_t num_kv_indices;
  int32_t block_table_stride;
  lathe_tensor cos_sin;
} lathe_append_args;
int lathe_append_prepare(lathe_engine* engine, lathe_device* device, const char* spec_json, lathe_append** out);
int lathe_append_run(const lathe_append* append, const lathe_append_args* args, lathe_stream stream);
void lathe_append_close(lathe_append* append);

#ifdef __cplusplus
}
#endif

#endif
