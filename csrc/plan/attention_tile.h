// The tile configuration of an attention spec on an arch: what `tile: auto` resolves to, and what a given tile must satisfy.
//
// Shared memory (bytes, 16-bit elements; a row of d elements takes ceil(d / 64) panels of 128 bytes):
//   main loop  = q rows + stages * (kv rows of k + kv rows of v), of the largest class
//   epilogue   = 16 * warps rows of (head_dim_vo + 8) floats (every warp stages its fp32 rows), reusing the main loop's space
//   block      = max(main loop, epilogue) + kControlBytes
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lathe/arch/traits.h"
#include "lathe/base/status.h"
#include "lathe/spec/attention_spec.h"

namespace lathe {

constexpr int32_t kControlBytes =
    2048;  // row statistics exchanged between warps, and the merge ticket; keeps tiles 1024-byte aligned

struct AttentionTile {
  int32_t warps = 0;
  int32_t stages = 0;
  bool packed = false;             // GQA heads share rows (resolved from gqa_pack)
  std::vector<TileClass> classes;  // tallest first
  int32_t shared_bytes = 0;
  std::string reason;  // for `lathe explain`: why this one

  int32_t threads() const { return warps * 32; }
  int32_t warps_q(const TileClass& c) const { return c.q / 16; }
  int32_t warps_kv(const TileClass& c) const { return warps / warps_q(c); }
};

/// Shared memory of `classes` with these stages and warps.
int32_t attention_shared_bytes(const AttentionSpec& spec, int32_t warps, int32_t stages, const std::vector<TileClass>& classes);

/// Resolves spec.tile on `arch`. A given tile must satisfy: warps 4 or 8; stages 1..4; each q a multiple of 16 with q / 16 dividing
/// warps; each kv a multiple of 16 * (warps along kv), at most 256; classes strictly falling in q; shared memory within the arch's
/// limit (the message gives both figures); no more accumulators and rows to load than fit the registers, so that nothing is
/// spilled; and at most 150 KB of PTX a class, by an estimate (see .cc for both). All problems at once. The rest of `spec` has
/// passed validate().
Result<AttentionTile> resolve_tile(const AttentionSpec& spec, const ArchTraits& arch);

}  // namespace lathe
