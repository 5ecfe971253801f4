#include "policies.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <string_view>
#include <utility>
#include <vector>

#include "lathe/arch/traits.h"
#include "lathe/base/bytes.h"
#include "lathe/plan/attention_image.h"
#include "lathe/plan/attention_plan.h"
#include "lathe/plan/attention_tile.h"

namespace lathe {
namespace {

constexpr const char* kArch = "sm_90a";
constexpr int32_t kMaxHeads = 1 << 12, kMaxSms = 1 << 12;

class Planned : public Policy {
 public:
  Planned(PlanShape shape, int32_t page_size, bool shares) : shape_(std::move(shape)), page_size_(page_size), shares_(shares) {}

  Result<Timed> assign(const PolicyBatch& batch, Assignment& out) override {
    lay_out(batch.qo_lens, batch.kv_lens);
    PlanBatch lengths{qo_indptr_, batch.kv_lens, kv_begin_, 0};
    if (shares_) lengths.page_ids = batch.page_ids;
    const auto start = std::chrono::steady_clock::now();
    const Status status = plan_attention(shape_, lengths, nullptr, plan_);
    const Timed timed{std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count()};
    LATHE_TRY(status);
    read(out);
    return timed;
  }

 private:
  void lay_out(std::span<const int32_t> qo_lens, std::span<const int32_t> kv_lens) {
    qo_indptr_.assign(1, 0);
    kv_begin_.clear();
    int32_t page = 0;
    for (size_t b = 0; b < kv_lens.size(); ++b) {
      qo_indptr_.push_back(qo_indptr_.back() + qo_lens[b]);
      kv_begin_.push_back(page);
      page += ceil_div(kv_lens[b], page_size_);
    }
  }

  void read(Assignment& out) const {
    const int32_t group = shape_.spec.group_size;
    out.num_ctas = shape_.num_ctas;
    out.ctas_per_sm = 1;
    out.num_heads = shape_.num_kv_heads * (shape_.tile.packed ? 1 : group);
    out.rows_per_token = shape_.tile.packed ? group : 1;
    out.workspace_bytes = static_cast<int64_t>(plan_.workspace.total());
    out.shares = plan_.num_shared_tiles > 0;
    out.pieces.clear();
    for_each_item(view_plan(plan_.bytes()), [&](int cta, const abi::AttentionWorkItem& item) {
      out.pieces.push_back({.cta = cta,
                            .request = item.request,
                            .head = item.head,
                            .num_heads = item.num_heads,
                            .row_begin = item.row_begin,
                            .rows = shape_.tile.classes[item.tile_class].q,
                            .kv_begin = item.kv_begin,
                            .kv_end = item.kv_end,
                            .partial = item.merge_group >= 0});
    });
  }

  const PlanShape shape_;
  const int32_t page_size_;
  const bool shares_;
  std::vector<int32_t> qo_indptr_, kv_begin_;
  AttentionPlan plan_;
};

Status check(const PolicyShape& shape) {
  Problems problems;
  const auto range = [&](const char* what, int32_t value, int32_t max) {
    if (value < 1 || value > max) {
      problems.add(what, std::to_string(value) + " is not allowed; allowed: 1.." + std::to_string(max));
    }
  };
  range("num_qo_heads", shape.num_qo_heads, kMaxHeads);
  range("num_kv_heads", shape.num_kv_heads, kMaxHeads);
  range("num_sms", shape.num_sms, kMaxSms);
  if (problems.empty() && shape.num_qo_heads % shape.num_kv_heads != 0) {
    problems.add("num_qo_heads",
                 std::to_string(shape.num_qo_heads) + " is not a multiple of num_kv_heads, " + std::to_string(shape.num_kv_heads));
  }
  return problems.status();
}

}  // namespace

const char* name_of(PolicyKind kind) {
  switch (kind) {
    case PolicyKind::ours:
      return "ours";
    case PolicyKind::shared:
      return "shared";
    case PolicyKind::uniform_chunk:
      return "uniform_chunk";
    case PolicyKind::no_split:
      break;
  }
  return "no_split";
}

std::optional<PolicyKind> policy_named(std::string_view name) {
  const auto at = std::ranges::find_if(kPolicies, [&](PolicyKind kind) { return name == name_of(kind); });
  if (at == std::end(kPolicies)) return std::nullopt;
  return *at;
}

Result<std::unique_ptr<Policy>> make_policy(PolicyKind kind, const PolicyShape& shape) {
  LATHE_TRY(check(shape));
  AttentionSpec spec;
  spec.group_size = shape.num_qo_heads / shape.num_kv_heads;
  spec.head_dim_qk = spec.head_dim_vo = shape.head_dim;
  spec.layout.page_size = shape.page_size;
  spec.mask = Mask::causal;
  spec.arch = kArch;
  if (kind == PolicyKind::no_split) spec.split_kv.mode = SplitMode::off;
  LATHE_TRY(validate(spec));
  const Result<ArchTraits> arch = arch_traits(kArch);
  LATHE_TRY(arch);
  const Result<AttentionTile> tile = resolve_tile(spec, *arch);
  LATHE_TRY(tile);
  if (kind == PolicyKind::uniform_chunk) return make_uniform_chunk(shape);
  return std::unique_ptr<Policy>(std::make_unique<Planned>(PlanShape{spec, *tile, shape.num_kv_heads, shape.num_sms},
                                                           shape.page_size, kind == PolicyKind::shared));
}

}  // namespace lathe
