#include "tile_soundness.h"

#include <algorithm>
#include <iostream>
#include <stdexcept>
#include <string>

#include "dense_mask.h"
#include "lathe/spec/expr/kv_ranges.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/spec/expr/print.h"

namespace lathe::expr::testing {
namespace {

constexpr const char* kDeclarations =
    "param W, S, C: i32 in [-40, 40]; param M: i32 in [1, 9]; param flag: bool;\n"
    "tensor start: i32[TOK] sorted, lo, hi: i32[TOK] summary, cx: i32[B], kind: u8[HQ], doc: i32[KVPOS] summary,\n"
    "  words: u32[TOK, 2] summary, seen: bool[QLEN, KVPOS] summary;\n";

/// Masks as people write them: comparisons of positions, params and tensors, joined by logic. Text, so that check() has its say.
class Text {
 public:
  explicit Text(Rng& rng) : rng_(rng) {}

  std::string mask(int size) {
    if (size <= 0) return comparison();
    const int left = static_cast<int>(rng_() % static_cast<uint64_t>(size));
    switch (rng_() % 8) {
      case 0:
        return "!(" + mask(size - 1) + ")";
      case 1:
        return "(" + mask(left) + " ? " + mask(size - 1 - left) + " : " + mask(0) + ")";
      case 2:
        return "(" + mask(left) + (rng_() % 2 == 0 ? " == " : " != ") + mask(size - 1 - left) + ")";
      case 3:
      case 4:
        return "(" + mask(left) + " || " + mask(size - 1 - left) + ")";
      default:
        return "(" + mask(left) + " && " + mask(size - 1 - left) + ")";
    }
  }

 private:
  template <size_t N>
  std::string pick(const char* const (&from)[N]) {
    return from[rng_() % N];
  }

  std::string comparison() {
    static constexpr const char* kSigns[] = {" < ", " <= ", " > ", " >= ", " == ", " != "};
    switch (rng_() % 16) {
      case 0:
        return "bit(words[tok, clamp(kv >> 5, 0, 1)], kv & 31)";
      case 1:
        return "seen[q, kv]";
      case 2:
        return "flag";
      case 3:
        return "kv_pos <= q_pos";
      default:
        return "(" + sum() + pick(kSigns) + sum() + ")";
    }
  }

  std::string sum() {
    std::string out = term();
    for (uint64_t more = rng_() % 3; more > 0; --more) out += (rng_() % 2 == 0 ? " + " : " - ") + term();
    return out;
  }

  static constexpr const char* kTerms[] = {
      "q_pos",   "q_pos",   "kv_pos", "kv_pos", "q",  "kv",      "h", "hk", "W",     "S",       "kv_len", "qo_len",   "start[tok]",
      "lo[tok]", "hi[tok]", "cx[b]",  "3",      "17", "kind[h]", "M", "b",  "level", "doc[kv]", "doc[0]", "i32(flag)"};

  std::string term() {
    if (depth_ >= 2) return pick(kTerms);
    ++depth_;
    const std::string out = deeper_term();
    --depth_;
    return out;
  }

  std::string deeper_term() {
    switch (rng_() % 12) {
      case 0:
        return "(" + sum() + ") // " + pick({"M", "4", "7", "C"});
      case 1:
        return "(" + sum() + ") % " + pick({"M", "4", "7", "C"});
      case 2:
        return "abs(" + sum() + ")";
      case 3:
        return pick({"min(", "max("}) + sum() + ", " + term() + ")";
      case 4:
        return "(" + comparison() + " ? " + term() + " : " + term() + ")";
      case 5:
        return "((" + sum() + ") " + pick({">> 2)", "& 7)", "<< 1)"});
      case 6:
        return "(" + term() + ") * " + pick({"2", "-3", "M", "C"});
      default:
        return pick(kTerms);
    }
  }
  std::string pick(std::initializer_list<const char*> from) { return from.begin()[rng_() % from.size()]; }

