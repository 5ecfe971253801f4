// AppendSpec: new keys and values go into the pages of a cache in one launch: rotary embeddings of q and k, conversion to the
// cache's formats, and the scales of tokens that come with them (docs/kv-append.md).
//
// Per token t and kv head h, x a vector of k or v:
//   k:    x = rope(x, positions[t]), likewise each head of q, which goes to q_out
//   u_d = x_d / (scale * channel_scale_d)                          scale and channel_scale are given
//   with scales of tokens:    s = max_d |u_d| / (largest code), 1 where all u are 0; stored in token_scale; c_d = u_d / s
//     and zero-points of tokens: s = (hi - lo) / 255, hi = max(u, 0), lo = min(u, 0), z = round(-128 - lo / s), both stored;
//                                c_d = u_d / s + z
//   with zero-points of channels, which are given: c_d = u_d + z_d
//   the code stored is the nearest to c_d, ties to even, what is too large (or NaN) the largest (or smallest)
// Formats of 16 bits store x itself. All of it in fp32, x is not rounded before.
//
// Shapes: q [tokens, num_qo_heads, head_dim_qk], k [tokens, num_kv_heads, head_dim_qk], v [tokens, num_kv_heads, head_dim_vo]; the
// caches and tables as attention reads them (csrc/api/attention.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "lathe/base/bytes.h"
#include "lathe/base/status.h"
#include "lathe/spec/attention_spec.h"

namespace lathe {

/// Pairs that rotary embeddings turn: none, (d, d + rope_dims / 2), or neighbours.
enum class RopePairs : uint8_t { none, neox, interleaved };
/// How a token's place in the cache is given: as page * page_size + place, or by its request and position and the request's pages.
enum class TokenPlace : uint8_t { slots, positions };

struct AppendSpec {
  std::string label;            // for people; not part of the identity
  DType q_dtype = DType::bf16;  // of q, k and v as they come
  DType kfmt = DType::bf16;     // q_dtype, or codes of 8 bits
  DType vfmt = DType::bf16;     // q_dtype, or codes of 8 bits
  KvScale kscale = KvScale::none;
  KvScale vscale = KvScale::none;
  KvZero kzero = KvZero::none;  // i8 only; of channels not beside scales of tokens
  KvZero vzero = KvZero::none;  // i8 only; of channels not beside scales of tokens
  int32_t head_dim_qk = 128;    // multiple of 16, 16..256
  int32_t head_dim_vo = 128;    // multiple of 16, 16..256
  RopePairs rope = RopePairs::none;
  int32_t rope_dims = 0;  // the first dimensions, that are turned: a multiple of 16, at most head_dim_qk; 0: all
  TokenPlace place = TokenPlace::slots;
  LayoutSpec layout;          // paged; `index` says how a request's pages are given, with positions only
  std::string arch = "host";  // "host", "sm_80", "sm_90a", ...

  bool operator==(const AppendSpec&) const = default;
};

/// As those of AttentionSpec.
Status validate(const AppendSpec& spec);
std::string to_json(const AppendSpec& spec);
Result<AppendSpec> append_spec_from_json(std::string_view json);
std::string to_string(const AppendSpec& spec);
Bytes canonical_bytes(const AppendSpec& spec);

/// How many dimensions are turned; 0 where none are.
constexpr int32_t turned_dims(const AppendSpec& spec) {
  if (spec.rope == RopePairs::none) return 0;
  return spec.rope_dims == 0 ? spec.head_dim_qk : spec.rope_dims;
}

}  // namespace lathe
