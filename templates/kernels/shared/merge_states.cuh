// Merging partial attention states over disjoint keys: lse = log2 sum 2^lse_i, o = sum 2^(lse_i - lse) o_i, always in index order,
// so that equal parts give equal bits.
#pragma once

namespace merge {

// Merges 8 columns of one row. `states(f)` calls f(i) for the states of the row in their order; lse_of(i) is the base-2 lse of
// state i, values_of(i, x) reads its 8 columns. Writes the merged columns to `o` and returns the merged lse; without any key o = 0
// and lse = -inf.
template <class STATES, class LSE, class VALUES>
LATHE_DEVICE float merge_states(STATES&& states, LSE&& lse_of, VALUES&& values_of, float (&o)[8]) {
  float top = -dev::kInfinity, sum = 0.0f;  // of the states so far; the sum and o are relative to 2^top
#pragma unroll
  for (int c = 0; c < 8; ++c) o[c] = 0.0f;
  states([&](dev::i64 i) {
    const float lse = lse_of(i);
    if (lse == -dev::kInfinity) return;  // without a key, and may hold anything
    const float higher = dev::max(top, lse);
    const float shrink = dev::ex2(top - higher);
    const float weight = dev::ex2(lse - higher);
    float x[8];
    values_of(i, x);
    sum = dev::fma(sum, shrink, weight);
#pragma unroll
    for (int c = 0; c < 8; ++c) o[c] = dev::fma(weight, x[c], o[c] * shrink);
    top = higher;
  });
  if (sum == 0.0f) return -dev::kInfinity;
  const float inverse = dev::rcp(sum);
#pragma unroll
  for (int c = 0; c < 8; ++c) o[c] *= inverse;
  return top + dev::lg2(sum);
}

// The same of states that are not normalised: their sum.
template <class STATES, class VALUES>
LATHE_DEVICE void add_states(STATES&& states, VALUES&& values_of, float (&o)[8]) {
#pragma unroll
  for (int c = 0; c < 8; ++c) o[c] = 0.0f;
  states([&](dev::i64 i) {
    float x[8];
    values_of(i, x);
#pragma unroll
    for (int c = 0; c < 8; ++c) o[c] += x[c];
  });
}

}  // namespace merge
