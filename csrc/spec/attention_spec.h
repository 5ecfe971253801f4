// AttentionSpec: everything about an attention operation that changes generated code. A plain value; lengths, head counts, window
// width, scale and soft-cap are run-time arguments and never enter it.
//
// Semantics, per request b, kv head h, query row i of qo_len, key j of kv_len:
//   q_pos = i + kv_len - qo_len, kv_pos = j                              (bottom-right aligned)
//   visible = [causal: kv_pos <= q_pos] && [window: q_pos - kv_pos < W]   (the window bounds the past only)
//   score = sm_scale * <q_i, k_j>;  with soft_cap: score = cap * tanh(score / cap)
//   hooks: score = logits(score), visible = visible && mask(...), and so on (docs/expressions.md)
//   o_i = sum_j softmax_j(score) v_j;  lse_i = log sum_j exp(score);  no visible key: o = 0, lse = -inf
// Keys and values of 8 bits are codes: k_j = (code - zero) * scale * token_scale * channel_scale, and v_j likewise. The channels'
// scales of k are multiplied into q, which is then rounded to q_dtype.
// Shapes: q [tokens, num_qo_heads, head_dim_qk], o [tokens, num_qo_heads, head_dim_vo], lse f32 [tokens, num_qo_heads].
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lathe/base/bytes.h"
#include "lathe/base/status.h"
#include "lathe/spec/attention_hooks.h"

namespace lathe {

enum class DType : uint8_t { f16, bf16, e4m3, e5m2, i8 };  // the last three, codes of 8 bits, are for keys and values only
enum class KvScale : uint8_t { none, token, channel, token_channel };  // besides the one scale of the whole tensor
enum class KvZero : uint8_t { none, token, channel };
enum class LayoutKind : uint8_t { ragged, paged };
enum class PageOrder : uint8_t { nhd, hnd };         // [page, token, head, dim] | [page, head, token, dim]
enum class KvStorage : uint8_t { separate, joint };  // two tensors | one with K and V side by side: [page, 2, ...]
enum class PageIndex : uint8_t { csr, table };       // indptr + indices + last_page_len | block_table + seq_lens
enum class Mask : uint8_t { none, causal, window, causal_window };
enum class LseOut : uint8_t { none, ln, log2 };
enum class GqaPack : uint8_t { automatic, on, off };  // heads of a group share a tile's rows
enum class Determinism : uint8_t { fast, run_to_run, batch_invariant };
enum class SplitMode : uint8_t { automatic, off, fixed };

struct LayoutSpec {
  LayoutKind kind = LayoutKind::paged;
  int32_t page_size = 16;                   // tokens; paged only
  PageOrder order = PageOrder::nhd;         // paged only
  KvStorage storage = KvStorage::separate;  // paged only; joint needs equal head dims
  PageIndex index = PageIndex::csr;         // paged only
  bool operator==(const LayoutSpec&) const = default;
};

struct SplitSpec {
  SplitMode mode = SplitMode::automatic;
  int32_t tokens = 0;  // fixed: boundaries at absolute multiples of this many kv tokens
  bool operator==(const SplitSpec&) const = default;
};

/// One tile class: `q` packed query rows by `kv` tokens. q is 16 * (warps along q); the other warps share the kv tile.
struct TileClass {
  int32_t q = 0, kv = 0;
  bool operator==(const TileClass&) const = default;
};

struct TileSpec {
  bool automatic = true;           // chosen from head dims and the arch's shared memory; the rest is then empty
  int32_t warps = 0;               // of a block: 4 or 8
  int32_t stages = 0;              // of the kv pipeline: 1..4
  std::vector<TileClass> classes;  // tallest first, 1..4
  bool operator==(const TileSpec&) const = default;
};

struct AttentionSpec {
  std::string label;  // for people; not part of the identity
  DType q_dtype = DType::bf16;
  DType o_dtype = DType::bf16;
  DType kfmt = DType::bf16;  // q_dtype, or codes of 8 bits
  DType vfmt = DType::bf16;  // q_dtype, or codes of 8 bits
  KvScale kscale = KvScale::none;
  KvScale vscale = KvScale::none;
  KvZero kzero = KvZero::none;  // i8 only
  KvZero vzero = KvZero::none;  // i8 only
  int32_t group_size = 1;       // num_qo_heads / num_kv_heads, 1..128
  int32_t head_dim_qk = 128;    // multiple of 16, 16..256
  int32_t head_dim_vo = 128;    // multiple of 16, 16..256
  GqaPack gqa_pack = GqaPack::automatic;
  LayoutSpec layout;
  Mask mask = Mask::none;
  bool soft_cap = false;  // whether the run-time argument `soft_cap` is applied
  LseOut lse = LseOut::none;
  Determinism determinism = Determinism::run_to_run;
  SplitSpec split_kv;
  TileSpec tile;
  AttentionHooks hooks;
  std::string arch = "host";  // "host", "sm_80", "sm_90a", ...

  bool operator==(const AttentionSpec&) const = default;
  bool causal() const { return mask == Mask::causal || mask == Mask::causal_window; }
  bool windowed() const { return mask == Mask::window || mask == Mask::causal_window; }
};

/// Every problem of `spec` at once; OK when it can be served. Checks ranges, combinations, and that `arch` is one Lathe knows.
Status validate(const AttentionSpec& spec);

/// Canonical JSON, defaults included, keys in field order. from_json(to_json(s)) == s.
std::string to_json(const AttentionSpec& spec);
/// Reads the form of the documentation: what is left out has its default; kfmt and vfmt follow q_dtype when absent. An unknown key,
/// a wrong type or an unknown value is refused with its name and what is allowed; all problems at once, and with them those that
/// validate() finds in the fields that could be read. A spec that reads well is not validated.
Result<AttentionSpec> attention_spec_from_json(std::string_view json);
/// One line for people, e.g. "attention bf16 128/128 group 4 paged(16, NHD, csr) causal lse ln sm_90a".
std::string to_string(const AttentionSpec& spec);
/// The compile-time fields in a fixed, versioned byte form: equal exactly when the generated code must be equal (before tile
/// resolution). `label` is not part of it; every other field is. At most 5 µs.
Bytes canonical_bytes(const AttentionSpec& spec);

/// Whether elements are codes of 8 bits, which stand for something by their scales.
constexpr bool is_code(DType dtype) {
  return dtype >= DType::e4m3;
}
constexpr size_t bytes_of(DType dtype) {
  return is_code(dtype) ? 1 : 2;
}
constexpr bool has_token_scale(KvScale scale) {
  return scale == KvScale::token || scale == KvScale::token_channel;
}
constexpr bool has_channel_scale(KvScale scale) {
  return scale == KvScale::channel || scale == KvScale::token_channel;
}

const char* name_of(DType);
const char* name_of(Mask);
const char* name_of(LseOut);
const char* name_of(KvZero);
const char* name_of(Determinism);

}  // namespace lathe
