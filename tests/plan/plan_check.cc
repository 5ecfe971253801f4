#include "plan_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <tuple>

#include "lathe/plan/attention_image.h"

namespace lathe::testing {
namespace {

using Item = abi::AttentionWorkItem;

// The items of all blocks, one for each head.
std::vector<Item> tiles_of(const PlanView& view) {
  std::vector<Item> items;
  for_each_item(view, [&](int, Item item) {
    const int end = item.head + item.num_heads;
    item.num_heads = 1;
    for (; item.head < end; ++item.head) items.push_back(item);
  });
  return items;
}

abi::AttentionMergeGroup group_of(const PlanView& view, const Item& item) {
  const abi::AttentionPlanHeader& h = view.header;
  abi::AttentionMergeGroup group = view.groups[static_cast<size_t>(item.merge_group % h.num_groups)];
  group.first_row += item.merge_group / h.num_groups * h.replica_partial_rows;
  return group;
}

struct Checker {
  const PlanShape& shape;
  const PlanBatch& batch;
  const AttentionPlan& plan;
  PlanView view = view_plan(plan.bytes());
  std::vector<Item> items = tiles_of(view);
  std::vector<int> group_uses = std::vector<int>(static_cast<size_t>(plan.num_split_tiles), 0);

  int64_t group() const { return shape.tile.packed ? shape.spec.group_size : 1; }
  int64_t heads() const { return shape.tile.packed ? shape.num_kv_heads : int64_t{shape.num_kv_heads} * shape.spec.group_size; }
  int64_t qo_len(size_t b) const { return batch.qo_indptr[b + 1] - batch.qo_indptr[b]; }
  int64_t rows(size_t b) const { return qo_len(b) * group(); }
  int64_t tile_rows(const Item& item) const { return shape.tile.classes[item.tile_class].q; }

  // Rows of an item's tile that exist.
  int64_t num_rows(const Item& item) const { return std::min(tile_rows(item), rows(item.request) - item.row_begin); }

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
    if (h.num_items * h.num_replicas != plan.num_items || h.num_groups * h.num_replicas != plan.num_split_tiles ||
        h.num_lists * h.num_replicas != shape.num_ctas || h.replica_heads * h.num_replicas != heads() ||
        h.replica_partial_rows * int64_t{h.num_replicas} != plan.partial_rows)
      return "header: counts";
    int64_t size = static_cast<int64_t>(plan.image_bytes);
    if (h.bytes != size || plan.image.size() < plan.image_bytes) return "header: bytes";
    if (h.requests_offset % 16 || h.item_indptr_offset % 16 || h.items_offset % 16 || h.groups_offset % 16)
      return "header: alignment";
    if (h.items_offset + 32LL * h.num_items > size || h.groups_offset + 8LL * h.num_groups > h.items_offset ||
        h.item_indptr_offset + 4LL * (h.num_lists + 1) > h.groups_offset ||
        h.requests_offset + 16LL * h.num_requests > h.item_indptr_offset || h.requests_offset < 64)
      return "header: lists overlap or pass the end";
    for (size_t b = 0; b < batch.kv_lens.size(); ++b) {
      const abi::AttentionRequest& r = view.requests[b];
      if (r.qo_begin != batch.qo_indptr[b] || r.qo_len != qo_len(b) || r.kv_len != batch.kv_lens[b] ||
          r.kv_begin != batch.kv_begin[b])
        return fmt::format("request {} differs", b);
    }
    return {};
  }

  std::string lists() const {
    if (view.item_indptr.front() != 0 || view.item_indptr.back() != view.header.num_items)
      return "item_indptr does not cover the items";
    for (int list = 0; list < view.header.num_lists; ++list) {
      if (view.item_indptr[list + 1] < view.item_indptr[list]) return fmt::format("list {} has fewer than no items", list);
    }
    const PlanLoad load = load_of(shape, plan);
    int64_t total = 0;
    for (const Item& item : items) total += item_cost(shape, item);
    return total == load.total && load.longest * shape.num_ctas >= total ? "" : "loads";
  }

  std::string item_fields(const Item& item) const {
    bool known = item.request >= 0 && item.request < view.header.num_requests && item.head >= 0 && item.head < heads() &&
                 item.tile_class >= 0 && item.tile_class < static_cast<int>(shape.tile.classes.size()) && item.level == 0 &&
                 item.num_heads == 1;
    if (!known) return "item names what does not exist";
    if (item.row_begin < 0 || item.row_begin >= rows(item.request) || item.row_begin % tile_rows(item) != 0)
      return "item: row_begin";
    if (item.kv_begin < 0 || item.kv_end < item.kv_begin || item.kv_end > batch.kv_lens[item.request]) return "item: key range";
    if ((item.partial_row < 0) != (item.merge_group < 0) || item.merge_group >= plan.num_split_tiles) return "item: partial";
    return {};
  }

