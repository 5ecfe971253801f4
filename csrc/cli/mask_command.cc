// lathe mask: what is known of a mask's tiles ahead, beside what dense evaluation finds.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "commands.h"
#include "input.h"
#include "lathe/spec/expr/lexer.h"
#include "lathe/spec/expr/parser.h"
#include "lathe/spec/expr/print.h"
#include "lathe/spec/text.h"
#include "mask_arg.h"
#include "table.h"

namespace lathe::cli {
namespace {

using expr::Truth;

constexpr int64_t kMaxDense = int64_t{1} << 26;  // elements that are evaluated one by one
constexpr int64_t kMaxTile = int64_t{1} << 24;   // rows or keys

struct MaskOptions {
  std::string expr, tile = "128x64";
  MaskArgs args;
  bool json = false;
};

/// Hooks, or the expression of a mask, after declarations where it needs some. Where no param is declared, those of --param are
/// i32.
Result<expr::Hooks> read_hooks(const std::string& text, const std::vector<HookParam>& params,
                               std::vector<expr::Finding>& warnings) {
  std::vector<expr::Token> tokens;
  expr::tokenize(text, tokens);
  expr::Parser parser;
  if (std::ranges::none_of(tokens, [](const expr::Token& token) { return token.text == "param"; })) {
    for (const HookParam& param : params) parser.add_param("--param", {param.name, expr::Type::i32, {}});
  }
  parser.add_statements("--expr", text, expr::Hook::mask);
  Result<expr::Hooks> hooks = parser.finish(&warnings);
  LATHE_TRY(hooks);
  if (hooks->root(expr::Hook::mask) == expr::kNone)
    return invalid_argument("--expr",
                            "has no mask; expected an expression of bool, or hooks with mask = ... (docs/expressions.md)");
  return hooks;
}

bool read_number(std::string_view text, int64_t& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size();
}

Result<MaskProblem> read_problem(const MaskOptions& options, std::vector<expr::Finding>& warnings) {
  int64_t rows = 0, keys = 0;
  const size_t x = options.tile.find('x');
  if (x == std::string::npos || !read_number(std::string_view(options.tile).substr(0, x), rows) ||
      !read_number(std::string_view(options.tile).substr(x + 1), keys) || rows < 1 || keys < 1 || rows > kMaxTile ||
      keys > kMaxTile)
    return invalid_argument(
        "--tile", fields::in_quotes(options.tile) + " is not of the form ROWSxKEYS, both in 1.." + std::to_string(kMaxTile));
  auto params = read_params(options.args.params);
  LATHE_TRY(params);
  Result<expr::Hooks> hooks = read_hooks(options.expr, *params, warnings);
  LATHE_TRY(hooks);
  return read_mask_problem(*std::move(hooks), options.args, rows, keys);
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
  std::vector<expr::Finding> warnings;
  Result<MaskProblem> problem = read_problem(options, warnings);
  if (!problem.ok()) return fail(problem.status());
  for (const expr::Finding& warning : warnings) fmt::print(stderr, "lathe: warning: {}: {}\n", warning.where, warning.text());
  const bool complete = std::ranges::none_of(mask_tensors(problem->hooks.canonical()),
                                             [&](uint32_t slot) { return problem->tensors[slot].values.empty(); });
  const bool is_text = expr::uses_cuda(problem->hooks.canonical());
  const bool is_dense =
      complete && !is_text && problem->q_len <= kMaxDense / problem->kv_len / (problem->looked_at.hi - problem->looked_at.lo + 1);
  const MaskMap analysis = analyse(*problem);
  std::optional<MaskMap> dense;
  if (is_dense) dense = evaluate(*problem);
  const expr::Hooks& hooks = problem->hooks.mask_tiles().hooks();
  const char* skip = expr::name_of(problem->hooks.skip_class());
  if (const Status written = write_picture(options.args, analysis); !written.ok()) return fail(written);
  if (options.json) {
    nlohmann::ordered_json out{{"mask", expr::hook_text(hooks, expr::Hook::mask)},
                               {"skip", skip},
                               {"heads", problem->heads},
                               {"head", options.args.head ? nlohmann::ordered_json(*options.args.head) : nlohmann::ordered_json()},
                               {"analysis", counts(analysis)}};
    out["dense"] = dense ? counts(*dense) : nlohmann::ordered_json();
    fmt::print("{}\n", out.dump());
    return 0;
  }
  std::vector<std::vector<std::string>> rows{{"mask", expr::hook_text(hooks, expr::Hook::mask)},
                                             {"skip", skip},
                                             {"heads", heads_text(*problem)},
                                             {"tiles", fmt::format("{} x {} of {}", analysis.rows, analysis.columns, options.tile)},
                                             row("analysis", analysis)};
  if (dense) {
    rows.push_back(row("dense", *dense));
  } else {
    rows.push_back({"dense", is_text    ? "not evaluated: unsafe_cuda has no meaning but a compiler's"
                             : complete ? "not evaluated: too many elements"
                                        : "not evaluated: not every tensor is given"});
  }
  fmt::print("{}\n{}\n  . empty   # full   + partial\n", table(rows), draw_text(analysis));
  return 0;
}

}  // namespace

void add_mask(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<MaskOptions>();
  CLI::App* job = app.add_subcommand("mask", "Show which tiles of a mask are empty, full or partial, and how that is known.");
  job->add_option("--expr", options->expr,
                  "hooks with mask = ..., or the mask's expression, after declarations or alone (docs/expressions.md)")
      ->required();
  add_mask_options(*job, options->args, true);
  job->add_option("--group", options->args.group, "query heads for each KV head (default: 1)");
  job->add_option("--tile", options->tile, "rows and keys of a tile")->capture_default_str();
  job->add_flag("--json", options->json, "one line of JSON");
  job->callback([options, &exit_code] { exit_code = show(*options); });
}

}  // namespace lathe::cli
