#include "lathe/api/append.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "build_kernel.h"
#include "kv_tensors.h"
#include "lathe/abi/append.h"
#include "lathe/base/bytes.h"
#include "lathe/base/nvtx.h"
#include "tensor_checks.h"

namespace lathe {
namespace {

constexpr int kWarps = 8;
constexpr int64_t kVectorsOfWarp = 2;     // how many of 128 elements, the usual, a warp has at a time
constexpr uint32_t kBlocksOfSm = 8;       // as many as its threads allow
constexpr float kLeastScale = 0x1p-100f;  // whose inverse, and that of its product with a channel's, are numbers

// The spec with every field set aside that leaves the generated code alone: strides and pages' forms are run-time arguments.
AppendSpec code_fields(AppendSpec spec) {
  spec.layout.order = PageOrder::nhd;
  spec.layout.storage = KvStorage::separate;
  spec.layout.index = PageIndex::csr;
  spec.rope_dims = spec.rope == RopePairs::none ? 0 : turned_dims(spec);
  return spec;
}

int64_t rows_of(const Tensor& t) {
  return t.rank == 3 ? t.shape[0] : 0;
}
int64_t heads_of(const Tensor& t) {
  return t.rank == 3 ? t.shape[1] : 0;
}

void check_queries(const AppendSpec& spec, const AppendArgs& args, Problems& problems) {
  if (args.q.rank == 0) {
    if (args.q_out.rank != 0) problems.add("q_out", "is given, but q is not");
    return;
  }
  if (spec.rope == RopePairs::none) return problems.add("q", "is given, but the spec's rope is none: there is nothing to turn");
  const int64_t heads = heads_of(args.q);
  check_tensor(args.q, {"q", 2, {rows_of(args.k), kAnySize, spec.head_dim_qk}}, problems);
  check_tensor(args.q_out, {"q_out", 2, {rows_of(args.k), heads, spec.head_dim_qk}}, problems);
  if (args.q_out.data == args.q.data && args.q_out.stride != args.q.stride)
    problems.add("q_out", "begins where q does, but has other strides; allowed: q itself, or other memory");
}

// A list of integers on the device, given exactly when it is read.
template <class T>
void check_list(const char* name, const T* list, bool read, const char* why_not, Problems& problems) {
  if (!read) {
    if (list != nullptr) problems.add(name, std::string("is given, but ") + why_not);
  } else if (list == nullptr) {
    problems.add(name, "is null");
  } else if (reinterpret_cast<uintptr_t>(list) % sizeof(T) != 0) {
    problems.add(name, "must be aligned to its elements of " + std::to_string(sizeof(T)) + " bytes");
  }
}

void check_places(const AppendSpec& spec, const AppendArgs& args, Problems& problems) {
  const bool slots = spec.place == TokenPlace::slots, csr = spec.layout.index == PageIndex::csr,
             rope = spec.rope != RopePairs::none;
  check_list("slot_mapping", args.slot_mapping, slots, "the spec's place is positions", problems);
  check_list("batch_indices", args.batch_indices, !slots, "the spec's place is slots", problems);
  check_list("positions", args.positions, !slots || rope, "the spec has place slots and no rope", problems);
  check_list("kv_indptr", args.kv_indptr, !slots && csr, slots ? "the spec's place is slots" : "the spec's layout.index is table",
             problems);
  check_list("kv_indices", args.kv_indices, !slots, "the spec's place is slots", problems);
  const auto check_count = [&](const char* name, int64_t value, bool read, const char* why_not) {
    if (read ? value < 1 || value > INT32_MAX : value != 0)
      problems.add(name, "is " + std::to_string(value) + (read ? ", must be in 1..2^31 - 1" : std::string(", but ") + why_not));
  };
  check_count("num_requests", args.num_requests, !slots, "the spec's place is slots");
  check_count("num_kv_indices", args.num_kv_indices, !slots, "the spec's place is slots");
  check_count("block_table_stride", args.block_table_stride, !slots && !csr, "the spec has no block table");
  const auto entries = checked_mul<int64_t>(args.num_requests, args.block_table_stride);
  if (!slots && !csr && (!entries || args.num_kv_indices < *entries))
    problems.add("num_kv_indices", "is " + std::to_string(args.num_kv_indices) + ", but the block table has " +
                                       std::to_string(args.num_requests) + " * " + std::to_string(args.block_table_stride));
}

void check_cos_sin(const AppendSpec& spec, const Tensor& t, Problems& problems) {
  if (spec.rope != RopePairs::none) {
    check_tensor(t, {"cos_sin", 4, {kAnySize, turned_dims(spec)}}, problems);
  } else if (t.rank != 0 || t.data != nullptr) {
    problems.add("cos_sin", "is given, but the spec's rope is none");
  }
}

// Scales are divided by.
void check_divisor(const char* name, float scale, Problems& problems) {
  if (scale > 0 && !std::isinf(scale) && (scale < kLeastScale || scale > 1 / kLeastScale))
    problems.add(name, "is " + std::to_string(scale) + ", must be in 2^-100..2^100");
}

// The parameter block and the buffers of a launch.
struct AppendLaunch {
  abi::AppendParams params{};
  std::array<BufferArg, 12 + 2 * kKvTables> buffers;
  size_t num_buffers = 0;

