// Ways to schedule a batch, to be compared.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "lathe/base/status.h"
#include "lathe/replay/evaluate.h"

namespace lathe {

enum class PolicyKind : uint8_t {
  ours,           // the planner
  shared,         // the planner, given page tables: requests read the pages that they have in common together where that pays
  uniform_chunk,  // one tile and one length of chunks for the whole batch, see below
  no_split,       // the planner, no tile cut
};
constexpr PolicyKind kPolicies[] = {PolicyKind::ours, PolicyKind::shared, PolicyKind::uniform_chunk, PolicyKind::no_split};
const char* name_of(PolicyKind);
std::optional<PolicyKind> policy_named(std::string_view name);

/// 16-bit attention over pages, under a causal mask, for an H100-like device with `num_sms` multiprocessors.
struct PolicyShape {
  int32_t num_qo_heads = 0, num_kv_heads = 0;
  int32_t head_dim = 0;
  int32_t page_size = 16;
  int32_t num_sms = 0;

  EvaluatedBatch batch(std::span<const int32_t> qo_lens, std::span<const int32_t> kv_lens) const {
    return {num_kv_heads, num_qo_heads / num_kv_heads, head_dim, head_dim, num_sms, qo_lens, kv_lens};
  }
};

/// One step.
struct PolicyBatch {
  std::span<const int32_t> qo_lens, kv_lens;  // [requests]
  std::span<const int32_t> page_ids = {};     // tables of ceil(kv_len / page_size) pages, one after another; needed by `shared`
};

/// One way. Keeps buffers between calls, so not thread-safe.
class Policy {
 public:
  virtual ~Policy() = default;

  struct Timed {
    double plan_us = 0;  // wall clock of planning alone, without turning the result into `out`
  };
  /// Schedules a batch into `out`, whose memory is reused. Refuses what the planner refuses.
  virtual Result<Timed> assign(const PolicyBatch& batch, Assignment& out) = 0;
};

/// Refuses, by name, what is out of range or does not divide.
///
/// uniform_chunk follows the published behaviour of FlashInfer's default plan (PrefillPlan, version 0.6.18), from a description of
/// it. What is assumed where the description leaves room is chosen in its favour:
///   - Packed rows of a request are query tokens times the group size. The tile has 128 rows when their average over the batch is
///     above 64, 64 when above 16, else 16.
///   - There are two blocks on each multiprocessor; the budget is 2 * num_sms / num_kv_heads tiles (rounded down). When the
///     batch has that many tiles or more, none is cut. Else all are cut into chunks of one length, the least number of pages,
///     at least 128 tokens, with which the parts are within the budget.
///   - Each part for each KV head is one block. Blocks start in order, by KV head, then request, tile and chunk; each goes to
///     the slot that is free first.
///   - Keys that no row of a tile sees are not read. Only tiles with more than one part pay for partial states.
///   - Two blocks share a multiprocessor's speed all the time. In truth one whose neighbour is done may go on faster, so that a
///     single long tail may take down to half of what the evaluation says.
Result<std::unique_ptr<Policy>> make_policy(PolicyKind kind, const PolicyShape& shape);

/// As above for uniform_chunk; `shape` has been checked. Internal to csrc/replay.
std::unique_ptr<Policy> make_uniform_chunk(const PolicyShape& shape);

}  // namespace lathe