  Rng& rng_;
  int depth_ = 0;  // of terms inside of terms
};

Hooks any_mask(Rng& rng) {
  const int size = static_cast<int>(rng() % 6);
  if (rng() % 4 == 0) return random_hooks(rng, Hook::mask, 3 + size * 2);
  for (int attempt = 0; attempt < 1000; ++attempt) {
    std::string text = kDeclarations;
    if (rng() % 6 == 0) text += "kv_pos := kv * 3 + b; ";
    if (rng() % 12 == 0) text += "q_pos := q + start[tok]; ";
    Result<Hooks> hooks = parse(text + "mask = " + Text(rng).mask(size));
    if (hooks.ok()) return *std::move(hooks);  // what may overflow is refused
  }
  throw std::logic_error("no mask is accepted");
}

Interval part_of(Rng& rng, int64_t size, int64_t beyond) {
  const auto lo = static_cast<int64_t>(rng() % static_cast<uint64_t>(size));
  return {lo, std::min(lo + static_cast<int64_t>(rng() % (rng() % 3 == 0 ? 3 : 9)), size - 1 + beyond)};
}

bool inside(const KvRanges& ranges, int64_t kv) {
  return std::any_of(ranges.list().begin(), ranges.list().end(), [&](Interval range) { return range.lo <= kv && kv <= range.hi; });
}

bool ranges_hold(const DenseMask& dense, const SeenKeys& keys, const Tile& tile, int64_t kv_len) {
  for (int64_t kv = 0; kv < kv_len; ++kv) {
    const Truth column = dense.truth({tile.q, {kv, kv}, tile.h});
    if (column != Truth::empty && !inside(keys.seen, kv)) return false;
    if (column != Truth::full && inside(keys.full, kv)) return false;
  }
  for (size_t i = 1; i < keys.seen.count; ++i) {
    if (keys.seen.ranges[i].lo <= keys.seen.ranges[i - 1].hi + 1) return false;
  }
  return true;
}

}  // namespace

TileCounts compare_random_tiles(uint64_t seed, int64_t tiles) {
  Rng rng(seed);
  TileCounts counts;
  while (counts.tiles < tiles) {
    const Hooks hooks = any_mask(rng);
    const MaskTiles mask(hooks);
    ++counts.masks;
    const DenseMask::Size size{1 + static_cast<int32_t>(rng() % 14), 1 + static_cast<int32_t>(rng() % 40),
                               1 + static_cast<int32_t>(rng() % 3), 1 + static_cast<int32_t>(rng() % 2)};
    DenseMask dense(hooks, rng, size, rng() % 2 == 0);
    dense.evaluate();
    const Scope scope = dense.scope();
    for (int i = 0; i < 24; ++i) {
      const Tile tile{part_of(rng, size.qo_len, rng() % 8 == 0 ? 2 : 0), part_of(rng, size.kv_len, rng() % 8 == 0 ? 2 : 0),
                      part_of(rng, size.heads, 0)};
      const Truth found = mask(scope, tile), truth = dense.truth(tile);
      ++counts.tiles;
      ++(found == Truth::empty ? counts.empty : found == Truth::full ? counts.full : counts.partial);
      counts.missed += found == Truth::partial && truth != Truth::partial ? 1 : 0;
      const bool sound = (found == Truth::partial || found == truth) &&
                         (i % 4 != 0 || ranges_hold(dense, seen_keys(mask, scope, tile.q, tile.h), tile, size.kv_len));
      if (!sound && ++counts.unsound <= 10) {
        std::cout << "unsound: " << to_text(hooks) << "\n  q " << tile.q.lo << ".." << tile.q.hi << ", kv " << tile.kv.lo << ".."
                  << tile.kv.hi << ", h " << tile.h.lo << ".." << tile.h.hi << ": found " << name_of(found) << ", is "
                  << name_of(truth) << "\n";
      }
    }
  }
  return counts;
}

}  // namespace lathe::expr::testing
