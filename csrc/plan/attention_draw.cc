#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "lathe/plan/attention_image.h"
#include "lathe/plan/attention_plan.h"

namespace lathe {
namespace {

constexpr int kMinColumns = 40;
constexpr int kMaxLines = 32;   // blocks beyond this many share lines
constexpr int kMaxSplits = 6;   // split requests named one by one
constexpr int kTimeWidth = 10;  // "  123.4 us"

// Costs are picoseconds.
std::string time_text(int64_t cost) {
  double us = static_cast<double>(cost) / 1e6;
  if (us < 1e5) return fmt::format("{:7.1f} us", us);
  return us < 1e8 ? fmt::format("{:7.1f} ms", us / 1e3) : fmt::format("{:8.1f} s", us / 1e6);
}

// What one line shows: of blocks [first, last], the one with the greatest load.
struct Line {
  int32_t first = 0, last = 0, shown = 0;
  std::string label() const { return first == last ? fmt::format("{}", first) : fmt::format("{}-{}", first, last); }
};

std::vector<Line> lines_of(const std::vector<int64_t>& load) {
  int32_t blocks = static_cast<int32_t>(load.size());
  int32_t per_line = ceil_div(blocks, kMaxLines);
  std::vector<Line> lines;
  for (int32_t first = 0; first < blocks; first += per_line) {
    Line line{first, std::min(first + per_line, blocks) - 1, first};
    for (int32_t b = first; b <= line.last; ++b) {
      if (load[b] > load[line.shown]) line.shown = b;
    }
    lines.push_back(line);
  }
  return lines;
}

// One bar for each block: its items side by side, full where an item has its tile alone, half-tone where it is one of several
// parts. Each that is wider than a cell begins with a half cell, so that neighbours can be told apart.
std::vector<std::string> bars_of(const PlanShape& shape, const PlanView& view, int64_t scale, int width) {
  std::vector<std::string> bars(static_cast<size_t>(shape.num_ctas));
  std::vector<int64_t> at(bars.size(), 0);
  const auto cell_of = [&](int64_t cost) {
    return static_cast<int>(static_cast<double>(cost) / static_cast<double>(scale) * width);
  };
  for_each_item(view, [&](int cta, const abi::AttentionWorkItem& item) {
    const int64_t each = item_cost(shape, item) / item.num_heads;
    for (int head = 0; head < item.num_heads; ++head) {
      const int first = cell_of(at[static_cast<size_t>(cta)]);
      at[static_cast<size_t>(cta)] += each;
      const int end = cell_of(at[static_cast<size_t>(cta)]);
      for (int c = first; c < end; ++c) {
        const bool start = c == first && end - first > 1;
        bars[static_cast<size_t>(cta)] += start ? "▐" : item.merge_group >= 0 ? "▒" : "█";
      }
    }
  });
  return bars;
}

std::string summary(const AttentionPlan& plan, const PlanLoad& load) {
  const std::string time = time_text(load.longest);
  const std::string shared =
      plan.num_shared_tiles > 0 ? fmt::format("{} tiles of keys that requests share\n", plan.num_shared_tiles) : "";
  return fmt::format("{} items on {} blocks\n{} tiles split\n{}longest block {} (nominal)\n{:.3f} x mean\n", plan.num_items,
                     load.cta.size(), plan.num_split_tiles, shared, time.substr(time.find_first_not_of(' ')), load.imbalance());
}

std::string splits(const PlanView& view) {
  constexpr int kShared = -1;
  std::map<int, std::pair<int, int>> parts_of;  // request, or kShared -> split tiles, most parts of one of them
  std::vector<bool> seen(static_cast<size_t>(view.header.num_groups * view.header.num_replicas));
  for_each_item(view, [&](int, const abi::AttentionWorkItem& item) {
    if (item.merge_group < 0 || seen[static_cast<size_t>(item.merge_group)]) return;
    seen[static_cast<size_t>(item.merge_group)] = true;
    const int num_parts = view.groups[static_cast<size_t>(item.merge_group % view.header.num_groups)].num_parts;
    if (num_parts == 1) return;  // merged with the states of shared keys alone
    auto& [tiles, parts] = parts_of[item.level == 0 ? item.request : kShared];
    ++tiles;
    parts = std::max(parts, num_parts);
  });
  std::string text;
  int shown = 0;
  for (const auto& [request, count] : parts_of) {
    if (shown++ == kMaxSplits) {
      text += fmt::format("and {} more split requests\n", parts_of.size() - kMaxSplits);
      break;
    }
    const std::string whose = request == kShared ? "shared keys" : fmt::format("request {}", request);
    text += fmt::format("{}: {} tile{} in {} parts\n", whose, count.first, count.first == 1 ? "" : "s", count.second);
  }
  return text;
}

}  // namespace

std::string draw(const PlanShape& shape, const AttentionPlan& plan, int columns) {
  columns = std::max(columns, kMinColumns);
  const PlanView view = view_plan(plan.bytes());
  const PlanLoad load = load_of(shape, plan);
  std::string text = summary(plan, load);
  if (load.longest == 0) return text;
  const std::vector<Line> lines = lines_of(load.cta);
  size_t label_width = 0;
  for (const Line& line : lines) label_width = std::max(label_width, line.label().size());
  const int width = columns - static_cast<int>(label_width) - kTimeWidth - 2;
  const std::vector<std::string> bars = bars_of(shape, view, load.longest, width);
  for (const Line& line : lines) {
    text += fmt::format("{:>{}} {} {}\n", line.label(), label_width, time_text(load.cta[static_cast<size_t>(line.shown)]),
                        bars[static_cast<size_t>(line.shown)]);
  }
  return text + splits(view);
}

}  // namespace lathe
