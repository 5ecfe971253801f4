#include "sharing_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <vector>

#include "lathe/plan/attention_image.h"

namespace lathe::testing {
namespace {

using Item = abi::AttentionWorkItem;

// Keys [begin, end) of the table that begins at entry `table`.
struct Keys {
  int64_t table, begin, end;
};

struct SharingChecker {
  const PlanShape& shape;
  const PlanBatch& batch;
  const AttentionPlan& plan;
  PlanView view = view_plan(plan.bytes());
  std::map<std::tuple<int, int, int>, std::vector<Item>> tiles = {};  // request, head, first row -> parts by key
  std::set<int64_t> states = {};                                      // partial rows that were written
  std::set<int> groups = {};

  int64_t group() const { return shape.tile.packed ? shape.spec.group_size : 1; }
  int num_requests() const { return static_cast<int>(batch.kv_lens.size()); }
  int rows_of(const Item& item) const {
    const int rows =
        item.level == 0 ? view.requests[item.request].qo_len * static_cast<int>(group()) : view.requests[item.request].qo_len;
    return std::min(rows - item.row_begin, shape.tile.classes[item.tile_class].q);
  }
  // Of the replica that holds `head`.
  int group_index(int tile, int head) const {
    const abi::AttentionPlanHeader& h = view.header;
    return head / h.replica_heads * h.num_groups + tile * h.replica_heads + head % h.replica_heads;
  }

  std::string read_items() {
    std::string wrong;
    for_each_item(view, [&](int, const Item& item) {
      const bool shared = item.request >= num_requests();
      if (shared != (item.level == 1)) wrong = "level of an item";
      for (int head = item.head; head < item.head + item.num_heads; ++head) {
        Item one = item;
        one.head = head;
        tiles[{item.request, head, item.row_begin}].push_back(one);
      }
      for (int row = 0; item.partial_row >= 0 && row < rows_of(item); ++row) {
        if (!states.insert(int64_t{item.partial_row} + row).second) wrong = "partial states overlap";
      }
    });
    for (auto& [key, parts] : tiles) {
      std::ranges::sort(parts, {}, &Item::kv_begin);
      for (size_t i = 1; i < parts.size(); ++i) {
        if (parts[i].kv_begin != parts[i - 1].kv_end) wrong = "parts of a tile overlap or leave a gap";
      }
      if (parts[0].partial_row < 0) {
        if (parts.size() > 1) wrong = "parts without a state";
        continue;
      }
      const int g = parts[0].merge_group;
      if (!groups.insert(g).second) wrong = "a merge group serves two tiles";
      const abi::AttentionPlanHeader& h = view.header;
      const abi::AttentionMergeGroup& listed = view.groups[static_cast<size_t>(g % h.num_groups)];
      if (listed.num_parts != static_cast<int>(parts.size())) wrong = "a group's parts are not its tile's";
      for (size_t i = 0; i < parts.size(); ++i) {
        const int64_t first = listed.first_row + int64_t{g / h.num_groups} * h.replica_partial_rows;
        if (parts[i].merge_group != g || parts[i].partial_row != first + static_cast<int64_t>(i) * rows_of(parts[i]))
          wrong = "a part's state is not where the merge looks";
      }
    }
    if (!states.empty() && *states.rbegin() >= plan.partial_rows) wrong = "partial states pass their rows";
    return wrong;
  }

