// Which tiles of a mask are empty or full, without evaluating it for each element.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "lathe/spec/expr/affine.h"
#include "lathe/spec/expr/hooks.h"
#include "lathe/spec/expr/interpret.h"

namespace lathe::expr {

/// What is known of a tensor: all its elements at indices within `index` (one interval per axis) lie within the result; of bool 0
/// and 1, of u32 unsigned numbers. Reads are clamped to the tensor, so an interval may leave it: then its ends are to be clamped to
/// [0, extent - 1] too. Nothing: not known. Called from the analysing thread, several times per tile.
using Summary = std::function<std::optional<Interval>(uint32_t tensor, std::span<const Interval> index)>;

/// All that is fixed while one request's tiles are analysed. A view: `params` must outlive its use.
struct Scope {
  int64_t b = 0, level = 0;
  int64_t group = 1;               // at least 1
  int64_t qo_len = 1, kv_len = 1;  // up to 2^24
  int64_t tok_begin = 0;           // `tok` of row 0
  std::span<const Value> params;   // one per Hooks::params, within its range
  Summary summary;                 // may be empty: nothing is known of tensors
};

/// Rows of the request, its keys and query heads. Rows and keys beyond the request's may be part of a tile: they see and are seen
/// by nothing. With several heads packed into one tile of rows, `h` is the hull of theirs.
struct Tile {
  Interval q, kv, h;
};

/// Of a mask in a tile: false everywhere, true everywhere, or not known to be either.
enum class Truth : uint8_t { empty, full, partial };

/// "empty", "full" or "partial".
const char* name_of(Truth truth);

/// The mask of some hooks, for many tiles. Thread-safe after construction.
class MaskTiles {
 public:
  /// Hooks without a mask count as those whose mask is true.
  explicit MaskTiles(const Hooks& hooks);

  /// Sound: `empty` where the interpreter gives false, `full` where it gives true, for all elements of the tile and all tensors
  /// that agree with the summary. What depends on floats is `partial`, as the device rounds otherwise than the host.
  Truth operator()(const Scope& scope, const Tile& tile) const;

  /// The hooks with positions replaced, of which the mask is analysed.
  const Hooks& hooks() const { return hooks_; }

 private:
  Hooks hooks_;
};

/// Whether the mask depends on neither kv nor slot: then whole rows are seen or not, and one tile over all keys tells which.
bool is_row_predicate(const Hooks& hooks);

}  // namespace lathe::expr
