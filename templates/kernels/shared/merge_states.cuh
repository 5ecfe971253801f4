// Merging partial attention states over disjoint keys: lse = log2 sum 2^lse_i, o = sum 2^(lse_i - lse) o_i, always in index order,
// so that equal parts give equal bits.
#pragma once

namespace merge {

// Merges 8 columns of one row of `num` states. lse_of(i) is the base-2 lse of state i; values_of(i, x) reads its 8 columns. Writes
// the merged columns to `o` and returns the merged lse; without any key o = 0 and lse = -inf.
template <class LSE, class VALUES>
LATHE_DEVICE float merge_states(int num, LSE&& lse_of, VALUES&& values_of, float (&o)[8]) {
  float top = -dev::kInfinity;
#pragma unroll 1
  for (int i = 0; i < num; ++i) top = dev::max(top, lse_of(i));
#pragma unroll
  for (int c = 0; c < 8; ++c) o[c] = 0.0f;
  const float base = top == -dev::kInfinity ? 0.0f : top;
  float sum = 0.0f;
#pragma unroll 1
  for (int i = 0; i < num; ++i) {
    const float weight = dev::ex2(lse_of(i) - base);
    float x[8];
    values_of(i, x);
    sum += weight;
    // An empty state has weight zero and may hold anything.
    if (weight != 0.0f) {
#pragma unroll
      for (int c = 0; c < 8; ++c) o[c] = dev::fma(weight, x[c], o[c]);
    }
  }
  if (sum == 0.0f) return -dev::kInfinity;
  const float inverse = dev::rcp(sum);
#pragma unroll
  for (int c = 0; c < 8; ++c) o[c] *= inverse;
  return base + dev::lg2(sum);
}

}  // namespace merge
