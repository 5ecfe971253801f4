#include "kv_tensors.h"

#include <cmath>
#include <vector>

#include "tensor_checks.h"

namespace lathe {
namespace {

constexpr size_t kFloatBytes = 4;

bool is_joint(const LayoutSpec& layout) {
  return layout.kind == LayoutKind::paged && layout.storage == KvStorage::joint;
}

enum class Over { nothing, tokens, channels };

// One table of a run: as the spec has it, and as the caller gave it.
struct Table {
  const char* name;  // of the argument
  Over over;
  const char* field;  // of the spec, which says so
  const Tensor& tensor;
  abi::KvTable& out;
};

void read_table(const LayoutSpec& layout, const Table& table, int64_t head_dim, const KvExtents& extents, BufferArg& buffer,
                Problems& problems) {
  const Tensor& t = table.tensor;
  buffer = {};
  table.out = {};
  if (table.over == Over::nothing) {
    if (t.rank != 0 || t.data != nullptr)
      problems.add(table.name, std::string("is given, but the spec's ") + table.field + " has none");
    return;
  }
  const bool paged = layout.kind == LayoutKind::paged;
  std::vector<TableAxis> axes;
  if (table.over == Over::channels) {
    axes = {{extents.num_kv_heads, "num_kv_heads"}, {head_dim, "head dimension"}};
  } else if (paged) {
    axes = {{extents.rows, "pages of k"}, {layout.page_size, "page_size"}, {extents.num_kv_heads, "num_kv_heads"}};
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

void add_template_values(const KvFormat& format, TemplateData& data) {
  const std::string prefix = format.keys ? "key_" : "value_";
  data.emplace(prefix + "element", TemplateValue::identifier(name_of(format.element)));
  data.emplace(prefix + "token_scale", has_token_scale(format.scale));
  data.emplace(prefix + "channel_scale", has_channel_scale(format.scale));
  data.emplace(prefix + "zero", TemplateValue::identifier(name_of(format.zero)));
}

void check_kv(const LayoutSpec& layout, const KvFormat& format, const char* name, const Tensor& t, int64_t heads,
              Problems& problems) {
  const size_t bytes = bytes_of(format.element);
  const int64_t page = layout.page_size, dim = format.head_dim;
  const bool nhd = layout.order == PageOrder::nhd;
  if (layout.kind == LayoutKind::ragged) {
    check_tensor(t, {name, bytes, {kAnySize, heads, dim}}, problems);
  } else if (layout.storage == KvStorage::separate) {
    check_tensor(t, {name, bytes, {kAnySize, nhd ? page : heads, nhd ? heads : page, dim}}, problems);
  } else {
    check_tensor(t, {name, bytes, {kAnySize, 2, nhd ? page : heads, nhd ? heads : page, dim}}, problems);
  }
}

void check_kv_pair(const LayoutSpec& layout, const KvFormat& keys, const KvFormat& values, const char* k_name, const Tensor& k,
                   const char* v_name, const Tensor& v, int64_t heads, Problems& problems) {
  check_kv(layout, keys, k_name, k, heads, problems);
  if (is_joint(layout)) {
    if (v.rank != 0)
      problems.add(v_name,
                   std::string("is given, but with joint storage ") + k_name + " holds both and " + v_name + " must be left empty");
    return;
  }
  check_kv(layout, values, v_name, v, heads, problems);
  if (v.rank != 0 && k.rank != 0 && v.shape[0] != k.shape[0]) {
    problems.add(v_name, "has " + std::to_string(v.shape[0]) + " in dimension 0, " + k_name + " has " + std::to_string(k.shape[0]));
  }
}

KvStrides kv_strides(const LayoutSpec& layout, const KvFormat& format, const Tensor& t) {
  const auto bytes = static_cast<int64_t>(bytes_of(format.element));
  if (layout.kind == LayoutKind::ragged) return {0, t.stride[0] * bytes, t.stride[1] * bytes};
  const size_t inner = is_joint(layout) ? 2 : 1;  // first dimension inside a page's K or V
  const size_t token = layout.order == PageOrder::nhd ? inner : inner + 1;
  const size_t head = layout.order == PageOrder::nhd ? inner + 1 : inner;
  return {t.stride[0] * bytes, t.stride[token] * bytes, t.stride[head] * bytes};
}

void* values_of(const LayoutSpec& layout, const KvFormat& format, const Tensor& k, const Tensor& v) {
  if (!is_joint(layout)) return v.data;
  return static_cast<std::byte*>(k.data) + k.stride[1] * static_cast<int64_t>(bytes_of(format.element));
}

void read_kv_scales(const LayoutSpec& layout, const KvFormat& format, const KvScales& given, const KvExtents& extents,
                    abi::KvScales& out, KvTableBuffers& buffers, Problems& problems) {
  const bool keys = format.keys;
  const char* name = keys ? "k_scales.scale" : "v_scales.scale";
  if (!(given.scale > 0) || std::isinf(given.scale)) {
    problems.add(name, "is " + std::to_string(given.scale) + ", must be finite and > 0");
  } else if (!is_code(format.element) && given.scale != 1) {
    problems.add(name, "is " + std::to_string(given.scale) + ", but the spec's " + (keys ? "kfmt " : "vfmt ") +
                           name_of(format.element) + " has no scales");
  }
  out.scale = given.scale;
  const char* field = keys ? "kscale" : "vscale";
  const Over zero_over = format.zero == KvZero::none ? Over::nothing : format.zero == KvZero::token ? Over::tokens : Over::channels;
  const Table tables[kKvTables] = {
      {keys ? "k_scales.token_scale" : "v_scales.token_scale", has_token_scale(format.scale) ? Over::tokens : Over::nothing, field,
       given.token_scale, out.token_scale},
      {keys ? "k_scales.channel_scale" : "v_scales.channel_scale", has_channel_scale(format.scale) ? Over::channels : Over::nothing,
       field, given.channel_scale, out.channel_scale},
      {keys ? "k_scales.zero" : "v_scales.zero", zero_over, keys ? "kzero" : "vzero", given.zero, out.zero}};
  for (size_t i = 0; i < kKvTables; ++i) read_table(layout, tables[i], format.head_dim, extents, buffers[i], problems);
}

}  // namespace lathe
