// MergeSpec: merging partial attention states (o, lse) over disjoint parts of the keys into one. Source of the formula: the
// log-sum-exp identity; lse = log sum exp lse_i, o = sum exp(lse_i - lse) o_i, in index order.
//
// o [num_states, tokens, heads, head_dim] (o_dtype or f32), lse f32 [num_states, tokens, heads]; a state with lse = -inf is empty;
// all empty gives o = 0, lse = -inf.
// Hooks, of which a merge has two (docs/expressions.md), see a row once its states are one: `sink` is a logit without a value, so
// that lse = log (exp(lse) + exp(sink)) and o shrinks with it; then o = output(o, lse). All empty gives o = output(0, sink).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "lathe/base/bytes.h"
#include "lathe/base/status.h"
#include "lathe/spec/attention_hooks.h"
#include "lathe/spec/attention_spec.h"

namespace lathe {

struct MergeSpec {
  std::string label;
  DType dtype = DType::bf16;  // of the states and of the result
  int32_t head_dim = 128;     // multiple of 8, 8..256
  LseOut lse = LseOut::ln;    // base of the lse in and out: ln or log2
  AttentionHooks hooks;       // output and sink alone: merge_findings() says what is refused
  std::string arch = "host";
  bool operator==(const MergeSpec&) const = default;
};

Status validate(const MergeSpec& spec);
std::string to_json(const MergeSpec& spec);
Result<MergeSpec> merge_spec_from_json(std::string_view json);
std::string to_string(const MergeSpec& spec);
Bytes canonical_bytes(const MergeSpec& spec);

}  // namespace lathe
