// An attention problem in device memory: random tensors, pages in random order, a plan, and a spot check of the result.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lathe/api/attention.h"

namespace lathe::bench {

struct BatchLengths {
  int32_t num_kv_heads = 0;
  std::vector<int32_t> qo_lens, kv_lens;  // [batch]
  int32_t window = 0;                     // when the mask has one
};

/// Reads {"num_kv_heads": 8, "qo_lens": [1, 128], "kv_lens": [300, 512], "window": 64}; window may be left out.
Result<BatchLengths> read_batch(const std::string& json);

/// What of a result was looked at.
struct SpotCheck {
  int rows = 0;             // compared with fp64
  double worst_error = 0;   // relative, of those rows
  int64_t elements = 0;     // of o, looked at
  int64_t not_written = 0;  // that still hold the poison, or are NaN
};

/// Owns the tensors and the workspace of one batch. Serves what the benchmarks time: bf16; ragged, or paged NHD with separate K and
/// V and csr page ids; no soft-cap. Not thread-safe.
class Problem {
 public:
  static Result<Problem> make(std::shared_ptr<Device> device, const Attention& attention, BatchLengths lengths, uint64_t seed);

  const PlannedAttention& plan() const { return plan_; }
  /// One launch on `stream`.
  Status run(Stream stream) const { return attention_->run(args_, plan_, workspace_.get(), stream); }
  /// Fills o with NaN.
  Status poison(Stream stream) const;
  /// Looks at every element of o, and compares `rows` rows drawn from `seed` with fp64.
  Result<SpotCheck> check(int rows, uint64_t seed) const;

 private:
  Problem() = default;
  Status place_tensors();
  Status place_pages(uint64_t seed);
  Status upload(std::shared_ptr<std::byte>& memory, int64_t elements, int64_t shift);
  std::vector<double> exact_row(int64_t request, int64_t row, int64_t head) const;
  int64_t kv_slot(int64_t request, int64_t key) const;

  std::shared_ptr<Device> device_;
  const Attention* attention_ = nullptr;
  BatchLengths lengths_;
  std::vector<uint16_t> values_;  // the random numbers that every tensor is cut from
  std::vector<int32_t> qo_indptr_, kv_indptr_, last_page_len_, kv_indices_;
  int64_t kv_slots_ = 0;  // tokens that k and v have room for
  PlannedAttention plan_;
  AttentionArgs args_;
  std::shared_ptr<std::byte> q_, k_, v_, o_, lse_, ids_, workspace_;
};

}  // namespace lathe::bench
