#include "plan_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "lathe/plan/attention_image.h"

namespace lathe::testing {
namespace {

using Item = abi::AttentionWorkItem;

struct Checker {
  const PlanShape& shape;
  const PlanBatch& batch;
  const AttentionPlan& plan;
  PlanView view = view_plan(plan.image);
  std::vector<int> group_uses = std::vector<int>(view.groups.size(), 0);

  int64_t group() const { return shape.tile.packed ? shape.spec.group_size : 1; }
  int64_t heads() const { return shape.tile.packed ? shape.num_kv_heads : int64_t{shape.num_kv_heads} * shape.spec.group_size; }
  int64_t qo_len(size_t b) const { return batch.qo_indptr[b + 1] - batch.qo_indptr[b]; }
  int64_t rows(size_t b) const { return qo_len(b) * group(); }
  int64_t tile_rows(const Item& item) const { return shape.tile.classes[item.tile_class].q; }

  // The definition, word for word.
  bool visible(size_t b, int64_t row, int64_t key) const {
    int64_t q_pos = row / group() + batch.kv_lens[b] - qo_len(b);
    if (key >= batch.kv_lens[b]) return false;
    if (shape.spec.causal() && !(key <= q_pos)) return false;
    return !shape.spec.windowed() || q_pos - key < batch.window;
  }

  std::string header() const {
    const abi::AttentionPlanHeader& h = view.header;
    if (h.num_requests != static_cast<int>(batch.kv_lens.size())) return "header: requests";
    if (h.num_items != plan.num_items || h.num_groups != plan.num_groups || h.num_ctas != shape.num_ctas) return "header: counts";
    int64_t size = static_cast<int64_t>(plan.image.size());
    if (h.requests_offset % 16 || h.item_indptr_offset % 16 || h.items_offset % 16 || h.groups_offset % 16)
      return "header: alignment";
    if (h.groups_offset + 8LL * h.num_groups > size || h.items_offset + 32LL * h.num_items > h.groups_offset ||
        h.item_indptr_offset + 4LL * (h.num_ctas + 1) > h.items_offset ||
        h.requests_offset + 16LL * h.num_requests > h.item_indptr_offset || h.requests_offset < 32)
      return "header: lists overlap or pass the end";
    for (size_t b = 0; b < batch.kv_lens.size(); ++b) {
      const abi::AttentionRequest& r = view.requests[b];
      if (r.qo_begin != batch.qo_indptr[b] || r.qo_len != qo_len(b) || r.kv_len != batch.kv_lens[b] ||
          r.kv_begin != batch.kv_begin[b])
        return fmt::format("request {} differs", b);
    }
    return {};
  }

  std::string blocks() const {
    if (view.item_indptr.front() != 0 || view.item_indptr.back() != plan.num_items) return "item_indptr does not cover the items";
    int64_t total = 0;
    for (int32_t c = 0; c < shape.num_ctas; ++c) {
      int64_t load = 0;
      for (int i = view.item_indptr[c]; i < view.item_indptr[c + 1]; ++i) {
        load += plan.item_cost[i];
        if (i > view.item_indptr[c] && plan.item_cost[i] > plan.item_cost[i - 1])
          return fmt::format("block {} is not longest first", c);
      }
      if (view.item_indptr[c + 1] < view.item_indptr[c] || load != plan.cta_load[c])
        return fmt::format("list or load of block {}", c);
      total += load;
    }
    return total == plan.total_load ? "" : "total load";
  }

  std::string item_fields(const Item& item) const {
    bool known = item.request >= 0 && item.request < view.header.num_requests && item.head >= 0 && item.head < heads() &&
                 item.tile_class >= 0 && item.tile_class < static_cast<int>(shape.tile.classes.size()) && item.level == 0;
    if (!known) return "item names what does not exist";
    if (item.row_begin < 0 || item.row_begin >= rows(item.request) || item.row_begin % tile_rows(item) != 0)
      return "item: row_begin";
    if (item.kv_begin < 0 || item.kv_end < item.kv_begin || item.kv_end > batch.kv_lens[item.request]) return "item: key range";
    if ((item.partial_row < 0) != (item.merge_group < 0) || item.merge_group >= view.header.num_groups) return "item: partial";
    return {};
  }

  // The parts of one output tile, sorted by key.
  std::string tile(const std::vector<const Item*>& parts) {
    const Item& first = *parts.front();
    if (parts.size() == 1) return first.merge_group == -1 ? "" : "a tile of one part has a merge group";
    if (first.merge_group < 0) return "a split tile has no merge group";
    const abi::AttentionMergeGroup& g = view.groups[first.merge_group];
    if (group_uses[first.merge_group]++ != 0) return "a merge group serves two tiles";
    if (g.num_parts != static_cast<int>(parts.size()))
      return fmt::format("group of {} parts for {} items", g.num_parts, parts.size());
    for (size_t i = 0; i < parts.size(); ++i) {
      const Item& part = *parts[i];
      if (part.merge_group != first.merge_group || part.tile_class != first.tile_class)
        return "parts of a tile differ in group or class";
      if (part.partial_row != g.first_row + static_cast<int64_t>(i) * tile_rows(part))
        return "a part's state is not where the merge looks";
      if (part.kv_begin == part.kv_end) return "an empty part";
      if (i > 0 && part.kv_begin != parts[i - 1]->kv_end) return "parts overlap or leave a gap";
      if (i > 0 && shape.spec.split_kv.mode == SplitMode::fixed && part.kv_begin % shape.spec.split_kv.tokens != 0)
        return "a cut off its grid";
    }
    return {};
  }

