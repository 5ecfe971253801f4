#include "read_kv_scales.h"

#include <cmath>
#include <vector>

#include "tensor_checks.h"

namespace lathe {
namespace {

constexpr size_t kFloatBytes = 4;

enum class Over { nothing, tokens, channels };

// One table of a run: as the spec has it, and as the caller gave it.
struct Table {
  const char* name;  // of the argument
  Over over;
  const char* field;  // of the spec, which says so
  const Tensor& tensor;
  abi::AttentionKvTable& out;
};

void read_table(const AttentionSpec& spec, const Table& table, int64_t head_dim, const KvExtents& extents, BufferArg& buffer,
                Problems& problems) {
  const Tensor& t = table.tensor;
  buffer = {};
  table.out = {};
  if (table.over == Over::nothing) {
    if (t.rank != 0 || t.data != nullptr)
      problems.add(table.name, std::string("is given, but the spec's ") + table.field + " has none");
    return;
  }
  const bool paged = spec.layout.kind == LayoutKind::paged;
  std::vector<TableAxis> axes;
  if (table.over == Over::channels) {
    axes = {{extents.num_kv_heads, "num_kv_heads"}, {head_dim, "head dimension"}};
  } else if (paged) {
    axes = {{extents.rows, "pages of k"}, {spec.layout.page_size, "page_size"}, {extents.num_kv_heads, "num_kv_heads"}};
  } else {
    axes = {{extents.rows, "rows of k"}, {extents.num_kv_heads, "num_kv_heads"}};
  }
  if (!check_table(table.name, t, kFloatBytes, axes, problems)) return;
  const auto stride = [&](int i) { return t.stride[static_cast<size_t>(i)] * static_cast<int64_t>(kFloatBytes); };
  table.out.data = t.data;
  if (table.over == Over::channels) {
    table.out.stride_head = stride(0), table.out.stride_channel = stride(1);
  } else {
    table.out.stride_page = paged ? stride(0) : 0;
    table.out.stride_token = stride(t.rank - 2), table.out.stride_head = stride(t.rank - 1);
  }
  buffer = {table.name, t.data, extent_bytes(t, kFloatBytes), BufferArg::Use::input};
}

}  // namespace

void read_kv_scales(const AttentionSpec& spec, bool keys, const KvScales& given, const KvExtents& extents,
                    abi::AttentionKvScales& out, std::array<BufferArg, kKvTables>& buffers, Problems& problems) {
  const char* name = keys ? "k_scales.scale" : "v_scales.scale";
  const DType format = keys ? spec.kfmt : spec.vfmt;
  const KvScale scale = keys ? spec.kscale : spec.vscale;
  const KvZero zero = keys ? spec.kzero : spec.vzero;
  if (!(given.scale > 0) || std::isinf(given.scale)) {
    problems.add(name, "is " + std::to_string(given.scale) + ", must be finite and > 0");
  } else if (!is_code(format) && given.scale != 1) {
    problems.add(name, "is " + std::to_string(given.scale) + ", but the spec's " + (keys ? "kfmt " : "vfmt ") + name_of(format) +
                           " has no scales");
  }
  out.scale = given.scale;
  const char* field = keys ? "kscale" : "vscale";
  const Table tables[kKvTables] = {
      {keys ? "k_scales.token_scale" : "v_scales.token_scale", has_token_scale(scale) ? Over::tokens : Over::nothing, field,
       given.token_scale, out.token_scale},
      {keys ? "k_scales.channel_scale" : "v_scales.channel_scale", has_channel_scale(scale) ? Over::channels : Over::nothing, field,
       given.channel_scale, out.channel_scale},
      {keys ? "k_scales.zero" : "v_scales.zero",
       zero == KvZero::none    ? Over::nothing
       : zero == KvZero::token ? Over::tokens
                               : Over::channels,
       keys ? "kzero" : "vzero", given.zero, out.zero}};
  for (size_t i = 0; i < kKvTables; ++i)
    read_table(spec, tables[i], keys ? spec.head_dim_qk : spec.head_dim_vo, extents, buffers[i], problems);
}

}  // namespace lathe
