#include "mask_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <optional>
#include <set>
#include <span>
#include <utility>

#include "lathe/api/hook_values.h"
#include "lathe/spec/expr/interpret.h"
#include "lathe/spec/expr/tile_runs.h"

namespace lathe::cli {
namespace {

using expr::Input;
using expr::Interval;
using expr::Truth;

int64_t tiles_of(int64_t length, int64_t tile) {
  return (length - 1) / tile + 1;
}

int64_t element(const MaskProblem::Elements& tensor, std::span<const int64_t> index) {
  int64_t at = 0;
  for (size_t i = 0; i < index.size(); ++i) at = at * tensor.shape[i] + std::clamp<int64_t>(index[i], 0, tensor.shape[i] - 1);
  return tensor.values[static_cast<size_t>(at)];
}

/// Tensors as a caller of plan() has them: what is known of them here is what the planner would know.
class HostCopies {
 public:
  explicit HostCopies(const MaskProblem& problem) : memory_(problem.tensors.size()) {
    const std::vector<expr::Tensor>& declared = problem.hooks.canonical().tensors;
    for (size_t i = 0; i < declared.size(); ++i) {
      const MaskProblem::Elements& elements = problem.tensors[i];
      if (elements.values.empty()) continue;
      const size_t bytes = declared[i].elem == expr::Elem::i32 || declared[i].elem == expr::Elem::u32 ? 4 : 1;
      memory_[i].resize(elements.values.size() * bytes);
      for (size_t at = 0; at < elements.values.size(); ++at)
        std::memcpy(memory_[i].data() + at * bytes, &elements.values[at], bytes);  // little-endian, as every target is
      Tensor tensor{memory_[i].data(), static_cast<int>(elements.shape.size()), {}, {}};
      int64_t step = 1;
      for (size_t axis = elements.shape.size(); axis-- > 0;) {
        tensor.shape[axis] = elements.shape[axis], tensor.stride[axis] = step;
        step *= elements.shape[axis];
      }
      tensors_.push_back({declared[i].name, tensor});
    }
  }

  expr::Summary summary(const MaskProblem& problem) const {
    HookExtents extents{.batch = 1, .qo_heads = problem.heads, .kv_heads = problem.heads / problem.group};
    extents.tokens = extents.qo_len = problem.q_len, extents.kv_len = problem.kv_len;
    Problems problems;  // shapes were checked when they were read
    return summarise(problem.hooks, tensors_, problem.params, extents, problems);
  }

 private:
  std::vector<Bytes> memory_;
  std::vector<HookTensor> tensors_;
};

class Element : public expr::Environment {
 public:
  explicit Element(const MaskProblem& problem) : problem_(problem) {
    set(Input::qo_len, problem.q_len), set(Input::kv_len, problem.kv_len);
    set(Input::group, problem.group);
  }
  void set(Input input, int64_t value) { inputs_[static_cast<size_t>(input)].i = static_cast<int32_t>(value); }
  expr::Value input(Input input) const override { return inputs_[static_cast<size_t>(input)]; }
  expr::Value param(uint32_t index) const override { return problem_.params[index]; }
  expr::Value read(uint32_t tensor, std::span<const int32_t> index) const override {
    const std::vector<int64_t> at(index.begin(), index.end());
    return expr::Value::of(static_cast<int32_t>(element(problem_.tensors[tensor], at)));
  }

 private:
  const MaskProblem& problem_;
  std::array<expr::Value, expr::kInputs> inputs_{};
};

/// What the planner would know, in the form that analysis takes.
class Knowledge {
 public:
  explicit Knowledge(const MaskProblem& problem) : copies_(problem) {
    scope_.qo_len = problem.q_len, scope_.kv_len = problem.kv_len, scope_.group = problem.group;
    scope_.params = problem.params;
    scope_.summary = copies_.summary(problem);
  }
  const expr::Scope& scope() const { return scope_; }

