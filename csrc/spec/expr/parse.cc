#include "lathe/spec/expr/parse.h"

#include <algorithm>
#include <array>
#include <limits>

#include "lathe/spec/expr/names.h"
#include "lathe/spec/expr/parser.h"
#include "lathe/spec/text.h"

namespace lathe::expr {
namespace {

constexpr size_t kMaxProblems = 20;

}  // namespace

std::string Parser::location(const Place& place) const {
  const Source& source = sources_[place.source];
  if (source.is_value) return source.name;
  const std::string at = place_in(source.text, place.at);
  return source.name.empty() ? at : source.name + ", " + at;
}

void Parser::report(const Token& at, std::string message, const std::string& hint) {
  if (problems_.size() >= kMaxProblems) return;
  if (!hint.empty()) message += " (" + hint + ")";
  problems_.add(location({sources_.size() - 1, at.at}), std::move(message));
}

bool Parser::open(std::string source, std::string_view text) {
  sources_.push_back({std::move(source), text});
  tokens_.clear();
  next_ = 0;
  depth_ = 0;
  lost_ = false;
  where_ = -1;
  if (text.size() > kMaxText) {
    sources_.back().text = {};
    report({}, "found " + std::to_string(text.size()) + " bytes, expected at most " + std::to_string(kMaxText));
    return false;
  }
  std::vector<LexProblem> problems = tokenize(text, tokens_);
  for (LexProblem& problem : problems) report({TokenKind::end, {}, problem.at}, std::move(problem.message), problem.hint);
  return problems.empty();
}

void Parser::add_statements(std::string source, std::string_view text, std::optional<Hook> bare) {
  if (!open(std::move(source), text)) return;
  while (peek().kind != TokenKind::end) {
    if (accept(";")) continue;
    statement(bare);
    if (!lost_ && peek().kind != TokenKind::end) expect(";");
    if (lost_) skip_statement();
  }
}

void Parser::add_hook(std::string source, Hook hook, std::string_view text) {
  if (!open(std::move(source), text)) return;
  hook_body(hook);
  accept(";");
  if (peek().kind != TokenKind::end) expected("the end");
}

bool Parser::may_declare(const std::string& source, const std::string& name) {
  const std::string problem = find(name) != nullptr ? "is declared already" : name_problem(name);
  if (!problem.empty() && problems_.size() < kMaxProblems)
    problems_.add(source, "the name " + fields::in_quotes(name) + " " + problem + "; allowed: another name");
  return problem.empty();
}

void Parser::add(Param param, const Place& place) {
  hooks_.params.push_back(std::move(param));
  param_places_.push_back(place);
}

void Parser::add(Tensor tensor, const Place& place) {
  hooks_.tensors.push_back(std::move(tensor));
  tensor_places_.push_back(place);
}

void Parser::add_param(const std::string& source, Param param) {
  if (!may_declare(source, param.name)) return;
  if (param.range) param.range = range_ends(param.type, *param.range);
  names_.push_back({param.name, {Binding::param, static_cast<uint32_t>(hooks_.params.size()), kNone}});
  sources_.push_back({source, {}, true});
  add(std::move(param), {sources_.size() - 1, 0});
}

void Parser::add_tensor(const std::string& source, Tensor tensor) {
  if (!may_declare(source, tensor.name)) return;
  if (tensor.range) tensor.range = range_ends(read_type(tensor.elem), *tensor.range);
  names_.push_back({tensor.name, {Binding::tensor, static_cast<uint32_t>(hooks_.tensors.size()), kNone}});
  sources_.push_back({source, {}, true});
  add(std::move(tensor), {sources_.size() - 1, 0});
}

bool Parser::starts_statement() const {
  static constexpr std::array<std::string_view, 6> kStarts{"param", "const", "tensor", "let", "normalizer", "rotary"};
  if (std::find(kStarts.begin(), kStarts.end(), peek().text) != kStarts.end()) return true;
  if (!hook_named(peek().text)) return false;
  const std::string_view next = tokens_[next_ + 1].text;
  return next == "=" || next == ":=";
}

/// Goes on after the ';' that ends what could not be read; the rest of a hook whose `let` was broken is passed over with it.
void Parser::skip_statement() {
  lost_ = false;
  depth_ = 0;
  do {
    while (peek().kind != TokenKind::end && !is(";")) take();
    accept(";");
  } while (peek().kind != TokenKind::end && !starts_statement());
}

bool Parser::is_bare() const {
  const std::string_view next = peek().kind == TokenKind::name ? tokens_[next_ + 1].text : std::string_view();
  return next != "=" && next != ":=" && next != ":";
}

void Parser::statement(std::optional<Hook> bare) {
  if (bare && !starts_statement() && is_bare()) {
    if (!places_.contains({static_cast<int>(*bare), kNone})) return hook_body(*bare);
    return expected(std::string("no second ") + info(*bare).text);
  }
  const Token first = peek();
  if (accept("param")) return param_declaration();
  if (accept("tensor")) return tensor_declaration();
  if (accept("const")) return const_declaration();
  if (accept("normalizer")) return normalizer_setting();
  if (accept("rotary")) return rotary_setting();
  if (is("let")) {
    where_ = -1;
    return let_binding();
  }
  if (auto hook = first.kind == TokenKind::name ? hook_named(first.text) : std::nullopt) {
    take();
    return hook_statement(*hook);
  }
  std::string names;
  for (size_t i = 0; i < kHooks; ++i) names += std::string(", ") + info(static_cast<Hook>(i)).text;
  expected("a declaration (param, const, tensor, let), normalizer, rotary, or a hook (" + names.substr(2) + ")");
}

bool Parser::may_declare(const Token& name, bool is_let) {
  const std::string problem = find(name.text) != nullptr ? "is declared already" : name_problem(name.text, is_let);
  if (problem.empty()) return true;
  report(name, shown(name) + " " + problem + "; allowed: another name");
  if (find(name.text) == nullptr) declare(name, {Binding::broken, 0, kNone});  // so that its uses are no problems of their own
  return false;
}

void Parser::declare(const Token& name, const Binding& binding) {
  names_.push_back({std::string(name.text), binding});
}

void Parser::normalizer_setting() {
  if (!expect("=")) return;
  if (accept("softmax")) {
    hooks_.normalizer = Normalizer::softmax;
  } else if (accept("none")) {
    hooks_.normalizer = Normalizer::none;
  } else {
    expected("softmax or none");
  }
}

void Parser::rotary_setting() {
  if (!expect("=")) return;
  hooks_.rotary = {};
  if (accept("interleaved")) {
    hooks_.rotary.interleaved = true;
  } else if (!accept("neox")) {
    return expected("neox or interleaved");
  }
  if (!accept("(")) return;
  const Token at = peek();
  Node dims;
  if (!constant_number(dims) || !expect(")")) return;
  if (dims.type == Type::i32 && as_i32(dims) >= 16 && as_i32(dims) % 16 == 0 && as_i32(dims) <= 1024) {
    hooks_.rotary.dims = static_cast<uint32_t>(as_i32(dims));
  } else {
    report(at, "rotary dimensions; allowed: a multiple of 16 in 16..1024");
  }
}

void Parser::let_binding() {
  Token name;
  if (!expect("let") || !expect_name("a name", name) || !expect("=")) return;
  const Id id = expression();
  if (lost_) return;
  if (may_declare(name, true)) declare(name, {id == kNone ? Binding::broken : Binding::let, 0, id});
}

void Parser::hook_statement(Hook hook) {
  const Token name = tokens_[next_ - 1];
  const bool is_map = hook == Hook::q_pos || hook == Hook::kv_pos;
  if (!(is_map && accept(":=")) && !expect("=")) return;
  if (places_.contains({static_cast<int>(hook), kNone})) {
    report(name, "the hook " + shown(name) + " is given already; allowed: once");
    lost_ = true;
    return;
  }
  hook_body(hook);
}

void Parser::hook_body(Hook hook) {
  where_ = static_cast<int>(hook);
  places_.try_emplace({where_, kNone}, Place{sources_.size() - 1, peek().at});
  const size_t outside = names_.size();
  while (is("let")) {
    let_binding();
    if (!expect(";")) break;
  }
  const Token start = peek();
  const Id id = lost_ ? kNone : is(kUnsafeCuda) ? cuda(hook) : expression();
  names_.erase(names_.begin() + static_cast<std::ptrdiff_t>(outside), names_.end());
  if (lost_ || id == kNone) return;
  const Id typed = builder_.adapted(id, info(hook).type);  // so that `sink = 0` is a number of f32
  hooks_.root(hook) = typed != kNone ? note(start, typed) : id;
}

/// Where the text has what was found: the declaration, or its node within that hook, in a `let` outside hooks, or the hook.
std::string Parser::location(const Finding& finding) const {
  if (finding.param) return location(param_places_[*finding.param]);
  if (finding.tensor) return location(tensor_places_[*finding.tensor]);
  if (!finding.hook) return finding.where;
  const int hook = static_cast<int>(*finding.hook);
  for (const auto& key : {std::pair{hook, finding.node}, std::pair{-1, finding.node}, std::pair{hook, kNone}}) {
    const auto place = places_.find(key);
    if (place != places_.end()) return location(place->second);
  }
  return finding.where;
}

Result<Hooks> Parser::finish(std::vector<Finding>* warnings, const MoreRules& more) {
  for (Finding& finding : check(hooks_)) {
    finding.where = location(finding);
    if (finding.error && problems_.size() < kMaxProblems) problems_.add(finding.where, finding.text());
    if (!finding.error && warnings != nullptr) warnings->push_back(std::move(finding));
  }
  if (problems_.empty() && more && warnings != nullptr) {
    for (Finding& finding : more(hooks_)) {
      finding.where = location(finding);
      warnings->push_back(std::move(finding));
    }
  }
  if (!problems_.empty()) return problems_.status();
  return std::move(hooks_);
}

Result<Hooks> parse(std::string_view text, std::vector<Finding>* warnings, const MoreRules& more) {
  Parser parser;
  parser.add_statements({}, text);
  return parser.finish(warnings, more);
}

}  // namespace lathe::expr
