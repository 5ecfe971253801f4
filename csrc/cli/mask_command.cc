// lathe mask: what is known of a mask's tiles ahead, beside what dense evaluation finds.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <nlohmann/json.hpp>
#include <regex>

#include "commands.h"
#include "input.h"
#include "lathe/api/hook_values.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/spec/expr/print.h"
#include "mask_map.h"
#include "table.h"

namespace lathe::cli {
namespace {

using expr::Truth;

constexpr int64_t kMaxLength = int64_t{1} << 24;
constexpr int64_t kMaxTiles = int64_t{1} << 22;
constexpr int64_t kMaxDense = int64_t{1} << 26;  // elements that are evaluated one by one
constexpr size_t kMaxTensorFile = size_t{256} << 20;

struct MaskOptions {
  std::string expr, tile = "128x64", svg;
  int64_t q_len = 0, kv_len = 0;
  std::vector<std::string> params, tensors;
  bool json = false;
};

/// "name=value" in two.
Result<std::pair<std::string, std::string>> split(const char* option, const std::string& text) {
  const size_t at = text.find('=');
  if (at == std::string::npos || at == 0) return invalid_argument(option, text + " is not of the form name=value");
  return std::pair{text.substr(0, at), text.substr(at + 1)};
}

template <class T>
bool read_number(std::string_view text, T& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size();
}

Result<std::vector<HookParam>> read_params(const std::vector<std::string>& texts) {
  std::vector<HookParam> out;
  for (const std::string& text : texts) {
    auto pair = split("--param", text);
    LATHE_TRY(pair);
    HookParam param{pair->first, 0};
    if (!read_number(pair->second, param.value)) return invalid_argument("--param", text + " is not a number");
    out.push_back(std::move(param));
  }
  return out;
}

/// Hooks as they are or, where `text` has no hook mask, the expression of one, with params declared as i32.
Result<expr::Hooks> read_hooks(const std::string& text, const std::vector<HookParam>& params) {
  static const std::regex kMask(R"((^|;|\s)mask\s*=[^=])");
  if (std::regex_search(text, kMask)) return expr::parse(text);
  std::string declared;
  for (const HookParam& param : params) declared += "param " + param.name + ": i32; ";
  return expr::parse(declared + "mask = " + text);
}

Result<MaskProblem::Elements> read_elements(const expr::Tensor& tensor, const MaskProblem& problem, const std::string& path) {
  if (expr::read_type(tensor.elem) == expr::Type::f32)
    return invalid_argument("--tensor",
                            tensor.name + " has elements of type " + expr::name_of(tensor.elem) + "; allowed: integers and bool");
  Result<std::string> text = read_file("--tensor", path, kMaxTensorFile);
  LATHE_TRY(text);
  MaskProblem::Elements out;
  for (size_t at = 0; at < text->size();) {
    const size_t begin = text->find_first_not_of(" \t\r\n,", at);
    if (begin == std::string::npos) break;
    const size_t end = std::min(text->find_first_of(" \t\r\n,", begin), text->size());
    int64_t value = 0;
    if (!read_number(std::string_view(*text).substr(begin, end - begin), value) || value < INT32_MIN || value > UINT32_MAX)
      return invalid_argument("--tensor", path + ": entry " + std::to_string(out.values.size()) + " is no 32-bit integer");
    out.values.push_back(value);
    at = end;
  }
  int64_t product = 1;
  size_t open = tensor.axes.size();  // the axis N, which takes what is left
  for (size_t i = 0; i < tensor.axes.size(); ++i) {
    const expr::TensorAxis& axis = tensor.axes[i];
    int64_t extent = 1;
    if (axis.axis == expr::Axis::tokens || axis.axis == expr::Axis::qo_len) extent = problem.q_len;
    if (axis.axis == expr::Axis::kv_pos || axis.axis == expr::Axis::slots) extent = problem.kv_len;
    if (axis.axis == expr::Axis::number) extent = axis.value;
    if (axis.axis == expr::Axis::param) extent = std::max(problem.params[axis.value].i, 1);
    if (axis.axis == expr::Axis::free) open = i;
    out.shape.push_back(extent);
    product *= extent;
  }
  const auto count = static_cast<int64_t>(out.values.size());
  if (open < tensor.axes.size()) out.shape[open] = product == 0 ? 0 : count / product;
  int64_t needed = 1;
  for (int64_t extent : out.shape) needed *= extent;
  if (count == 0 || needed != count)
    return invalid_argument("--tensor", tensor.name + " has " + std::to_string(count) + " entries in " + path + "; its axes need " +
                                            std::to_string(std::max<int64_t>(needed, product)));
  return out;
}

Result<MaskProblem> read_problem(const MaskOptions& options) {
  MaskProblem out;
  Problems problems;
  const size_t x = options.tile.find('x');
  if (x == std::string::npos || !read_number(std::string_view(options.tile).substr(0, x), out.tile_rows) ||
      !read_number(std::string_view(options.tile).substr(x + 1), out.tile_keys) || out.tile_rows < 1 || out.tile_keys < 1)
    problems.add("--tile", options.tile + " is not of the form ROWSxKEYS, both at least 1");
  out.q_len = options.q_len, out.kv_len = options.kv_len;
  for (const auto& [name, length] : {std::pair{"--q-len", options.q_len}, std::pair{"--kv-len", options.kv_len}}) {
    if (length < 1 || length > kMaxLength)
      problems.add(name, std::to_string(length) + " is not allowed; allowed: 1.." + std::to_string(kMaxLength));
  }
  LATHE_TRY(problems.status());
  if ((out.q_len / out.tile_rows + 1) > kMaxTiles / (out.kv_len / out.tile_keys + 1))
    return invalid_argument("--tile", options.tile + " makes more than " + std::to_string(kMaxTiles) + " tiles");
  auto params = read_params(options.params);
  LATHE_TRY(params);
  Result<expr::Hooks> hooks = read_hooks(options.expr, *params);
  LATHE_TRY(hooks);
  out.hooks = *std::move(hooks);
  for (const std::string& problem : out.hooks.problems()) problems.add("--expr", problem);
  if (problems.empty() && !out.hooks.has(expr::Hook::mask)) problems.add("--expr", "has no hook mask");
  LATHE_TRY(problems.status());
  out.params = read_hook_params(out.hooks, "--param", *params, false, problems);
  LATHE_TRY(problems.status());

  const std::vector<expr::Tensor>& tensors = out.hooks.canonical().tensors;
  out.tensors.resize(tensors.size());
  for (const std::string& text : options.tensors) {
    auto pair = split("--tensor", text);
    LATHE_TRY(pair);
    const auto found = std::ranges::find_if(tensors, [&](const expr::Tensor& t) { return t.name == pair->first; });
    if (found == tensors.end()) return invalid_argument("--tensor", pair->first + " is not read by the mask");
    auto elements = read_elements(*found, out, pair->second);
    LATHE_TRY(elements);
    out.tensors[static_cast<size_t>(found - tensors.begin())] = *std::move(elements);
  }
  return out;
}

nlohmann::ordered_json counts(const MaskMap& map) {
  return {
      {"empty", map.count(Truth::empty)}, {"full", map.count(Truth::full)}, {"partial", map.count(Truth::partial)}, {"ms", map.ms}};
}

std::vector<std::string> row(const char* name, const MaskMap& map) {
  return {name, fmt::format("{} empty, {} full, {} partial, in {}", map.count(Truth::empty), map.count(Truth::full),
                            map.count(Truth::partial), in_ms(map.ms))};
}

int show(const MaskOptions& options) {
  Result<MaskProblem> problem = read_problem(options);
  if (!problem.ok()) return fail(problem.status());
  const bool complete = std::ranges::none_of(problem->tensors, [](const auto& t) { return t.values.empty(); });
  const bool is_dense = complete && problem->q_len <= kMaxDense / problem->kv_len;
  const MaskMap analysis = analyse(*problem);
  std::optional<MaskMap> dense;
  if (is_dense) dense = evaluate(*problem);
  const expr::Hooks& hooks = problem->hooks.canonical();
  const char* skip = expr::name_of(problem->hooks.skip_class());
  if (!options.svg.empty()) {
    std::FILE* file = std::fopen(options.svg.c_str(), "w");
    const std::string picture = draw_svg(analysis);
    const bool written = file != nullptr && std::fwrite(picture.data(), 1, picture.size(), file) == picture.size();
    if ((file != nullptr && std::fclose(file) != 0) || !written)
      return fail(invalid_argument("--svg", options.svg + " cannot be written"));
  }
  if (options.json) {
    nlohmann::ordered_json out{{"mask", expr::hook_text(hooks, expr::Hook::mask)}, {"skip", skip}, {"analysis", counts(analysis)}};
    out["dense"] = dense ? counts(*dense) : nlohmann::ordered_json();
    fmt::print("{}\n", out.dump());
    return 0;
  }
  std::vector<std::vector<std::string>> rows{{"mask", expr::hook_text(hooks, expr::Hook::mask)},
                                             {"skip", skip},
                                             {"tiles", fmt::format("{} x {} of {}", analysis.rows, analysis.columns, options.tile)},
                                             row("analysis", analysis)};
  if (dense) {
    rows.push_back(row("dense", *dense));
  } else {
    rows.push_back({"dense", complete ? "not evaluated: too many elements" : "not evaluated: not every tensor is given"});
  }
  fmt::print("{}\n{}\n  . empty   # full   + partial\n", table(rows), draw_text(analysis));
  return 0;
}

}  // namespace

void add_mask(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<MaskOptions>();
  CLI::App* job = app.add_subcommand("mask", "Show which tiles of a mask are empty, full or partial, and how that is known.");
  job->add_option("--expr", options->expr, "hooks with a mask, or the mask alone (docs/expressions.md)")->required();
  job->add_option("--q-len", options->q_len, "rows of the request")->required();
  job->add_option("--kv-len", options->kv_len, "keys of the request")->required();
  job->add_option("--tile", options->tile, "rows and keys of a tile")->capture_default_str();
  job->add_option("--param", options->params, "name=value, as often as there are params");
  job->add_option("--tensor", options->tensors, "name=file of integers, row by row");
  job->add_option("--svg", options->svg, "write the picture to this file");
  job->add_flag("--json", options->json, "one line of JSON");
  job->callback([options, &exit_code] { exit_code = show(*options); });
}

}  // namespace lathe::cli
