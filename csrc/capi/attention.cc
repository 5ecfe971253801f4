// Attention, its plans and envelopes.
#include "handles.h"

namespace lathe::capi {
namespace {

std::span<const int32_t> list(const int32_t* values, int64_t count) {
  return values == nullptr || count <= 0 ? std::span<const int32_t>() : std::span(values, static_cast<size_t>(count));
}

// `hooks` holds what the batch refers to.
Status read_batch(const lathe_batch* given, Hooks& hooks, AttentionBatch& out) {
  lathe_batch b;
  LATHE_TRY(read_struct("batch", given, b));
  if (b.batch < 0) return invalid_argument("batch.batch", "is " + std::to_string(b.batch) + ", must be >= 0");
  LATHE_TRY(check_pointers({{"batch.qo_indptr", b.qo_indptr}}));
  LATHE_TRY(read_hooks(b.hook_params, b.num_hook_params, b.hook_tensors, b.num_hook_tensors, hooks));
  out.qo_indptr = list(b.qo_indptr, int64_t{b.batch} + 1);
  out.kv_indptr = list(b.kv_indptr, int64_t{b.batch} + 1);
  out.last_page_len = list(b.last_page_len, b.batch);
  out.seq_lens = list(b.seq_lens, b.batch);
  out.block_table_stride = b.block_table_stride;
  out.window = b.window;
  out.kv_indices = list(b.kv_indices, b.num_kv_indices);
  out.num_pages = b.num_pages;
  out.hook_params = hooks.params;
  out.hook_tensors = hooks.tensors;
  return {};
}

Status read_args(const lathe_attention_args* given, Hooks& hooks, AttentionArgs& out) {
  lathe_attention_args a;
  LATHE_TRY(read_struct("args", given, a));
  LATHE_TRY(read_hooks(a.hook_params, a.num_hook_params, a.hook_tensors, a.num_hook_tensors, hooks));
  out.q = tensor_of(a.q), out.k = tensor_of(a.k), out.v = tensor_of(a.v), out.o = tensor_of(a.o), out.lse = tensor_of(a.lse);
  out.kv_indices = a.kv_indices;
  out.num_kv_indices = a.num_kv_indices;
  out.sm_scale = a.sm_scale;
  out.soft_cap = a.soft_cap;
  out.k_scales = scales_of(a.k_scales);
  out.v_scales = scales_of(a.v_scales);
  out.hook_params = hooks.params;
  out.hook_tensors = hooks.tensors;
  return {};
}

Status read_bounds(const lathe_bounds* given, AttentionBounds& out) {
  lathe_bounds b;
  LATHE_TRY(read_struct("bounds", given, b));
  Hooks hooks;
  LATHE_TRY(read_hooks(b.hook_params, b.num_hook_params, nullptr, 0, hooks));
  out.num_kv_heads = b.num_kv_heads;
  out.max_batch = b.max_batch;
  out.max_qo_tokens = b.max_qo_tokens;
  out.max_kv_entries = b.max_kv_entries;
  out.max_kv_len = b.max_kv_len;
  out.window = b.window;
  out.share_prefixes = b.share_prefixes != 0;
  out.max_qo_len = b.max_qo_len;
  out.hook_params = std::move(hooks.params);
  return {};
}

}  // namespace
}  // namespace lathe::capi

using namespace lathe;
using namespace lathe::capi;

