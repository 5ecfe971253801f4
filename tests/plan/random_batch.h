// Random batches: lengths as they occur and lengths at the edges of everything. Depends on the standard library alone, so that any
// suite can draw from it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace lathe::testing {

/// Lengths of a batch.
struct RandomBatch {
  std::vector<int32_t> qo_indptr{0};  // [batch + 1]
  std::vector<int32_t> kv_lens;       // [batch]
  int32_t window = 1;                 // >= 1

  int32_t size() const { return static_cast<int32_t>(kv_lens.size()); }
  int32_t qo_len(int32_t b) const { return qo_indptr[b + 1] - qo_indptr[b]; }
  void add(int32_t qo_len, int32_t kv_len) {
    qo_indptr.push_back(qo_indptr.back() + qo_len);
    kv_lens.push_back(kv_len);
  }
};

struct BatchLimits {
  int32_t max_requests = 8;
  int32_t max_qo_len = 256;
  int32_t max_kv_len = 4096;
};

/// Uniform in [low, high].
inline int32_t draw_int(std::mt19937_64& rng, int32_t low, int32_t high) {
  return std::uniform_int_distribution<int32_t>(low, high)(rng);
}

/// A length in [0, most]: small, near a multiple of a tile size, or of any magnitude with equal chance.
inline int32_t draw_length(std::mt19937_64& rng, int32_t most) {
  if (most <= 0) return 0;
  int64_t length = 0;
  switch (draw_int(rng, 0, 3)) {
    case 0:
      length = draw_int(rng, 0, 3);
      break;
    case 1:
      length = (int64_t{1} << draw_int(rng, 4, 12)) + draw_int(rng, -1, 1);
      break;
    default: {
      double log_most = std::log2(static_cast<double>(most) + 1);
      length = static_cast<int64_t>(std::exp2(std::uniform_real_distribution<double>(0, log_most)(rng))) - 1;
    }
  }
  return static_cast<int32_t>(std::clamp<int64_t>(length, 0, most));
}

/// A batch of up to max_requests requests: decodes, prefills, chunks of prefills and the degenerate (no query, no key, more queries
/// than keys), in one of several mixtures. May be empty.
inline RandomBatch random_batch(std::mt19937_64& rng, const BatchLimits& limits) {
  RandomBatch batch;
  batch.window = 1 + draw_length(rng, limits.max_kv_len);
  enum { decodes, prefills, mixed };
  int kind = draw_int(rng, 0, 2);
  int32_t size = draw_int(rng, 0, limits.max_requests);
  for (int32_t b = 0; b < size; ++b) {
    int32_t kv_len = draw_length(rng, limits.max_kv_len);
    bool decode = kind == decodes || (kind == mixed && draw_int(rng, 0, 3) > 0);
    int32_t qo_len = decode ? 1 : std::min(draw_length(rng, limits.max_qo_len), kv_len);
    if (draw_int(rng, 0, 15) == 0) qo_len = draw_length(rng, limits.max_qo_len);  // perhaps none, perhaps more than keys
    batch.add(std::min(qo_len, limits.max_qo_len), kv_len);
  }
  return batch;
}

/// For messages, e.g. "window 7, qo/kv 1/300 1/17 128/512"; at most the first 64 requests.
inline std::string print(const RandomBatch& batch) {
  std::string text = "window " + std::to_string(batch.window) + ", qo/kv";
  for (int32_t b = 0; b < std::min(batch.size(), 64); ++b)
    text += " " + std::to_string(batch.qo_len(b)) + "/" + std::to_string(batch.kv_lens[b]);
  return batch.size() > 64 ? text + " ..." : text;
}

}  // namespace lathe::testing