  std::string keys(size_t b, int64_t row, int64_t begin, int64_t end) const {
    int64_t kv_len = batch.kv_lens[b];
    int64_t low = 0, high = kv_len;
    if (kv_len <= 64) {  // by the definition
      while (low < kv_len && !visible(b, row, low)) ++low;
      while (high > low && !visible(b, row, high - 1)) --high;
    } else {
      int64_t q_pos = row / group() + kv_len - qo_len(b);
      if (shape.spec.windowed()) low = std::max(low, q_pos - batch.window + 1);
      if (shape.spec.causal()) high = std::min(high, q_pos + 1);
    }
    if (low >= high || (begin <= low && high <= end)) return {};
    return fmt::format("request {} row {} sees keys [{}, {}) but its tile covers [{}, {})", b, row, low, high, begin, end);
  }

  std::string coverage() {
    std::map<std::tuple<int, int, int>, std::vector<const Item*>> tiles;  // request, head, row
    for (const Item& item : view.items) {
      if (std::string wrong = item_fields(item); !wrong.empty()) return wrong;
      tiles[{item.request, item.head, item.row_begin}].push_back(&item);
    }
    auto next = tiles.begin();
    for (size_t b = 0; b < batch.kv_lens.size(); ++b) {
      for (int h = 0; h < heads(); ++h) {
        for (int64_t row = 0; row < rows(b); ++next) {
          if (next == tiles.end() || next->first != std::tuple<int, int, int>(b, h, row))
            return fmt::format("request {} head {} row {} is in no tile, or in two", b, h, row);
          std::vector<const Item*>& parts = next->second;
          std::sort(parts.begin(), parts.end(), [](const Item* x, const Item* y) { return x->kv_begin < y->kv_begin; });
          if (std::string wrong = tile(parts); !wrong.empty())
            return fmt::format("request {} head {} row {}: {}", b, h, row, wrong);
          int64_t end = std::min(row + tile_rows(*parts.front()), rows(b));
          for (; row < end; ++row) {
            // Rows of a token see the same keys.
            if (std::string wrong = keys(b, row, parts.front()->kv_begin, parts.back()->kv_end); !wrong.empty()) return wrong;
          }
        }
      }
    }
    return next == tiles.end() ? "" : "a tile beyond the rows of its request";
  }

  std::string partials() const {
    std::vector<std::pair<int64_t, int64_t>> ranges;
    std::vector<int64_t> q_of(view.groups.size(), 0);
    for (const Item& item : view.items) {
      if (item.merge_group >= 0) q_of[item.merge_group] = tile_rows(item);
    }
    for (size_t g = 0; g < view.groups.size(); ++g) {
      if (group_uses[g] != 1) return fmt::format("group {} is used {} times", g, group_uses[g]);
      ranges.emplace_back(view.groups[g].first_row, view.groups[g].first_row + view.groups[g].num_parts * q_of[g]);
    }
    std::sort(ranges.begin(), ranges.end());
    int64_t end = 0;
    for (auto [first, last] : ranges) {
      if (first < end) return "partial states overlap";
      end = last;
    }
    if (end > plan.partial_rows) return "partial states pass their rows";
    const WorkspaceLayout& w = plan.workspace;
    if (w.plan % 256 || w.counters % 256 || w.partial_o % 256 || w.partial_lse % 256) return "workspace alignment";
    bool fits = w.plan >= plan.image.size() && w.counters >= 4 * view.groups.size() &&
                w.partial_o >= static_cast<size_t>(plan.partial_rows) * shape.spec.head_dim_vo * 4 &&
                w.partial_lse >= static_cast<size_t>(plan.partial_rows) * 4;
    return fits ? "" : "workspace too small";
  }

  std::string splits() const {
    int64_t parts = 0;
    for (const abi::AttentionMergeGroup& g : view.groups) parts += g.num_parts;
    SplitMode mode = shape.spec.split_kv.mode;
    bool none = mode == SplitMode::off || (mode == SplitMode::automatic && shape.spec.determinism == Determinism::batch_invariant);
    if (none && parts > 0) return "split although the spec forbids it";
    if (mode == SplitMode::automatic && parts > 2 * int64_t{shape.num_ctas}) return "more than two parts for each block";
    return {};
  }
};

}  // namespace

std::vector<std::string> items_of_request(const PlanShape& shape, const AttentionPlan& plan, int32_t request) {
  PlanView view = view_plan(plan.image);
  std::vector<std::string> lines;
  for (const Item& item : view.items) {
    if (item.request != request) continue;
    int part = 0, parts = 1;
    if (item.merge_group >= 0) {
      part = (item.partial_row - view.groups[item.merge_group].first_row) / shape.tile.classes[item.tile_class].q;
      parts = view.groups[item.merge_group].num_parts;
    }
    lines.push_back(fmt::format("head {} row {} class {} keys [{}, {}) part {} of {}", item.head, item.row_begin, item.tile_class,
                                item.kv_begin, item.kv_end, part, parts));
  }
  std::sort(lines.begin(), lines.end());
  return lines;
}

std::string check_plan(const PlanShape& shape, const PlanBatch& batch, const AttentionPlan& plan) {
  Checker checker{shape, batch, plan};
  if (std::string wrong = checker.header(); !wrong.empty()) return wrong;
  if (std::string wrong = checker.blocks(); !wrong.empty()) return wrong;
  if (std::string wrong = checker.coverage(); !wrong.empty()) return wrong;
  if (std::string wrong = checker.partials(); !wrong.empty()) return wrong;
  return checker.splits();
}

}  // namespace lathe::testing
