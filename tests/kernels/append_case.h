// One batch of new keys and values for the append kernel: drawn, run on any device, and judged by the oracle element by element.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "lathe/api/append.h"
#include "lathe/oracle/append.h"
#include "lathe/proof/memory.h"

namespace lathe::testing {

/// Memory of the device with its host image, and the tensor in it.
struct AppendImage {
  Tensor tensor;
  size_t element_bytes = 0;
  Bytes content;  // before the launch, and what was read after it

  AppendImage() = default;
  AppendImage(std::initializer_list<int64_t> shape, size_t bytes, bool padded, std::byte filler);
  size_t offset(std::initializer_list<int64_t> index) const;  // bytes
};

class AppendCase {
 public:
  /// Draws sizes, places and numbers for `spec`, which is valid. Some tokens are padding; what they and unused memory hold is NaN.
  AppendCase(const AppendSpec& spec, std::mt19937_64& rng);
  /// The same with all 65,536 values of q_dtype as keys and values, for head dims of 128 and no scales but those of all, which are
  /// powers of two: codes must then be the oracle's, ties too.
  static AppendCase all_values(const AppendSpec& spec, std::mt19937_64& rng);

  /// One launch; empty, or all that is wrong: refusals, faults, elements that differ from the oracle's, memory that should be as it
  /// was.
  std::string run(const std::shared_ptr<Device>& device, const Append& append) const;

  int64_t tokens = 0, kv_heads = 1, qo_heads = 0, pages = 0;  // qo_heads 0: no q
  std::vector<bool> padding;                                  // [tokens]

 private:
  struct Place {
    int64_t page, index;
  };
  void draw_places(std::mt19937_64& rng);
  void draw_values(std::mt19937_64& rng);
  void draw_scales(std::mt19937_64& rng, bool keys);
  class Upload;
  struct Places;
  AppendArgs put(Upload& upload, Places& at) const;
  template <class F>
  void for_each_vector(int64_t heads, F&& f) const;
  void check_memory(const Upload& upload, const Places& at) const;
  void check_vectors(bool keys, const Bytes& cache, const Bytes& token_scales, const Bytes& zeros,
                     std::vector<std::string>& problems) const;
  oracle::AppendFormat format_of(bool keys, int64_t head, std::vector<float>& channels, std::vector<float>& zeros) const;
  void check_elements(const std::string& where, DType format, const std::vector<double>& wanted, const Bytes& cache, size_t offset,
                      std::vector<std::string>& problems) const;
  void check_queries(const Bytes& q_out, std::vector<std::string>& problems) const;
  std::vector<double> vector_of(const AppendImage& image, int64_t token, int64_t head) const;
  std::vector<double> turned(const AppendImage& image, int64_t token, int64_t head) const;
  size_t cache_offset(bool keys, const Place& place, int64_t head) const;

  AppendSpec spec_;
  bool in_place_ = false, exact_ = false;
  std::vector<Place> places_;  // of tokens that are no padding
  std::vector<int64_t> slots_;
  std::vector<int32_t> batch_indices_, positions_, kv_indptr_, kv_indices_;
  int32_t block_table_stride_ = 0;
  int64_t num_requests_ = 0;
  AppendImage q_, q_out_, k_, v_, k_cache_, v_cache_, cos_sin_;
  struct Scales {
    float scale = 1;
    AppendImage token, channel, zero;  // without memory where the spec has none
  } scales_[2];                        // of keys, of values
};

}  // namespace lathe::testing
