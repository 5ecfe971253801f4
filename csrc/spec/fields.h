// The fields of every spec, listed once: a new field is a member of the struct and a line here. Order is the order of JSON keys, of
// canonical bytes and of the documentation. A tag, once released, keeps its meaning for ever; a field that changes its own meaning,
// or an enum whose values are renumbered, raises kVersion.
#pragma once

#include <cstdint>
#include <type_traits>

#include "lathe/spec/append_spec.h"
#include "lathe/spec/attention_spec.h"
#include "lathe/spec/merge_spec.h"
#include "lathe/spec/rules.h"

namespace lathe::fields {

/// What a spec is called ("op" in JSON, and the domain of its canonical bytes), and the version of its byte form.
template <class Spec>
inline constexpr const char* kOp = nullptr;
template <class Spec>
inline constexpr uint16_t kVersion = 0;

template <>
inline constexpr const char* kOp<AttentionSpec> = "attention";
template <>
inline constexpr uint16_t kVersion<AttentionSpec> = 1;
template <>
inline constexpr const char* kOp<MergeSpec> = "merge";
template <>
inline constexpr uint16_t kVersion<MergeSpec> = 1;
template <>
inline constexpr const char* kOp<AppendSpec> = "append";
template <>
inline constexpr uint16_t kVersion<AppendSpec> = 1;

constexpr Label kLabel{256};
constexpr IntRange kHeadDim{16, 256, 16};
constexpr IntRange kSplitTokens{16, 1 << 24, 16};
/// Elements that are no codes.
constexpr OneOf<DType> kFloat16{.except = 1u << static_cast<int>(DType::e4m3) | 1u << static_cast<int>(DType::e5m2) |
                                          1u << static_cast<int>(DType::i8)};

/// Calls `v` for every field of `s`, which is an AttentionSpec or a const one.
template <class Spec, class Visitor>
requires std::is_same_v<std::remove_const_t<Spec>, AttentionSpec>
void visit_fields(Spec& s, Visitor&& v) {
  const OneOf<DType> as_q{.follows = &s.q_dtype, .follows_path = "q_dtype"};
  v(Field{"label", 0, "A name for people; two specs that differ in it alone share a kernel."}, s.label, kLabel);
  v(Field{"q_dtype", 1, "Element type of q."}, s.q_dtype, kFloat16);
  v(Field{"o_dtype", 2, "Element type of o."}, s.o_dtype, kFloat16);
  v(Field{"kfmt", 3, "Elements of the keys: as q_dtype, or codes of 8 bits with scales (docs/kv-formats.md)."}, s.kfmt, as_q);
  v(Field{"vfmt", 4, "Elements of the values: as q_dtype, or codes of 8 bits with scales."}, s.vfmt, as_q);
  v(Field{"kscale", 22,
          "Scales of the keys' codes besides the one of all: for each token and kv head, each kv head and channel, or both."},
    s.kscale, OneOf<KvScale>{});
  v(Field{"vscale", 23, "Scales of the values' codes, likewise."}, s.vscale, OneOf<KvScale>{});
  v(Field{"kzero", 24, "Zero-points of the keys' codes, which are i8: for each token and kv head, or each kv head and channel."},
    s.kzero, OneOf<KvZero>{});
  v(Field{"vzero", 25, "Zero-points of the values' codes, likewise."}, s.vzero, OneOf<KvZero>{});
  v(Field{"group_size", 5, "Query heads per KV head: num_qo_heads / num_kv_heads."}, s.group_size, IntRange{1, 128});
  v(Field{"head_dim_qk", 6, "Head dimension of q and k."}, s.head_dim_qk, kHeadDim);
  v(Field{"head_dim_vo", 7, "Head dimension of v and o."}, s.head_dim_vo, kHeadDim);
  v(Field{"gqa_pack", 8, "Whether the heads of a group share a tile's rows."}, s.gqa_pack, OneOf<GqaPack>{});
  v(Field{"layout.kind", 9, "Where keys and values lie: packed per request, or in pages."}, s.layout.kind, OneOf<LayoutKind>{});
  v(Field{"layout.page_size", 10, "Tokens of a page; paged only."}, s.layout.page_size, IntRange{1, 65536});
  v(Field{"layout.order", 11, "Order inside a page: [token, head, dim] or [head, token, dim]; paged only."}, s.layout.order,
    OneOf<PageOrder>{});
  v(Field{"layout.storage", 12, "K and V in two tensors, or side by side in one: [page, 2, ...]; paged only."}, s.layout.storage,
    OneOf<KvStorage>{});
  v(Field{"layout.index", 13, "How pages are named: indptr, indices and last_page_len, or block_table and seq_lens; paged only."},
    s.layout.index, OneOf<PageIndex>{});
  v(Field{"mask", 14, "Which keys a query sees; bottom-right aligned, window width at run time, `both` is read as causal_window."},
    s.mask, OneOf<Mask>{});
  v(Field{"soft_cap", 15, "Whether scores are capped by the run-time argument soft_cap."}, s.soft_cap, Flag{});
  v(Field{"lse", 16, "Base of the log-sum-exp output, or no such output."}, s.lse, OneOf<LseOut>{});
  v(Field{"determinism", 17, "Which runs give the same bits: none promised, the same batch, or any batch that holds the request."},
    s.determinism, OneOf<Determinism>{});
  v(Field{"split_kv", 18, "How the keys of a request are split over blocks; auto means off under batch_invariant."}, s.split_kv,
    SplitRule{kSplitTokens});
  v(Field{"tile", 19, "Tile configuration: chosen for the arch, or given, tallest class first."}, s.tile, TileRule{4});
  v(Field{"hooks", 21, "Expressions that make a variant: mask, logits, sink and others."}, s.hooks, HooksRule{});
  v(Field{"arch", 20, "Where the kernel runs: the host executor, or a GPU's compute capability."}, s.arch, ArchName{});
}

/// Calls `v` for every field of `s`, which is an AppendSpec or a const one.
template <class Spec, class Visitor>
requires std::is_same_v<std::remove_const_t<Spec>, AppendSpec>
void visit_fields(Spec& s, Visitor&& v) {
  const OneOf<DType> as_q{.follows = &s.q_dtype, .follows_path = "q_dtype"};
  v(Field{"label", 0, "A name for people; two specs that differ in it alone share a kernel."}, s.label, kLabel);
  v(Field{"q_dtype", 1, "Element type of q, k and v as they come."}, s.q_dtype, kFloat16);
  v(Field{"kfmt", 2, "Elements of the cached keys: as q_dtype, or codes of 8 bits with scales (docs/kv-formats.md)."}, s.kfmt,
    as_q);
  v(Field{"vfmt", 3, "Elements of the cached values: as q_dtype, or codes of 8 bits with scales."}, s.vfmt, as_q);
  v(Field{"kscale", 4,
          "Scales of the keys' codes besides the one of all: of each token and kv head, which are made, of each kv head and "
          "channel, "
          "which are given, or both."},
    s.kscale, OneOf<KvScale>{});
  v(Field{"vscale", 5, "Scales of the values' codes, likewise."}, s.vscale, OneOf<KvScale>{});
  v(Field{"kzero", 6,
          "Zero-points of the keys' codes, which are i8: of each token and kv head, made with its scale, or each kv head and "
          "channel, "
          "given."},
    s.kzero, OneOf<KvZero>{});
  v(Field{"vzero", 7, "Zero-points of the values' codes, likewise."}, s.vzero, OneOf<KvZero>{});
  v(Field{"head_dim_qk", 8, "Head dimension of q and k."}, s.head_dim_qk, kHeadDim);
  v(Field{"head_dim_vo", 9, "Head dimension of v."}, s.head_dim_vo, kHeadDim);
  v(Field{"rope", 10, "Which elements of q and k rotary embeddings turn together: none, halves or neighbours."}, s.rope,
    OneOf<RopePairs>{});
  v(Field{"rope_dims", 11, "How many dimensions are turned, the first ones; 0: all."}, s.rope_dims, IntRange{0, 256, 16});
  v(Field{"place", 12, "How a token's place is given: as a slot, page * page_size + place, or as its request and position."},
    s.place, OneOf<TokenPlace>{});
  v(Field{"layout.kind", 13, "Where cached keys and values lie: in pages."}, s.layout.kind,
    OneOf<LayoutKind>{.except = 1u << static_cast<int>(LayoutKind::ragged)});
  v(Field{"layout.page_size", 14, "Tokens of a page."}, s.layout.page_size, IntRange{1, 65536});
  v(Field{"layout.order", 15, "Order inside a page: [token, head, dim] or [head, token, dim]."}, s.layout.order,
    OneOf<PageOrder>{});
  v(Field{"layout.storage", 16, "K and V in two tensors, or side by side in one: [page, 2, ...]."}, s.layout.storage,
    OneOf<KvStorage>{});
  v(Field{"layout.index", 17, "How a request's pages are named: indptr and indices, or block_table; with positions only."},
    s.layout.index, OneOf<PageIndex>{});
  v(Field{"arch", 18, "Where the kernel runs: the host executor, or a GPU's compute capability."}, s.arch, ArchName{});
}

/// Calls `v` for every field of `s`, which is a MergeSpec or a const one.
template <class Spec, class Visitor>
requires std::is_same_v<std::remove_const_t<Spec>, MergeSpec>
void visit_fields(Spec& s, Visitor&& v) {
  v(Field{"label", 0, "A name for people; two specs that differ in it alone share a kernel."}, s.label, kLabel);
  v(Field{"dtype", 1, "Element type of the states and of the result."}, s.dtype, kFloat16);
  v(Field{"head_dim", 2, "Head dimension of o."}, s.head_dim, IntRange{8, 256, 8});
  v(Field{"lse", 3, "Base of the log-sum-exp of the states and of the result."}, s.lse,
    OneOf<LseOut>{.except = 1u << static_cast<int>(LseOut::none)});
  v(Field{"hooks", 5, "Expressions behind the merge: output and sink."}, s.hooks, HooksRule{.findings = merge_findings});
  v(Field{"arch", 4, "Where the kernel runs: the host executor, or a GPU's compute capability."}, s.arch, ArchName{});
}

}  // namespace lathe::fields