  // The parts of one output tile, sorted by key.
  std::string tile(const std::vector<const Item*>& parts) {
    const Item& first = *parts.front();
    if (parts.size() == 1) return first.merge_group == -1 ? "" : "a tile of one part has a merge group";
    if (first.merge_group < 0) return "a split tile has no merge group";
    const abi::AttentionMergeGroup g = group_of(view, first);
    if (group_uses[first.merge_group]++ != 0) return "a merge group serves two tiles";
    if (g.num_parts != static_cast<int>(parts.size()))
      return fmt::format("group of {} parts for {} items", g.num_parts, parts.size());
    for (size_t i = 0; i < parts.size(); ++i) {
      const Item& part = *parts[i];
      if (part.merge_group != first.merge_group || part.tile_class != first.tile_class)
        return "parts of a tile differ in group or class";
      if (part.partial_row != g.first_row + static_cast<int64_t>(i) * num_rows(part))
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
    for (const Item& item : items) {
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
    for (size_t g = 0; g < group_uses.size(); ++g) {
      if (group_uses[g] != 1) return fmt::format("group {} is used {} times", g, group_uses[g]);
    }
    for (const Item& item : items) {
      if (item.partial_row >= 0) ranges.emplace_back(item.partial_row, item.partial_row + num_rows(item));
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
    bool fits = w.plan >= plan.image_bytes && w.counters >= 4 * group_uses.size() &&
                w.partial_o >= static_cast<size_t>(plan.partial_rows) * shape.spec.head_dim_vo * 4 &&
                w.partial_lse >= static_cast<size_t>(plan.partial_rows) * 4;
    return fits ? "" : "workspace too small";
  }

  std::string splits() const {
    int64_t parts = 0;
    for (const Item& item : items) parts += item.merge_group >= 0;
    SplitMode mode = shape.spec.split_kv.mode;
    bool none = mode == SplitMode::off || (mode == SplitMode::automatic && shape.spec.determinism == Determinism::batch_invariant);
    if (none && parts > 0) return "split although the spec forbids it";
    if (mode == SplitMode::automatic && parts > 2 * int64_t{shape.num_ctas}) return "more than two parts for each block";
    return {};
  }
};

}  // namespace

std::vector<std::string> items_of_request(const PlanShape& shape, const AttentionPlan& plan, int32_t request) {
  PlanView view = view_plan(plan.bytes());
  std::vector<std::string> lines;
  for (const Item& item : tiles_of(view)) {
    if (item.request != request) continue;
    int part = 0, parts = 1;
    if (item.merge_group >= 0) {
      const abi::AttentionMergeGroup group = group_of(view, item);
      const abi::AttentionRequest& r = view.requests[request];
      const int rows = r.qo_len * (shape.tile.packed ? shape.spec.group_size : 1) - item.row_begin;
      part = (item.partial_row - group.first_row) / std::min<int>(rows, shape.tile.classes[item.tile_class].q);
      parts = group.num_parts;
    }
    lines.push_back(fmt::format("head {} row {} class {} keys [{}, {}) part {} of {}", item.head, item.row_begin,
                                static_cast<int>(item.tile_class), item.kv_begin, item.kv_end, part, parts));
  }
  std::sort(lines.begin(), lines.end());
  return lines;
}

int64_t num_tiles_and_parts(const AttentionPlan& plan) {
  return static_cast<int64_t>(tiles_of(view_plan(plan.bytes())).size());
}

std::string first_difference(BytesView a, BytesView b) {
  const PlanView x = view_plan(a), y = view_plan(b);
  const auto differ = [](auto s, auto t) {
    return s.size() != t.size() || (!s.empty() && std::memcmp(s.data(), t.data(), s.size_bytes()) != 0);
  };
  const auto &h = x.header, &k = y.header;
  if (h.num_lists != k.num_lists || h.num_replicas != k.num_replicas || h.replica_heads != k.replica_heads ||
      h.replica_partial_rows != k.replica_partial_rows)
    return "header";
  if (differ(x.requests, y.requests)) return "requests";
  if (differ(x.item_indptr, y.item_indptr)) return "item_indptr";
  if (differ(x.groups, y.groups)) return "groups";
  return differ(x.items, y.items) ? "items" : "";
}

std::string check_plan(const PlanShape& shape, const PlanBatch& batch, const AttentionPlan& plan) {
  Checker checker{shape, batch, plan};
  if (std::string wrong = checker.header(); !wrong.empty()) return wrong;
  if (std::string wrong = checker.lists(); !wrong.empty()) return wrong;
  if (std::string wrong = checker.coverage(); !wrong.empty()) return wrong;
  if (std::string wrong = checker.partials(); !wrong.empty()) return wrong;
  return checker.splits();
}

}  // namespace lathe::testing