extern "C" {

int lathe_attention_prepare(lathe_engine* engine, lathe_device* device, const char* spec_json, lathe_attention** out) {
  const lathe_prepare_options options{.struct_size = sizeof(options), .unsafe_cuda = 0};
  return lathe_attention_prepare_with(engine, device, spec_json, &options, out);
}
int lathe_attention_prepare_with(lathe_engine* engine, lathe_device* device, const char* spec_json,
                                 const lathe_prepare_options* options, lathe_attention** out) {
  return guarded([&]() -> Status {
    LATHE_TRY(check_pointers({{"engine", engine}, {"device", device}, {"spec_json", spec_json}, {"out", out}}));
    PrepareOptions prepare;
    LATHE_TRY(read_options(options, prepare));
    Result<AttentionSpec> spec = attention_spec_from_json(spec_json);
    LATHE_TRY(spec);
    Result<Attention> attention = Attention::prepare(*engine->engine, device->device, *std::move(spec), prepare);
    LATHE_TRY(attention);
    *out = new lathe_attention{engine->engine, device->device, *std::move(attention)};
    return {};
  });
}
void lathe_attention_close(lathe_attention* attention) {
  delete attention;
}

int lathe_attention_plan(const lathe_attention* attention, const lathe_batch* batch, int32_t num_kv_heads, lathe_plan** out) {
  return guarded([&]() -> Status {
    LATHE_TRY(check_pointers({{"attention", attention}, {"out", out}}));
    Hooks hooks;
    AttentionBatch read;
    LATHE_TRY(read_batch(batch, hooks, read));
    Result<PlannedAttention> planned = attention->attention.plan(read, num_kv_heads);
    LATHE_TRY(planned);
    *out = new lathe_plan{*std::move(planned)};
    return {};
  });
}
size_t lathe_plan_workspace_bytes(const lathe_plan* plan) {
  return plan == nullptr ? 0 : plan->planned.plan.workspace.total();
}
void lathe_plan_close(lathe_plan* plan) {
  delete plan;
}
int lathe_attention_upload(const lathe_attention* attention, const lathe_plan* plan, void* workspace, size_t workspace_bytes,
                           lathe_stream stream) {
  return guarded([&]() -> Status {
    LATHE_TRY(check_pointers({{"attention", attention}, {"plan", plan}}));
    return attention->attention.upload(plan->planned, workspace, workspace_bytes, stream);
  });
}
int lathe_attention_run(const lathe_attention* attention, const lathe_plan* plan, const lathe_attention_args* args, void* workspace,
                        lathe_stream stream) {
  return guarded([&]() -> Status {
    LATHE_TRY(check_pointers({{"attention", attention}, {"plan", plan}}));
    Hooks hooks;
    AttentionArgs read;
    LATHE_TRY(read_args(args, hooks, read));
    return attention->attention.run(read, plan->planned, workspace, stream);
  });
}

int lathe_envelope_open(const lathe_attention* attention, const lathe_bounds* bounds, lathe_envelope** out) {
  return guarded([&]() -> Status {
    LATHE_TRY(check_pointers({{"attention", attention}, {"out", out}}));
    AttentionBounds read;
    LATHE_TRY(read_bounds(bounds, read));
    Result<AttentionEnvelope> envelope = attention->attention.envelope(read);
    LATHE_TRY(envelope);
    Result<std::unique_ptr<PlanStager>> stager = PlanStager::create(attention->device, envelope->layout.plan);
    LATHE_TRY(stager);
    *out = new lathe_envelope{attention->attention, *std::move(envelope), *std::move(stager), {}, {}};
    return {};
  });
}
size_t lathe_envelope_workspace_bytes(const lathe_envelope* envelope) {
  return envelope == nullptr ? 0 : envelope->envelope.layout.total();
}
void lathe_envelope_close(lathe_envelope* envelope) {
  delete envelope;
}
int lathe_envelope_prepare_workspace(const lathe_envelope* envelope, void* workspace, size_t workspace_bytes, lathe_stream stream) {
  return guarded([&]() -> Status {
    LATHE_TRY(check_pointers({{"envelope", envelope}}));
    return envelope->attention.prepare_workspace(envelope->envelope, workspace, workspace_bytes, stream);
  });
}
int lathe_envelope_plan(const lathe_envelope* envelope, const lathe_batch* batch, void* workspace, size_t workspace_bytes,
                        lathe_stream stream) {
  return guarded([&]() -> Status {
    LATHE_TRY(check_pointers({{"envelope", envelope}}));
    Hooks hooks;
    AttentionBatch read;
    LATHE_TRY(read_batch(batch, hooks, read));
    const std::lock_guard lock(envelope->planning);
    LATHE_TRY(envelope->attention.plan(read, envelope->envelope, envelope->planned));
    return envelope->attention.upload(envelope->planned, envelope->envelope, *envelope->stager, workspace, workspace_bytes, stream);
  });
}
int lathe_envelope_run(const lathe_envelope* envelope, const lathe_attention_args* args, void* workspace, lathe_stream stream) {
  return guarded([&]() -> Status {
    LATHE_TRY(check_pointers({{"envelope", envelope}}));
    Hooks hooks;
    AttentionArgs read;
    LATHE_TRY(read_args(args, hooks, read));
    return envelope->attention.run(read, envelope->envelope, workspace, stream);
  });
}

}  // extern "C"
