// Keys and values in memory, as every operation on them checks and addresses them.
#pragma once

#include <array>
#include <cstdint>

#include "lathe/abi/kv_scales.h"
#include "lathe/api/kv_scales.h"
#include "lathe/api/tensor.h"
#include "lathe/base/status.h"
#include "lathe/jit/render.h"
#include "lathe/runtime/device.h"
#include "lathe/spec/attention_spec.h"

namespace lathe {

/// How the keys, or the values, are held.
struct KvFormat {
  bool keys;  // else values
  DType element;
  KvScale scale;
  KvZero zero;
  int32_t head_dim;
};

/// Of a spec that holds both: AttentionSpec or AppendSpec.
template <class Spec>
KvFormat key_format(const Spec& spec) {
  return {true, spec.kfmt, spec.kscale, spec.kzero, spec.head_dim_qk};
}
template <class Spec>
KvFormat value_format(const Spec& spec) {
  return {false, spec.vfmt, spec.vscale, spec.vzero, spec.head_dim_vo};
}

/// Adds what templates call key_* or value_*, for kv::Format of templates/kernels/shared/kv_tables.cuh.
void add_template_values(const KvFormat& format, TemplateData& data);

/// Adds what is wrong with the tensor called `name` that holds keys or values of `format`; joint storage holds both.
void check_kv(const LayoutSpec& layout, const KvFormat& format, const char* name, const Tensor& t, int64_t heads,
              Problems& problems);
/// Checks both tensors; with joint storage `v` must be empty.
void check_kv_pair(const LayoutSpec& layout, const KvFormat& keys, const KvFormat& values, const char* k_name, const Tensor& k,
                   const char* v_name, const Tensor& v, int64_t heads, Problems& problems);

/// Byte strides of one of K and V.
struct KvStrides {
  int64_t page = 0, token = 0, head = 0;
};
KvStrides kv_strides(const LayoutSpec& layout, const KvFormat& format, const Tensor& t);

/// Where the values begin, with joint storage inside the tensor of keys.
void* values_of(const LayoutSpec& layout, const KvFormat& format, const Tensor& k, const Tensor& v);

/// What the scales of one run must cover.
struct KvExtents {
  int64_t num_kv_heads = 0;
  int64_t rows = 0;  // ragged: rows of k that the plan covers; paged: pages of k
};

/// Token scale, channel scale, zero-point.
constexpr size_t kKvTables = 3;
using KvTableBuffers = std::array<BufferArg, kKvTables>;

/// Adds what is wrong with the scales of `format`; without a problem, what the kernel reads and the buffers of the tables (without
/// a name where there is none).
void read_kv_scales(const LayoutSpec& layout, const KvFormat& format, const KvScales& given, const KvExtents& extents,
                    abi::KvScales& out, KvTableBuffers& buffers, Problems& problems);

}  // namespace lathe
