// Random cases for proofs on the host executor: specs spread evenly over the values of every field, and batches that are small yet
// hold several key tiles and real splits.
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "lathe/plan/attention_tile.h"
#include "lathe/proof/batch_values.h"
#include "lathe/spec/attention_spec.h"

namespace lathe::testing {

/// Shards of the suite, specs of each and batches of each spec.
constexpr int kShards = 12, kSpecsPerShard = 12, kBatchesPerSpec = 3;

/// The specs of shard `shard`, all different, arch "host". Over all shards, whatever their seeds, every value of every enum comes
/// up and every head dimension comes up 9 times.
std::vector<AttentionSpec> draw_specs(int shard, uint64_t seed);

/// A batch whose cost on the executor is bounded. `tile` is what the spec resolved to. Where `want_split` and the spec allows it,
/// the batch holds a request that spans three key tiles and more, and is shaped so that the planner has reason to split it.
BatchShape draw_batch(const AttentionSpec& spec, const AttentionTile& tile, bool want_split, std::mt19937_64& rng);

/// Multiply-adds of the tiles that `shape` takes, the measure of its cost.
int64_t cost_of(const AttentionSpec& spec, const AttentionTile& tile, const BatchShape& shape);

/// Most keys that any request's tiles walk over, in tiles of the class that the fewest rows take.
int64_t key_tiles(const AttentionTile& tile, const BatchShape& shape);

/// Which values of which fields came up in how many batches.
class Coverage {
 public:
  void add(const AttentionSpec& spec, const AttentionTile& tile, const BatchShape& shape, int32_t num_groups);
  /// A table for people.
  std::string table() const;
  /// Values of enums, flags and head dimensions that came up fewer than `least` times, in words; empty when none.
  std::string rare(int least) const;
  int batches() const { return batches_; }
  int deep_and_split() const { return deep_and_split_; }  // at least 3 key tiles and a real split

 private:
  std::map<std::string, std::map<std::string, int>> counts_;
  int batches_ = 0, deep_and_split_ = 0;
};

}  // namespace lathe::testing
