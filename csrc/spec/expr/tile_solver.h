// Whether a mask can be true, or can be false, somewhere in a tile: the engine below tiles.h and tile_runs.h.
#pragma once

#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "lathe/spec/expr/affine.h"
#include "lathe/spec/expr/range.h"
#include "lathe/spec/expr/tiles.h"

namespace lathe::expr {

/// What to have less of, to know more.
struct Unknown {
  bool rows = false, heads = false, keys = false;

  bool any() const { return rows || heads || keys; }
  Unknown& operator|=(const Unknown& other) {
    rows = rows || other.rows, heads = heads || other.heads, keys = keys || other.keys;
    return *this;
  }
  Unknown operator&(const Unknown& other) const { return {rows && other.rows, heads && other.heads, keys && other.keys}; }
};

/// One mask in one tile. Every integer becomes a sum of atoms (q, kv, h, elements of tensors, quotients, what is not a sum), every
/// comparison a sum <= 0; conjunctions of those are then tested for having a solution (affine.h). Alternatives are tried one by
/// one: those of `||`, of negated `&&`, of min, max, abs and `? :` inside of comparisons. For use by one thread.
class TileSolver {
 public:
  /// `hooks` has no positions (with_positions), and like `scope` must outlive this; intervals are not empty.
  TileSolver(const Hooks& hooks, const Scope& scope, const Tile& tile);

  /// What an alternative leaves.
  struct Part {
    Interval keys;
    Unknown unknown;  // nothing: each of the keys has a row and a head that give the value
  };
  /// Calls `found` with the keys within which the mask may have the value `wanted`, once per alternative, until it returns false.
  /// Every key of the tile for which some row and head gives `wanted` lies within one of them.
  using Found = std::function<bool(const Part& part)>;
  void solve(bool wanted, const Found& found);

  /// An alternative for the tiles within this one.
  struct Alternative {
    System system;
    bool whole = false;    // no part of it was given up
    bool settles = false;  // in every tile (System::settles)
  };
  std::vector<Alternative> alternatives(bool wanted);
  /// Whether these serve tiles within this one as well as ones of their own: no part of the mask is better known in fewer rows,
  /// heads or keys.
  bool is_one_form() const { return unknown_.empty(); }
  /// What the mask changes with.
  Unknown varies_by() const { return origins_[mask_].by; }
  Atom q() const { return q_; }
  Atom kv() const { return kv_; }
  Atom h() const { return h_; }

 private:
  // Masks that people write need about ten; one with more is treated as if the rest of its alternatives could all be reached.
  static constexpr int kMaxBranches = 64;

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
    bool whole = true;  // no goal was given up
  };
  /// What an integer changes with that is no sum of others, or a bool that logic cannot look into.
  struct Origin {
    Unknown by;
    bool never = false;  // it is not known of single elements either
  };
  /// An atom that is better known in fewer rows, heads or keys.
  struct UnknownAtom {
    Atom atom = 0;
    Unknown by;
  };
  /// What an atom stands for when a comparison can be split by it: max(first, second), min, or condition ? first : second.
  struct Piece {
    Op op = Op::max;
    Id condition = kNone;
    Form first, second;
  };

  void lower(Id id);
  Origin origin_of(const Node& node) const;
  std::optional<Form> leaf(const Node& node);
  std::optional<int64_t> computed(const Node& node) const;
  std::optional<Form> sum(Id id);
  std::optional<Form> piece(Id id);
  std::optional<Form> quotient_or_rest(Id id);
  Atom quotient(Id of, const Form& form, int64_t divisor);
  Range read_range(const Node& node, bool& never) const;
  Range bit_range(const Node& node) const;
  Interval known(Id id) const;

  bool reach(State& state);
  void reach_node(State& state, const Goal& goal);
  bool reach_form(State& state, const Form& form);
  void compare(State& state, const Node& node, bool wanted);
  using Leaf = std::function<bool(const State& state, System::Left left)>;
  bool explore(State state, const Leaf& leaf);
  Unknown unknown_of(const State& state, System::Left left) const;

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
  std::vector<Origin> origins_;  // by node
  std::vector<UnknownAtom> unknown_;
  int branches_left_ = 0;
};

}  // namespace lathe::expr
