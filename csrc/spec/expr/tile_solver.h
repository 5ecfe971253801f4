// Whether a mask can be true, or can be false, somewhere in a tile: the engine below tiles.h and kv_ranges.h.
#pragma once

#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "lathe/spec/expr/affine.h"
#include "lathe/spec/expr/range.h"
#include "lathe/spec/expr/tiles.h"

namespace lathe::expr {

/// One mask in one tile. Every integer becomes a sum of atoms (q, kv, h, elements of tensors, quotients, what is not a sum), every
/// comparison a sum <= 0; conjunctions of those are then tested for having a solution (affine.h). Alternatives are tried one by
/// one: those of `||`, of negated `&&`, of min, max, abs and `? :` inside of comparisons. For use by one thread.
class TileSolver {
 public:
  /// `hooks` has no positions (with_positions), and like `scope` must outlive this; intervals are not empty.
  TileSolver(const Hooks& hooks, const Scope& scope, const Tile& tile) : TileSolver(hooks, scope, tile, kRefinements) {}

  /// Calls `found` with the keys within which the mask may have the value `wanted`, once per alternative, until it returns false.
  /// Every key of the tile for which some row and head gives `wanted` lies within one of them.
  void solve(bool wanted, const std::function<bool(Interval keys)>& found) { solve(wanted, kMaxBranches, found); }

 private:
  // Masks that people write need about ten; one with more is treated as if the rest of its alternatives could all be reached.
  static constexpr int kMaxBranches = 64;

  // How often an alternative is looked at once more within the rows and keys that are left of it, where tensors say more of fewer.
  static constexpr int kRefinements = 2;

  TileSolver(const Hooks& hooks, const Scope& scope, const Tile& tile, int refinements);

  /// A bool node that shall have a value or, without a node, a sum that shall be <= 0.
  struct Goal {
    Id node = kNone;
    bool wanted = true;
    Form form;
  };
  /// One of two lists of goals shall be reached.
  struct Choice {
    std::vector<Goal> first, second;
  };
  struct State {
    System system;
    std::vector<Goal> goals;
    std::vector<Choice> choices;
  };
  /// What an atom stands for when a comparison can be split by it: max(first, second), min, or condition ? first : second.
  struct Piece {
    Op op = Op::max;
    Id condition = kNone;
    Form first, second;
  };

  void lower(Id id);
  std::optional<Form> leaf(const Node& node);
  std::optional<Form> sum(Id id);
  std::optional<Form> piece(Id id);
  std::optional<Form> quotient_or_rest(Id id);
  Atom quotient(Id of, const Form& form, int64_t divisor);
  Range read_range(const Node& node) const;
  Range bit_range(const Node& node) const;
  Interval known(Id id) const;

  bool reach(State& state);
  void reach_node(State& state, const Goal& goal);
  bool reach_form(State& state, const Form& form);
  void compare(State& state, const Node& node, bool wanted);
  /// Returns how many branches are left.
  int solve(bool wanted, int branches, const std::function<bool(Interval keys)>& found);
  bool explore(State state, const std::function<bool(Interval)>& found);
  bool accept(const System& system, const std::function<bool(Interval)>& found);

  const Hooks& hooks_;
  const Graph& graph_;
  const Scope& scope_;
  const Id mask_;
  System base_;
  Atom q_, kv_, h_;
  std::vector<Range> ranges_;               // by node
  std::vector<std::optional<Form>> forms_;  // by node: of integers, and of bool that is no operator of logic
  std::map<Atom, Piece> pieces_;
  std::map<std::pair<Id, int64_t>, Atom> quotients_;
  int branches_left_ = 0;  // of this look and those at what is left of its alternatives, together
  bool wanted_ = true;
  const Tile tile_;
  const int refinements_;
  bool reads_ = false;  // whether the mask reads tensors
};

}  // namespace lathe::expr