  // What the tile of `parts`, a leaf's or not, has in front of its own keys, for its row `row`.
  std::string add_shared(const Item& own, int row, std::vector<Keys>& keys) const {
    const int g = own.merge_group % view.header.num_groups, linked = g / view.header.replica_heads;
    if (linked >= view.header.num_linked) return {};
    const abi::AttentionLinkedTile& leaf = view.linked[static_cast<size_t>(linked)];
    const int64_t batch_row = int64_t{view.requests[own.request].qo_begin} * group() + own.row_begin;
    if (own.merge_group != group_index(linked, own.head)) return "a leaf's group is not its own";
    if (leaf.first_row != batch_row || leaf.num_rows != rows_of(own)) return "a leaf's rows";
    for (int l = 0; l < leaf.num_links; ++l) {
      const abi::AttentionLink& link = view.links[static_cast<size_t>(leaf.first_link + l)];
      const abi::AttentionLinkedTile& tile = view.linked[static_cast<size_t>(link.tile)];
      // The shared tile's items are those whose group is its.
      const auto found = std::ranges::find_if(tiles, [&](const auto& entry) {
        return entry.second[0].level == 1 && std::get<1>(entry.first) == own.head &&
               entry.second[0].merge_group == group_index(link.tile, own.head);
      });
      if (found == tiles.end()) return "a link leads nowhere";
      const std::vector<Item>& parts = found->second;
      const abi::AttentionRequest& request = view.requests[parts[0].request];
      if (tile.num_rows != rows_of(parts[0]) || link.row + leaf.num_rows > tile.num_rows) return "a link's rows";
      const abi::AttentionSharedRow& at = view.shared_rows[static_cast<size_t>(request.qo_begin + link.row + row)];
      if (at.row != batch_row + row) return "a shared row is another's";
      const abi::AttentionLink& back = view.links[static_cast<size_t>(tile.first_link + at.link)];
      if (at.link >= tile.num_links || back.tile != linked || back.row != link.row) return "a shared tile does not know its leaf";
      if (request.kv_len - request.qo_len < parts.back().kv_end) return "a shared tile does not see its keys";
      keys.push_back({request.kv_begin, parts.front().kv_begin, parts.back().kv_end});
    }
    return {};
  }

  std::string row(int b, int head, int64_t r, const std::vector<Item>& parts) const {
    std::vector<Keys> keys;
    if (parts[0].merge_group >= 0) {
      if (std::string wrong = add_shared(parts[0], static_cast<int>(r) - parts[0].row_begin, keys); !wrong.empty()) return wrong;
    }
    keys.push_back({batch.kv_begin[b], parts.front().kv_begin, parts.back().kv_end});
    const int64_t qo_len = batch.qo_indptr[b + 1] - batch.qo_indptr[b], kv_len = batch.kv_lens[b];
    const int64_t visible = shape.spec.causal() ? std::max<int64_t>(r / group() + kv_len - qo_len + 1, 0) : kv_len;
    const int64_t size = shape.spec.layout.page_size;
    int64_t covered = 0;
    for (const Keys& part : keys) {
      if (part.begin == part.end) continue;
      if (part.begin != covered)
        return fmt::format("request {} head {} row {}: keys from {} on follow {}", b, head, r, part.begin, covered);
      for (int64_t key = part.begin; key < part.end; key += size - key % size) {
        if (batch.page_ids[static_cast<size_t>(part.table + key / size)] !=
            batch.page_ids[static_cast<size_t>(batch.kv_begin[b] + key / size)])
          return fmt::format("request {} head {} row {}: key {} is read from another page", b, head, r, key);
      }
      covered = part.end;
      if (&part != &keys.back() && covered > visible) return "keys are shared that a row does not see";
    }
    return covered >= visible ? ""
                              : fmt::format("request {} head {} row {} sees {} keys, covered are {}", b, head, r, visible, covered);
  }

  std::string coverage() {
    const int heads = view.header.replica_heads * view.header.num_replicas;
    size_t found = 0;
    for (int b = 0; b < num_requests(); ++b) {
      const int64_t rows = (batch.qo_indptr[b + 1] - batch.qo_indptr[b]) * group();
      for (int head = 0; head < heads; ++head) {
        for (int64_t r = 0; r < rows;) {
          const auto at = tiles.find({b, head, static_cast<int>(r)});
          if (at == tiles.end()) return fmt::format("request {} head {} row {} is in no tile", b, head, r);
          ++found;
          for (const int64_t end = r + rows_of(at->second[0]); r < end; ++r) {
            if (std::string wrong = row(b, head, r, at->second); !wrong.empty()) return wrong;
          }
        }
      }
    }
    const auto shared = std::ranges::count_if(tiles, [](const auto& entry) { return entry.second[0].level == 1; });
    if (shared != plan.num_shared_tiles) return "num_shared_tiles";
    return found + static_cast<size_t>(shared) == tiles.size() ? "" : "a tile beyond the rows of its request";
  }
};

}  // namespace

std::string check_sharing(const PlanShape& shape, const PlanBatch& batch, const AttentionPlan& plan) {
  SharingChecker checker{shape, batch, plan};
  if (std::string wrong = checker.read_items(); !wrong.empty()) return wrong;
  return checker.coverage();
}

}  // namespace lathe::testing
