// The scales and zero-points of a batch's keys or values as they lie in the device's memory.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "lathe/api/attention.h"
#include "lathe/oracle/attention.h"
#include "lathe/proof/batch_values.h"

namespace lathe::testing {

/// Images of the tables of KvScales: what no token owns is NaN. Tables that the spec does not have are empty.
class ScaleImage {
 public:
  /// For a pool of `rows` rows (ragged), or of `rows` pages.
  ScaleImage(const AttentionSpec& spec, bool keys, const ScaleValues& values, int64_t num_kv_heads, int64_t rows, bool padded);

  /// Puts the entries of token `token` of the batch where the pool has it; ragged: page 0, and `slot` is the row.
  void place(const ScaleValues& values, int64_t token, int64_t page, int64_t slot);

  enum Table { token_scale, channel_scale, zero };
  static constexpr size_t kTables = 3;
  std::array<std::vector<float>, kTables> tables;

  KvScales args() const;  // pointers are null
  oracle::ScaleViews views() const;

 private:
  int64_t num_kv_heads_;
  bool zero_of_tokens_;
  float scale_;
  std::array<Tensor, kTables> shapes_;
};

}  // namespace lathe::testing
