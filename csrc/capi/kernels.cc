// The other kernel families.
#include "handles.h"

using namespace lathe;
using namespace lathe::capi;

extern "C" {

int lathe_merge_prepare(lathe_engine* engine, lathe_device* device, const char* spec_json, lathe_merge** out) {
  const lathe_prepare_options options{.struct_size = sizeof(options), .unsafe_cuda = 0};
  return lathe_merge_prepare_with(engine, device, spec_json, &options, out);
}
int lathe_merge_prepare_with(lathe_engine* engine, lathe_device* device, const char* spec_json,
                             const lathe_prepare_options* options, lathe_merge** out) {
  return guarded([&]() -> Status {
    LATHE_TRY(check_pointers({{"engine", engine}, {"device", device}, {"spec_json", spec_json}, {"out", out}}));
    PrepareOptions prepare;
    LATHE_TRY(read_options(options, prepare));
    Result<MergeSpec> spec = merge_spec_from_json(spec_json);
    LATHE_TRY(spec);
    Result<Merge> merge = Merge::prepare(*engine->engine, device->device, *std::move(spec), prepare);
    LATHE_TRY(merge);
    *out = new lathe_merge{engine->engine, *std::move(merge)};
    return {};
  });
}
int lathe_merge_run(const lathe_merge* merge, const lathe_merge_args* args, lathe_stream stream) {
  return guarded([&]() -> Status {
    LATHE_TRY(check_pointers({{"merge", merge}}));
    lathe_merge_args a;
    LATHE_TRY(read_struct("args", args, a));
    Hooks hooks;
    LATHE_TRY(read_hooks(a.hook_params, a.num_hook_params, a.hook_tensors, a.num_hook_tensors, hooks));
    return merge->merge.run({.o = tensor_of(a.o),
                             .lse = tensor_of(a.lse),
                             .merged_o = tensor_of(a.merged_o),
                             .merged_lse = tensor_of(a.merged_lse),
                             .sizes = a.sizes,
                             .hook_params = hooks.params,
                             .hook_tensors = hooks.tensors},
                            stream);
  });
}
void lathe_merge_close(lathe_merge* merge) {
  delete merge;
}

int lathe_append_prepare(lathe_engine* engine, lathe_device* device, const char* spec_json, lathe_append** out) {
  return guarded([&]() -> Status {
    LATHE_TRY(check_pointers({{"engine", engine}, {"device", device}, {"spec_json", spec_json}, {"out", out}}));
    Result<AppendSpec> spec = append_spec_from_json(spec_json);
    LATHE_TRY(spec);
    Result<Append> append = Append::prepare(*engine->engine, device->device, *std::move(spec));
    LATHE_TRY(append);
    *out = new lathe_append{engine->engine, *std::move(append)};
    return {};
  });
}
int lathe_append_run(const lathe_append* append, const lathe_append_args* args, lathe_stream stream) {
  return guarded([&]() -> Status {
    LATHE_TRY(check_pointers({{"append", append}}));
    lathe_append_args a;
    LATHE_TRY(read_struct("args", args, a));
    AppendArgs read;
    read.q = tensor_of(a.q), read.q_out = tensor_of(a.q_out), read.k = tensor_of(a.k), read.v = tensor_of(a.v);
    read.k_cache = tensor_of(a.k_cache), read.v_cache = tensor_of(a.v_cache);
    read.k_scales = scales_of(a.k_scales), read.v_scales = scales_of(a.v_scales);
    read.slot_mapping = a.slot_mapping;
    read.batch_indices = a.batch_indices;
    read.positions = a.positions;
    read.kv_indptr = a.kv_indptr;
    read.num_requests = a.num_requests;
    read.kv_indices = a.kv_indices;
    read.num_kv_indices = a.num_kv_indices;
    read.block_table_stride = a.block_table_stride;
    read.cos_sin = tensor_of(a.cos_sin);
    return append->append.run(read, stream);
  });
}
void lathe_append_close(lathe_append* append) {
  delete append;
}

}  // extern "C"