  void add(const char* name, const void* address, size_t bytes, BufferArg::Use use) {
    if (address != nullptr && bytes != 0) buffers[num_buffers++] = {name, address, bytes, use};
  }
};

void add_buffers(const AppendArgs& args, const AppendSpec& spec, AppendLaunch& out) {
  using Use = BufferArg::Use;
  const auto tokens = static_cast<size_t>(out.params.num_tokens);
  const auto add = [&](const char* name, const void* address, size_t bytes, Use use) { out.add(name, address, bytes, use); };
  const bool in_place = args.q.data == args.q_out.data;
  add("q", args.q.data, extent_bytes(args.q, 2), in_place ? Use::workspace : Use::input);
  if (!in_place) add("q_out", args.q_out.data, extent_bytes(args.q_out, 2), Use::output);
  add("k", args.k.data, extent_bytes(args.k, 2), Use::input);
  add("v", args.v.data, extent_bytes(args.v, 2), Use::input);
  add("k_cache", args.k_cache.data, extent_bytes(args.k_cache, bytes_of(spec.kfmt)), Use::output);
  add("v_cache", args.v_cache.data, extent_bytes(args.v_cache, bytes_of(spec.vfmt)), Use::output);
  add("slot_mapping", args.slot_mapping, tokens * sizeof(int64_t), Use::input);
  add("batch_indices", args.batch_indices, tokens * sizeof(int32_t), Use::input);
  add("positions", args.positions, tokens * sizeof(int32_t), Use::input);
  add("kv_indptr", args.kv_indptr, static_cast<size_t>(args.num_requests + 1) * sizeof(int32_t), Use::input);
  add("kv_indices", args.kv_indices, static_cast<size_t>(args.num_kv_indices) * sizeof(int32_t), Use::input);
  add("cos_sin", args.cos_sin.data, extent_bytes(args.cos_sin, 4), Use::input);
}

// Tables of tokens are written.
void add_table_buffers(const KvFormat& format, const KvTableBuffers& tables, AppendLaunch& out) {
  const bool written[kKvTables] = {true, false, format.zero == KvZero::token};
  for (size_t i = 0; i < kKvTables; ++i)
    out.add(tables[i].name, tables[i].address, tables[i].bytes, written[i] ? BufferArg::Use::output : BufferArg::Use::input);
}

Status read_args(const AppendSpec& spec, const AppendArgs& args, AppendLaunch& out) {
  Problems problems;
  abi::AppendParams& p = out.params;
  const int64_t tokens = rows_of(args.k), heads = heads_of(args.k);
  check_tensor(args.k, {"k", 2, {kAnySize, kAnySize, spec.head_dim_qk}}, problems);
  check_tensor(args.v, {"v", 2, {tokens, heads, spec.head_dim_vo}}, problems);
  check_queries(spec, args, problems);
  check_kv_pair(spec.layout, key_format(spec), value_format(spec), "k_cache", args.k_cache, "v_cache", args.v_cache, heads,
                problems);
  if (args.v_cache.rank > 0 && args.v_cache.data == args.k_cache.data)
    problems.add("v_cache", "begins where k_cache does; allowed: other memory, or none beside a joint cache");
  check_places(spec, args, problems);
  check_cos_sin(spec, args.cos_sin, problems);
  const KvExtents extents{heads, args.k_cache.rank > 0 ? args.k_cache.shape[0] : 0};
  KvTableBuffers k_tables, v_tables;
  read_kv_scales(spec.layout, key_format(spec), args.k_scales, extents, p.k_scales, k_tables, problems);
  read_kv_scales(spec.layout, value_format(spec), args.v_scales, extents, p.v_scales, v_tables, problems);
  check_divisor("k_scales.scale", args.k_scales.scale, problems);
  check_divisor("v_scales.scale", args.v_scales.scale, problems);
  const int64_t most_heads = std::max(heads, heads_of(args.q));
  const auto vectors = checked_mul(tokens, std::max<int64_t>(most_heads, 1));
  if (!vectors || *vectors > INT32_MAX) problems.add("k", "tokens * heads is past 2^31 - 1");
  if (args.k_cache.rank > 0 && args.k_cache.shape[0] > INT32_MAX) problems.add("k_cache", "has 2^31 pages or more");
  if (!problems.empty()) return problems.status();

  constexpr int64_t kElementBytes = 2;
  const auto strides = [](const Tensor& t, long long& token, long long& head) {
    token = t.stride[0] * kElementBytes, head = t.stride[1] * kElementBytes;
  };
  p.q = args.q.data, p.q_out = args.q_out.data, p.k = args.k.data, p.v = args.v.data;
  p.k_cache = args.k_cache.data;
  p.v_cache = values_of(spec.layout, key_format(spec), args.k_cache, args.v_cache);
  p.slot_mapping = reinterpret_cast<const long long*>(args.slot_mapping);
  p.batch_indices = args.batch_indices, p.positions = args.positions;
  p.kv_indptr = args.kv_indptr, p.kv_indices = args.kv_indices;
  p.cos_sin = static_cast<const float*>(args.cos_sin.data);
  strides(args.q, p.q_stride_token, p.q_stride_head);
  strides(args.q_out, p.q_out_stride_token, p.q_out_stride_head);
  strides(args.k, p.k_stride_token, p.k_stride_head);
  strides(args.v, p.v_stride_token, p.v_stride_head);
  const KvStrides k = kv_strides(spec.layout, key_format(spec), args.k_cache);
  const KvStrides v = kv_strides(spec.layout, value_format(spec), args.v_cache.rank > 0 ? args.v_cache : args.k_cache);
  p.k_cache_stride_page = k.page, p.k_cache_stride_token = k.token, p.k_cache_stride_head = k.head;
  p.v_cache_stride_page = v.page, p.v_cache_stride_token = v.token, p.v_cache_stride_head = v.head;
  p.cos_sin_stride = args.cos_sin.stride[0] * static_cast<int64_t>(sizeof(float));
  p.num_tokens = static_cast<int>(tokens), p.num_kv_heads = static_cast<int>(heads);
  p.num_qo_heads = static_cast<int>(heads_of(args.q));
  p.block_table_stride = args.block_table_stride;
  add_buffers(args, spec, out);
  add_table_buffers(key_format(spec), k_tables, out);
  add_table_buffers(value_format(spec), v_tables, out);
  return {};
}

}  // namespace

Result<KernelRequest> append_request(const AppendSpec& spec) {
  LATHE_TRY(validate(spec));
  KernelRequest request;
  request.family = "append";
  request.description = to_string(spec);
  request.spec = to_json(spec);
  request.canonical = canonical_bytes(code_fields(spec));
  request.arch = spec.arch;
  request.entry = "append_kernel";
  request.block_threads = kWarps * 32;
  request.data = {
      {"element", TemplateValue::identifier(name_of(spec.q_dtype))},
      {"head_dim_qk", int64_t{spec.head_dim_qk}},
      {"head_dim_vo", int64_t{spec.head_dim_vo}},
      {"turned_dims", int64_t{turned_dims(spec)}},
      {"interleaved", spec.rope == RopePairs::interleaved},
      {"slots", spec.place == TokenPlace::slots},
      {"page_size", int64_t{spec.layout.page_size}},
      {"warps", int64_t{kWarps}},
  };
  add_template_values(key_format(spec), request.data);
  add_template_values(value_format(spec), request.data);
  return request;
}

Result<Append> Append::prepare(Engine& engine, std::shared_ptr<Device> device, AppendSpec spec) {
  if (device == nullptr) return invalid_argument("device", "is null");
  if (spec.arch.empty() || spec.arch == "host") spec.arch = device->info().arch;
  if (spec.arch != device->info().arch)
    return invalid_argument("arch", "is " + spec.arch + ", but the device is " + device->info().arch);
  Result<KernelRequest> request = append_request(spec);
  LATHE_TRY(request);
  Result<KernelPtr> kernel = build_kernel(engine, *device, *request);
  LATHE_TRY(kernel);
  Append append;
  append.spec_ = std::move(spec);
  append.device_ = std::move(device);
  append.kernel_ = *kernel;
  return append;
}

Status Append::run(const AppendArgs& args, Stream stream) const {
  AppendLaunch out;
  LATHE_TRY(read_args(spec_, args, out));
  const abi::AppendParams& params = out.params;
  if (params.num_tokens == 0 || params.num_kv_heads == 0) return {};
  const NvtxRange range([&] { return "lathe run [" + to_string(spec_) + "] tokens " + std::to_string(params.num_tokens); });
  const int64_t vectors = int64_t{params.num_tokens} * (params.num_qo_heads + 2 * params.num_kv_heads);
  const auto blocks = static_cast<uint64_t>(ceil_div<int64_t>(vectors, kVectorsOfWarp * kWarps));
  Launch launch;
  launch.grid.x = static_cast<uint32_t>(std::min<uint64_t>(blocks, static_cast<uint64_t>(device_->info().num_sms) * kBlocksOfSm));
  launch.block.x = kWarps * 32;
  launch.params = std::as_bytes(std::span(&params, 1));
  launch.buffers = std::span(out.buffers).first(out.num_buffers);
  return device_->launch(*kernel_, launch, stream);
}

}  // namespace lathe
