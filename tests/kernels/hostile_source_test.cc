// Whole kernel sources of the hooks that hostile strings get accepted: nothing of the strings is in them.
#include <gtest/gtest.h>

#include <iostream>

#include "lathe/api/attention.h"
#include "lathe/api/merge.h"
#include "lathe/expr_testing/hostile_texts.h"
#include "lathe/proof/harness.h"
#include "lathe/spec/expr/json.h"
#include "lathe/spec/expr/parse.h"

namespace lathe::testing {
namespace {

using expr::testing::kMark;

class Sources {
 public:
  /// Renders the kernel of `hooks`, when they are hooks and a spec may have them.
  void take(const Result<expr::Hooks>& hooks, const std::string& input) {
    if (!hooks.ok()) return;
    AttentionSpec spec;
    spec.hooks = *hooks;
    spec.label = input.substr(0, printable_length(input));
    ASSERT_TRUE(validate(spec).ok()) << input << validate(spec).to_string();
    for (const char* arch : {"host", "sm_90a"}) {
      spec.arch = arch;
      const Result<AttentionTile> tile = resolve_tile(spec, *arch_traits(spec.arch));
      ASSERT_TRUE(tile.ok()) << tile.status().to_string();
      const Result<KernelRequest> request = attention_request(spec, *tile);
      ASSERT_TRUE(request.ok()) << request.status().to_string();
      const Result<std::string> source = engine().source(*request);
      ASSERT_TRUE(source.ok()) << source.status().to_string();
      EXPECT_EQ(source->find(kMark), std::string::npos) << input;
      ++rendered;
    }
  }
  /// The same behind a merge.
  void take_merge(const Result<expr::Hooks>& hooks, const std::string& input) {
    if (!hooks.ok()) return;
    MergeSpec spec;
    spec.hooks = *hooks;
    spec.label = input.substr(0, printable_length(input));
    ASSERT_TRUE(validate(spec).ok()) << input << validate(spec).to_string();
    for (const char* arch : {"host", "sm_90a"}) {
      spec.arch = arch;
      const Result<std::string> source = engine().source(*merge_request(spec));
      ASSERT_TRUE(source.ok()) << source.status().to_string();
      EXPECT_EQ(source->find(kMark), std::string::npos) << input;
      ++merges;
    }
  }
  size_t rendered = 0, merges = 0;

 private:
  /// Labels are printable and short.
  static size_t printable_length(const std::string& input) {
    size_t n = 0;
    while (n < input.size() && n < 200 && input[n] >= ' ' && input[n] < 0x7f) ++n;
    return n;
  }
};

TEST(HostileSource, NothingReachesAWholeKernel) {
  Sources sources;
  for (const std::string& s : expr::testing::hostile_strings()) {
    for (const std::string& text : expr::testing::texts_with(s)) sources.take(expr::parse(text), text);
    for (const std::string& json : expr::testing::jsons_with(s)) sources.take(expr::hooks_from_json(json), json);
    for (const std::string& text :
         {"param " + s + ":f32; output = o * " + s, "tensor " + s + ":f32[TOK, HQ, D]; output = o * " + s + "[tok, h, d]",
          "tensor " + s + ":f32[HQ]; sink = " + s + "[h]", "let " + s + " = f32(h); sink = " + s, "output = " + s, "sink = " + s})
      sources.take_merge(expr::parse(text), text);
  }
  std::cout << sources.rendered << " sources, " << sources.merges << " of merges\n";
  EXPECT_GT(sources.rendered, 40u) << "names that are sound are names";
  EXPECT_GT(sources.merges, 8u);
}

}  // namespace
}  // namespace lathe::testing
