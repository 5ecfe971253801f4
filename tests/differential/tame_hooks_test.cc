// What lathe-fuzz draws: that every hook comes up, and that what cannot stand beside hooks is gone.
#include "tame_hooks.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "lathe/proof/cases.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

TEST(TameHooks, EveryHookComesUpInManyForms) {
  using expr::Hook;
  constexpr int kDraws = 1'200;
  std::mt19937_64 rng(seed());
  std::map<Hook, int> counts;
  std::set<std::string> distinct;
  int interleaved = 0, weights = 0, changed_codes = 0, sums = 0, norms = 0, packed = 0, trees = 0;
  while (distinct.size() < kDraws) {
    for (AttentionSpec spec : draw_specs(static_cast<int>(rng() % kShards), rng())) {
      add_tame_hooks(spec, rng);
      ASSERT_TRUE(validate(spec).ok()) << validate(spec).to_string() << "\n" << to_json(spec);
      for (size_t i = 0; i < expr::kHooks; ++i) counts[static_cast<Hook>(i)] += spec.hooks.given().roots[i] != expr::kNone ? 1 : 0;
      interleaved += spec.hooks.given().rotary.interleaved ? 1 : 0;
      weights += spec.hooks.normalizes() ? 0 : 1;
      const auto changes = [&](Hook hook, DType format) { return spec.hooks.has(hook) && is_code(format) ? 1 : 0; };
      changed_codes += changes(Hook::key, spec.kfmt) + changes(Hook::value, spec.vfmt);
      sums += spec.hooks.text().find("qsum") != std::string::npos ? 1 : 0;
      // Variants 13 and 14 of docs/variants.md.
      packed += spec.hooks.text().find("words[tok, kv >> 5]") != std::string::npos ? 1 : 0;
      trees += spec.hooks.text().find("words[tok, min(max(kv - cx[b], 0), 63) >> 5]") != std::string::npos ? 1 : 0;
      norms += spec.hooks.text().find("qnorm") != std::string::npos ? 1 : 0;
      distinct.insert(to_json(spec));
    }
  }
  for (Hook hook : {Hook::mask, Hook::logits, Hook::sink, Hook::weight, Hook::output, Hook::query, Hook::key, Hook::value})
    EXPECT_GE(counts[hook], kDraws / 10) << expr::info(hook).text;
  for (Hook map : {Hook::q_pos, Hook::kv_pos}) EXPECT_GE(counts[map], kDraws / 150) << expr::info(map).text;
  EXPECT_GE(interleaved, kDraws / 10);
  EXPECT_GE(weights, kDraws / 20) << "without a softmax";
  EXPECT_GE(changed_codes, kDraws / 12) << "keys or values of codes, changed";
  EXPECT_GE(sums, kDraws / 40);
  EXPECT_GE(norms, kDraws / 40);
  EXPECT_GE(packed, kDraws / 200);
  EXPECT_GE(trees, kDraws / 200);
}

}  // namespace
}  // namespace lathe::testing
