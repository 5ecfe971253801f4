#include "mask_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <limits>

#include "lathe/spec/expr/interpret.h"

namespace lathe::cli {
namespace {

using expr::Input;
using expr::Interval;
using expr::Truth;

int64_t tiles_of(int64_t length, int64_t tile) {
  return (length + tile - 1) / tile;
}

int64_t element(const MaskProblem::Elements& tensor, std::span<const int64_t> index) {
  int64_t at = 0;
  for (size_t i = 0; i < index.size(); ++i) at = at * tensor.shape[i] + std::clamp<int64_t>(index[i], 0, tensor.shape[i] - 1);
  return tensor.values[static_cast<size_t>(at)];
}

/// Least and greatest element of a box.
Interval extremes(const MaskProblem::Elements& tensor, std::span<const Interval> box, std::vector<int64_t>& index) {
  if (index.size() == box.size()) return {element(tensor, index), element(tensor, index)};
  const size_t axis = index.size();
  Interval out{std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()};
  const int64_t last = tensor.shape[axis] - 1;
  for (int64_t i = std::clamp<int64_t>(box[axis].lo, 0, last); i <= std::clamp<int64_t>(box[axis].hi, 0, last); ++i) {
    index.push_back(i);
    const Interval part = extremes(tensor, box, index);
    index.pop_back();
    out = {std::min(out.lo, part.lo), std::max(out.hi, part.hi)};
  }
  return out;
}

class Element : public expr::Environment {
 public:
  explicit Element(const MaskProblem& problem) : problem_(problem) {
    set(Input::qo_len, problem.q_len), set(Input::kv_len, problem.kv_len), set(Input::group, 1);
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

template <class F>
MaskMap map_of(const MaskProblem& problem, F&& truth) {
  MaskMap map{tiles_of(problem.q_len, problem.tile_rows), tiles_of(problem.kv_len, problem.tile_keys), {}, 0};
  const auto start = std::chrono::steady_clock::now();
  for (int64_t r = 0; r < map.rows; ++r) {
    const Interval q{r * problem.tile_rows, std::min((r + 1) * problem.tile_rows, problem.q_len) - 1};
    for (int64_t c = 0; c < map.columns; ++c)
      map.tiles.push_back(truth(q, Interval{c * problem.tile_keys, std::min((c + 1) * problem.tile_keys, problem.kv_len) - 1}));
  }
  map.ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  return map;
}

}  // namespace

int64_t MaskMap::count(Truth truth) const {
  return std::count(tiles.begin(), tiles.end(), truth);
}

MaskMap analyse(const MaskProblem& problem) {
  expr::Scope scope;
  scope.qo_len = problem.q_len, scope.kv_len = problem.kv_len;
  scope.params = problem.params;
  scope.summary = [&](uint32_t tensor, std::span<const Interval> box) -> std::optional<Interval> {
    if (problem.tensors[tensor].values.empty()) return std::nullopt;
    std::vector<int64_t> index;
    return extremes(problem.tensors[tensor], box, index);
  };
  return map_of(problem, [&](Interval q, Interval kv) { return problem.hooks.mask_tiles()(scope, {q, kv, {0, 0}}); });
}

MaskMap evaluate(const MaskProblem& problem) {
  const expr::Hooks& hooks = problem.hooks.canonical();
  const expr::Interpreter mask(hooks, hooks.root(expr::Hook::mask));
  Element at(problem);
  return map_of(problem, [&](Interval q, Interval kv) {
    bool any = false, all = true;
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
    return any ? Truth::full : Truth::empty;
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
  constexpr int64_t kSide = 8;
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" shape-rendering=\"crispEdges\">\n"
      "<title>{2} x {3} tiles of rows and keys: {4} full, {5} partial, {6} empty</title>\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"#f4f4f4\"/>\n",
      map.columns * kSide, map.rows * kSide, map.rows, map.columns, map.count(Truth::full), map.count(Truth::partial),
      map.count(Truth::empty));
  for (int64_t r = 0; r < map.rows; ++r) {
    const Truth* row = map.tiles.data() + r * map.columns;
    for (int64_t c = 0; c < map.columns;) {
      int64_t end = c + 1;
      while (end < map.columns && row[end] == row[c]) ++end;
      if (row[c] != Truth::empty)
        out += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\"/>\n", c * kSide, r * kSide,
                           (end - c) * kSide, kSide, row[c] == Truth::full ? "#2a6f97" : "#f2a65a");
      c = end;
    }
  }
  return out + "</svg>\n";
}

}  // namespace lathe::cli
