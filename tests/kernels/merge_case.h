// States to merge, with what the hooks of a merge take: drawn, run on any device, and judged by the oracle element by element.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "lathe/api/merge.h"
#include "lathe/proof/hook_values.h"
#include "lathe/runtime/device.h"

namespace lathe::testing {

class MergeCase {
 public:
  /// Draws sizes and numbers for `spec`, which is valid. Some states are empty, and hold NaN.
  MergeCase(const MergeSpec& spec, std::mt19937_64& rng);
  struct Sizes {
    int64_t num, tokens, heads;
  };
  /// States `o_of` [num, tokens, heads, head_dim] with their `lse_of` [num, tokens, heads]; hooks take what `rng` gives.
  MergeCase(const MergeSpec& spec, Sizes sizes, std::vector<uint16_t> o_of, std::vector<float> lse_of, std::mt19937_64& rng);

  /// One launch of `merge`, prepared for the spec; empty, or what is wrong first.
  std::string run(const std::shared_ptr<Device>& device, const Merge& merge, bool with_lse = true) const;

  int64_t num = 0, tokens = 0, heads = 0;
  std::vector<uint16_t> o;
  std::vector<float> lse;

 private:
  std::string judge(const std::vector<uint16_t>& got_o, const std::vector<float>& got_lse, bool with_lse) const;

  MergeSpec spec_;
  DrawnHooks hooks_;
};

}  // namespace lathe::testing
