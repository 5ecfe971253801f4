// The reader of hooks' text, used by parse() and by the JSON form: texts come in one after the other, problems are gathered.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lathe/base/status.h"
#include "lathe/spec/expr/build.h"
#include "lathe/spec/expr/check.h"
#include "lathe/spec/expr/hooks.h"
#include "lathe/spec/expr/lexer.h"

namespace lathe::expr {

/// Texts that are added must outlive it. Not copyable; one thread.
class Parser {
 public:
  Parser() : builder_(hooks_) {}
  Parser(const Parser&) = delete;
  Parser& operator=(const Parser&) = delete;

  /// Declarations and hooks, separated by ';'. `source` names the text in messages; empty: it is the only one. With `bare` a
  /// statement that is neither is the expression of that hook.
  void add_statements(std::string source, std::string_view text, std::optional<Hook> bare = {});
  /// What follows the '=' of a hook.
  void add_hook(std::string source, Hook hook, std::string_view text);
  /// A declaration that comes as a value; `source` is where problems are reported.
  void add_param(const std::string& source, Param param);
  void add_tensor(const std::string& source, Tensor tensor);
  void set_normalizer(Normalizer normalizer) { hooks_.normalizer = normalizer; }
  /// What finish() will report, for callers that find more.
  Problems& problems() { return problems_; }
  const Hooks& hooks() const { return hooks_; }

  /// The hooks, when every text was sound and check() finds no error. Called once, last.
  Result<Hooks> finish(std::vector<Finding>* warnings, const MoreRules& more = {});

 private:
  struct Place {
    size_t source = 0, at = 0;
  };
  struct Source {
    std::string name;
    std::string_view text;
    bool is_value = false;  // a declaration that came as a value: it has no columns
  };
  /// What a name stands for.
  struct Binding {
    enum Kind : uint8_t { param, tensor, constant, let, broken } kind;  // broken: its declaration was refused
    uint32_t index = 0;                                                 // of param and tensor
    Id id = kNone;                                                      // of constant and let
  };
  struct Named {
    std::string name;
    Binding binding;
  };

  // parse.cc: statements
  bool open(std::string source, std::string_view text);  // false when the text cannot be read at all
  void statement(std::optional<Hook> bare);
  void skip_statement();
  bool starts_statement() const;
  bool is_bare() const;  // what is next is no statement that has lost its first word
  void normalizer_setting();
  void rotary_setting();
  void hook_statement(Hook hook);
  void let_binding();
  void hook_body(Hook hook);
  bool may_declare(const std::string& source, const std::string& name);
  void declare(const Token& name, const Binding& binding);
  bool may_declare(const Token& name, bool is_let);
  std::string location(const Place& place) const;
  std::string location(const Finding& finding) const;
  void add(Param param, const Place& place);
  void add(Tensor tensor, const Place& place);

  // parse_declaration.cc
  void param_declaration();
  void tensor_declaration();
  void const_declaration();
  bool names_until_colon(std::vector<Token>& names);
  bool range(Type type, const std::string& name, const std::array<double, 2>& limits, std::optional<std::array<double, 2>>& range);
  bool tensor_axes(Tensor& tensor);
  bool tensor_qualities(Tensor& tensor);
  bool axis(TensorAxis& axis);

  // parse_expression.cc
  Id expression();
  Id binary(int least);
  Id unary();
  Id primary();
  Id name_reference(const Token& name);
  Id call(const Token& name);
  Id cuda(Hook hook);
  Id tensor_read(const Token& name, uint32_t index);
  Id number();
  bool arguments(std::string_view close, std::vector<Id>& args);
  Id note(const Token& at, const Built& built);  // reports a refusal
  const Binding* find(std::string_view name) const;
  std::string nearest_name(std::string_view name) const;
  // Of declarations: a number or the name of a const, with or without '-'; where f32 is wanted a whole number may be of any size.
  bool constant_number(Node& node, Type wanted = Type::i32, const std::string& hint = {});

  // tokens
  const Token& peek() const { return tokens_[next_]; }
  bool is(std::string_view text) const { return peek().kind != TokenKind::end && peek().text == text; }
  bool accept(std::string_view text);
  bool expect(std::string_view text);
  bool expect_name(const char* what, Token& name);
  const Token& take() { return tokens_[peek().kind == TokenKind::end ? next_ : next_++]; }
  void report(const Token& at, std::string message, const std::string& hint = {});
  void expected(const std::string& what, const std::string& hint = {});  // a problem of form: the statement is given up

  Hooks hooks_;
  Builder builder_;
  std::vector<Source> sources_;
  std::vector<Token> tokens_;  // of the last source
  size_t next_ = 0;
  std::vector<Named> names_;  // later ones hide earlier ones
  int depth_ = 0;
  bool lost_ = false;  // the statement cannot be read on
  int where_ = -1;     // the hook that is being read; -1: a `let` outside hooks
  std::map<std::pair<int, Id>, Place> places_;
  std::vector<Place> param_places_, tensor_places_;  // by their places in hooks_
  Problems problems_;
};

/// A number as it is written, e.g. 12, 0x1f, 5u, 1e-4, inf; nothing when `text` is none or leaves its type.
std::optional<Node> number_node(std::string_view text);

}  // namespace lathe::expr