 private:
  const HostCopies copies_;
  expr::Scope scope_;
};

Interval rows_of(const MaskProblem& problem, int64_t tile) {
  return {tile * problem.tile_rows, std::min((tile + 1) * problem.tile_rows, problem.q_len) - 1};
}

/// Calls truths(rows, first) for each row of tiles, where `first` is the first of its tiles, all of them empty before.
template <class F>
MaskMap map_of(const MaskProblem& problem, F&& truths) {
  MaskMap map{tiles_of(problem.q_len, problem.tile_rows), tiles_of(problem.kv_len, problem.tile_keys), {}, 0};
  map.tiles.assign(static_cast<size_t>(map.rows * map.columns), Truth::empty);
  const auto start = std::chrono::steady_clock::now();
  for (int64_t r = 0; r < map.rows; ++r) truths(rows_of(problem, r), map.tiles.begin() + r * map.columns);
  map.ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  return map;
}

expr::TileSearch search_of(const MaskProblem& problem, const Knowledge& known, int64_t tile_keys) {
  const expr::Tile whole{{0, problem.q_len - 1}, {0, problem.kv_len - 1}, problem.looked_at};
  return {problem.hooks.mask_tiles(), problem.hooks.skip_class(), known.scope(), whole, tile_keys};
}

}  // namespace

int64_t MaskMap::count(Truth truth) const {
  return std::count(tiles.begin(), tiles.end(), truth);
}

MaskMap analyse(const MaskProblem& problem) {
  const Knowledge known(problem);
  std::optional<expr::TileSearch> search;
  return map_of(problem, [&](Interval q, auto first) {
    if (!search) search.emplace(search_of(problem, known, problem.tile_keys));  // part of what is timed
    for (const expr::TileRun& run : search->runs(q))
      std::fill(first + run.begin, first + run.end, run.full ? Truth::full : Truth::partial);
  });
}

std::vector<MaskLine> lines_of(const MaskProblem& problem) {
  std::vector<MaskLine> out;
  if (problem.hooks.skip_class() != expr::SkipClass::ranges) return out;
  const Knowledge known(problem);
  expr::TileSearch search = search_of(problem, known, 1);
  const int64_t tiles = tiles_of(problem.q_len, problem.tile_rows);
  for (int64_t tile : std::set<int64_t>{0, tiles / 2, tiles - 1}) {
    MaskLine line{rows_of(problem, tile), {}, {}};
    for (const expr::TileRun& run : search.runs(line.rows)) {
      if (run.full) line.full.push_back({run.begin, run.end - 1});
      if (!line.seen.empty() && line.seen.back().hi + 1 == run.begin) {
        line.seen.back().hi = run.end - 1;
      } else {
        line.seen.push_back({run.begin, run.end - 1});
      }
    }
    out.push_back(std::move(line));
  }
  return out;
}

std::string ranges_text(const std::vector<Interval>& ranges) {
  constexpr size_t kShown = 8;
  std::string out;
  for (const Interval& range : std::span(ranges).first(std::min(ranges.size(), kShown)))
    out += fmt::format("{}[{}, {})", out.empty() ? "" : " ", range.lo, range.hi + 1);
  if (ranges.size() > kShown) out += fmt::format(" and {} more", ranges.size() - kShown);
  return out.empty() ? "none" : out;
}

std::string heads_text(const MaskProblem& problem) {
  if (problem.looked_at.lo == problem.looked_at.hi) return fmt::format("head {} of {}", problem.looked_at.lo, problem.heads);
  return fmt::format("all {} together: empty where none sees a key, full where each sees every one", problem.heads);
}

MaskMap evaluate(const MaskProblem& problem) {
  const expr::Hooks& hooks = problem.hooks.mask_tiles().hooks();  // which have a mask even where it is true
  const expr::Interpreter mask(hooks, hooks.root(expr::Hook::mask));
  Element at(problem);
  const auto truth = [&](Interval q, Interval kv) {
    bool any = false, all = true;
    for (int64_t h = problem.looked_at.lo; h <= problem.looked_at.hi; ++h) {
      at.set(Input::h, h), at.set(Input::hk, h / problem.group);
      for (int64_t i = q.lo; i <= q.hi; ++i) {
        at.set(Input::q, i), at.set(Input::tok, i);
        for (int64_t j = kv.lo; j <= kv.hi; ++j) {
          at.set(Input::kv, j), at.set(Input::slot, j);
          const bool seen = mask.value(at).i != 0;
          any = any || seen;
          all = all && seen;
          if (any && !all) return Truth::partial;
        }
      }
    }
    return any ? Truth::full : Truth::empty;
  };
  return map_of(problem, [&](Interval q, auto first) {
    for (int64_t begin = 0; begin < problem.kv_len; begin += problem.tile_keys)
      *first++ = truth(q, {begin, std::min(begin + problem.tile_keys, problem.kv_len) - 1});
  });
}

std::string draw_text(const MaskMap& map, int columns) {
  const int64_t side = std::max<int64_t>(1, tiles_of(std::max(map.columns, map.rows), columns));
  std::string out;
  for (int64_t r = 0; r < map.rows; r += side) {
    for (int64_t c = 0; c < map.columns; c += side) {
      bool empty = true, full = true;
      for (int64_t y = r; y < std::min(r + side, map.rows); ++y) {
        for (int64_t x = c; x < std::min(c + side, map.columns); ++x) {
          const Truth truth = map.tiles[static_cast<size_t>(y * map.columns + x)];
          empty = empty && truth == Truth::empty;
          full = full && truth == Truth::full;
        }
      }
      out += empty ? '.' : full ? '#' : '+';
    }
    out += '\n';
  }
  return out;
}

std::string draw_svg(const MaskMap& map) {
  struct Kind {
    Truth truth;
    const char* name;
    const char* colour;
  };
  constexpr std::array kKinds{Kind{Truth::full, "full", "#2a6f97"}, Kind{Truth::partial, "partial", "#f2a65a"},
                              Kind{Truth::empty, "empty", "#e4e4e4"}};
  constexpr double kSize = 1024, kLegend = 32, kLegendWidth = 480;
  const double side = kSize / static_cast<double>(std::max<int64_t>({map.columns, map.rows, 1}));
  const double width = static_cast<double>(map.columns) * side, height = static_cast<double>(map.rows) * side;
  const auto colour_of = [&](Truth truth) {
    return std::ranges::find_if(kKinds, [&](const Kind& kind) { return kind.truth == truth; })->colour;
  };
  const auto rect = [](double x, double y, double w, double h, const char* colour) {
    return fmt::format("<rect x=\"{:g}\" y=\"{:g}\" width=\"{:g}\" height=\"{:g}\" fill=\"{}\"/>\n", x, y, w, h, colour);
  };
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:g} {:g}\" shape-rendering=\"crispEdges\" "
      "font-family=\"sans-serif\" "
      "font-size=\"14\">\n<title>{} x {} tiles of rows and keys</title>\n",
      std::max(width, kLegendWidth), height + kLegend, map.rows, map.columns);
  out += rect(0, 0, width, height, colour_of(Truth::empty));
  for (int64_t r = 0; r < map.rows; ++r) {
    const Truth* row = map.tiles.data() + r * map.columns;
    for (int64_t c = 0; c < map.columns;) {
      int64_t end = c + 1;
      while (end < map.columns && row[end] == row[c]) ++end;
      if (row[c] != Truth::empty)
        out += rect(static_cast<double>(c) * side, static_cast<double>(r) * side, static_cast<double>(end - c) * side, side,
                    colour_of(row[c]));
      c = end;
    }
  }
  double x = 0;
  for (const Kind& kind : kKinds) {
    const std::string label = fmt::format("{} {}", map.count(kind.truth), kind.name);
    out += rect(x, height + 12, 14, 14, kind.colour);
    out += fmt::format("<text x=\"{:g}\" y=\"{:g}\">{}</text>\n", x + 20, height + 24, label);
    x += kLegendWidth / 3;
  }
  return out + "</svg>\n";
}

}  // namespace lathe::cli
