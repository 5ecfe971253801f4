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

// The items of block `cta` side by side: full where an item has its tile alone, half-tone where it is one of several parts. Each
// that is wider than a cell begins with a half cell, so that neighbours can be told apart.
std::string bar(const AttentionPlan& plan, const PlanView& view, int32_t cta, int64_t scale, int width) {
  std::string cells;
  int64_t at = 0;
  for (int i = view.item_indptr[cta]; i < view.item_indptr[cta + 1]; ++i) {
    auto cell_of = [&](int64_t cost) { return static_cast<int>(static_cast<double>(cost) / static_cast<double>(scale) * width); };
    int first = cell_of(at);
    at += plan.item_cost[i];
    int end = cell_of(at);
    for (int c = first; c < end; ++c) {
      bool start = c == first && end - first > 1;
      cells += start ? "▐" : view.items[i].merge_group >= 0 ? "▒" : "█";
    }
  }
  return cells;
}

std::string summary(const AttentionPlan& plan, int64_t longest, int64_t mean) {
  double ratio = mean > 0 ? static_cast<double>(longest) / static_cast<double>(mean) : 1.0;
  std::string time = time_text(longest);
  return fmt::format("{} items on {} blocks\n{} tiles split\nlongest block {} (nominal)\n{:.3f} x mean\n", plan.num_items,
                     plan.cta_load.size(), plan.num_groups, time.substr(time.find_first_not_of(' ')), ratio);
}

std::string splits(const PlanView& view) {
  std::map<int, std::pair<int, int>> parts_of;  // request -> split tiles, most parts of one of them
  std::vector<bool> seen(view.groups.size());
  for (const abi::AttentionWorkItem& item : view.items) {
    if (item.merge_group < 0 || seen[item.merge_group]) continue;
    seen[item.merge_group] = true;
    auto& [tiles, parts] = parts_of[item.request];
    ++tiles;
    parts = std::max(parts, view.groups[item.merge_group].num_parts);
  }
  std::string text;
  int shown = 0;
  for (const auto& [request, count] : parts_of) {
    if (shown++ == kMaxSplits) {
      text += fmt::format("and {} more split requests\n", parts_of.size() - kMaxSplits);
      break;
    }
    text += fmt::format("request {}: {} tile{} in {} parts\n", request, count.first, count.first == 1 ? "" : "s", count.second);
  }
  return text;
}

}  // namespace

std::string draw(const AttentionPlan& plan, int columns) {
  columns = std::max(columns, kMinColumns);
  PlanView view = view_plan(plan.image);
  int64_t longest = 0;
  for (int64_t load : plan.cta_load) longest = std::max(longest, load);
  int64_t mean = plan.cta_load.empty() ? 0 : plan.total_load / static_cast<int64_t>(plan.cta_load.size());
  std::string text = summary(plan, longest, mean);
  if (longest == 0) return text;
  std::vector<Line> lines = lines_of(plan.cta_load);
  size_t label_width = 0;
  for (const Line& line : lines) label_width = std::max(label_width, line.label().size());
  int width = columns - static_cast<int>(label_width) - kTimeWidth - 2;
  for (const Line& line : lines) {
    text += fmt::format("{:>{}} {} {}\n", line.label(), label_width, time_text(plan.cta_load[line.shown]),
                        bar(plan, view, line.shown, longest, width));
  }
  return text + splits(view);
}

}  // namespace lathe
