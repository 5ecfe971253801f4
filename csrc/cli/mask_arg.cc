#include "mask_arg.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdio>

#include "input.h"
#include "lathe/api/hook_values.h"
#include "lathe/base/bytes.h"
#include "lathe/spec/expr/print.h"
#include "lathe/spec/text.h"

namespace lathe::cli {
namespace {

constexpr int64_t kMaxLength = int64_t{1} << 24;
constexpr int64_t kMaxHeads = 1024;
constexpr int64_t kMaxTiles = int64_t{1} << 22;
constexpr size_t kMaxTensorFile = size_t{256} << 20;

/// "name=value" in two.
Result<std::pair<std::string, std::string>> split(const char* option, const std::string& text) {
  const size_t at = text.find('=');
  if (at == std::string::npos || at == 0)
    return invalid_argument(option, fields::in_quotes(text) + " is not of the form name=value");
  return std::pair{text.substr(0, at), text.substr(at + 1)};
}

template <class T>
bool read_number(std::string_view text, T& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size();
}

/// What an integer element holds.
expr::Interval range_of(expr::Elem elem) {
  switch (elem) {
    case expr::Elem::boolean:
      return {0, 1};
    case expr::Elem::i8:
      return {-128, 127};
    case expr::Elem::u8:
      return {0, 255};
    case expr::Elem::u32:
      return {0, UINT32_MAX};
    default:
      return {INT32_MIN, INT32_MAX};
  }
}

Result<MaskProblem::Elements> read_elements(const expr::Tensor& tensor, const MaskProblem& problem, const std::string& path) {
  if (expr::read_type(tensor.elem) == expr::Type::f32)
    return invalid_argument("--tensor",
                            tensor.name + " has elements of type " + expr::name_of(tensor.elem) + "; allowed: integers and bool");
  Result<std::string> text = read_file("--tensor", path, kMaxTensorFile);
  LATHE_TRY(text);
  MaskProblem::Elements out;
  const expr::Interval range = range_of(tensor.elem);
  for (size_t at = 0; at < text->size();) {
    const size_t begin = text->find_first_not_of(" \t\r\n,", at);
    if (begin == std::string::npos) break;
    const size_t end = std::min(text->find_first_of(" \t\r\n,", begin), text->size());
    int64_t value = 0;
    if (!read_number(std::string_view(*text).substr(begin, end - begin), value) || value < range.lo || value > range.hi)
      return invalid_argument("--tensor", fields::in_quotes(path, 256) + ": entry " + std::to_string(out.values.size()) +
                                              " is not in " + std::to_string(range.lo) + ".." + std::to_string(range.hi) + ", as " +
                                              expr::name_of(tensor.elem) + " is");
    out.values.push_back(value);
    at = end;
  }
  const auto count = static_cast<int64_t>(out.values.size());
  std::optional<int64_t> product = 1;  // nothing: past 2^63
  size_t open = tensor.axes.size();    // the axis N, which takes what is left
  for (size_t i = 0; i < tensor.axes.size(); ++i) {
    const expr::TensorAxis& axis = tensor.axes[i];
    int64_t extent = 1;
    if (axis.axis == expr::Axis::tokens || axis.axis == expr::Axis::qo_len) extent = problem.q_len;
    if (axis.axis == expr::Axis::kv_pos || axis.axis == expr::Axis::slots) extent = problem.kv_len;
    if (axis.axis == expr::Axis::qo_heads) extent = problem.heads;
    if (axis.axis == expr::Axis::kv_heads) extent = problem.heads / problem.group;
    if (axis.axis == expr::Axis::number) extent = axis.value;
    if (axis.axis == expr::Axis::param) extent = std::max(problem.params[axis.value].i, 1);
    if (axis.axis == expr::Axis::free) open = i;
    out.shape.push_back(extent);
    if (product) product = checked_mul(*product, extent);
  }
  const bool is_open = open < tensor.axes.size();
  const bool fits = product && count > 0 && (is_open ? count % *product == 0 : count == *product);
  if (!fits)
    return invalid_argument("--tensor", tensor.name + " has " + std::to_string(count) + " entries in " +
                                            fields::in_quotes(path, 256) + "; its axes need " + (is_open ? "a multiple of " : "") +
                                            (product ? std::to_string(*product) : "more than 2^63"));
  if (is_open) out.shape[open] = count / *product;
  return out;
}

}  // namespace

const char* MaskArgs::first_given() const {
  return !params.empty()    ? "--param"
         : !tensors.empty() ? "--tensor"
         : heads != 0       ? "--heads"
         : head             ? "--head"
         : !svg.empty()     ? "--svg"
                            : nullptr;
}

void add_mask_options(CLI::App& job, MaskArgs& args, bool required) {
  job.add_option("--q-len", args.q_len, "rows of the request")->required(required);
  job.add_option("--kv-len", args.kv_len, "keys of the request")->required(required);
  job.add_option("--heads", args.heads, "query heads, all of which are looked at (default: those of one KV head)");
  job.add_option("--head", args.head, "the only query head to look at");
  job.add_option("--param", args.params, "name=value, as often as the mask has params");
  job.add_option("--tensor", args.tensors, "name=file of integers, row by row, as often as the mask has tensors");
  job.add_option("--svg", args.svg, "write the picture of the mask's tiles to this file");
}

Result<std::vector<HookParam>> read_params(const std::vector<std::string>& texts) {
  std::vector<HookParam> out;
  for (const std::string& text : texts) {
    auto pair = split("--param", text);
    LATHE_TRY(pair);
    HookParam param{pair->first, 0};
    if (!read_number(pair->second, param.value)) return invalid_argument("--param", fields::in_quotes(text) + " is not a number");
    out.push_back(std::move(param));
  }
  return out;
}

Result<MaskProblem> read_mask_problem(AttentionHooks hooks, const MaskArgs& args, int64_t tile_rows, int64_t tile_keys) {
  MaskProblem out;
  out.tile_rows = tile_rows, out.tile_keys = tile_keys;
  Problems problems;
  out.q_len = args.q_len, out.kv_len = args.kv_len;
  out.group = args.group == 0 ? 1 : args.group;
  out.heads = args.heads == 0 ? out.group : args.heads;
  const auto check = [&](const char* name, int64_t value, int64_t least, int64_t most) {
    if (value < least || value > most)
      problems.add(name,
                   std::to_string(value) + " is not allowed; allowed: " + std::to_string(least) + ".." + std::to_string(most));
  };
  check("--q-len", args.q_len, 1, kMaxLength);
  check("--kv-len", args.kv_len, 1, kMaxLength);
  check("--group", out.group, 1, kMaxHeads);
  check("--heads", out.heads, 1, kMaxHeads);
  if (problems.empty() && out.heads % out.group != 0)
    problems.add("--heads", std::to_string(out.heads) + " is not allowed; allowed: multiples of the " + std::to_string(out.group) +
                                " query heads of a KV head");
  if (args.head) check("--head", *args.head, 0, out.heads - 1);
  out.looked_at = args.head ? expr::Interval{*args.head, *args.head} : expr::Interval{0, out.heads - 1};
  LATHE_TRY(problems.status());
  if ((out.q_len / tile_rows + 1) > kMaxTiles / (out.kv_len / tile_keys + 1))
    return invalid_argument("--q-len", "and --kv-len make more than " + std::to_string(kMaxTiles) + " tiles of " +
                                           std::to_string(tile_rows) + "x" + std::to_string(tile_keys));
  out.hooks = std::move(hooks);
  for (const std::string& problem : out.hooks.problems()) problems.add("hooks", problem);
  if (problems.empty() && out.hooks.given().root(expr::Hook::mask) == expr::kNone) problems.add("hooks", "have no mask");
  LATHE_TRY(problems.status());
  Result<std::vector<HookParam>> params = read_params(args.params);
  LATHE_TRY(params);
  out.params = read_hook_params(out.hooks, "--param", *params, true, problems);
  const std::vector<expr::Param>& declared = out.hooks.canonical().params;
  for (uint32_t slot : mask_params(out.hooks.canonical())) {
    if (std::ranges::none_of(*params, [&](const HookParam& p) { return p.name == declared[slot].name; }))
      problems.add("--param", declared[slot].name + " is missing; the mask depends on it");
  }
  LATHE_TRY(problems.status());

  const std::vector<expr::Tensor>& tensors = out.hooks.canonical().tensors;
  out.tensors.resize(tensors.size());
  for (const std::string& text : args.tensors) {
    auto pair = split("--tensor", text);
    LATHE_TRY(pair);
    const auto found = std::ranges::find_if(tensors, [&](const expr::Tensor& t) { return t.name == pair->first; });
    if (found == tensors.end())
      return invalid_argument("--tensor", fields::in_quotes(pair->first) + " is not a tensor that the mask reads");
    if (!out.tensors[static_cast<size_t>(found - tensors.begin())].values.empty())
      return invalid_argument("--tensor", pair->first + " is given twice; allowed: once");
    auto elements = read_elements(*found, out, pair->second);
    LATHE_TRY(elements);
    out.tensors[static_cast<size_t>(found - tensors.begin())] = *std::move(elements);
  }
  return out;
}

Status write_picture(const MaskArgs& args, const MaskMap& map) {
  if (args.svg.empty()) return {};
  std::FILE* file = std::fopen(args.svg.c_str(), "w");
  const std::string picture = draw_svg(map);
  const bool written = file != nullptr && std::fwrite(picture.data(), 1, picture.size(), file) == picture.size();
  if ((file != nullptr && std::fclose(file) != 0) || !written)
    return invalid_argument("--svg", fields::in_quotes(args.svg, 256) + " cannot be written");
  return {};
}

}  // namespace lathe::cli
