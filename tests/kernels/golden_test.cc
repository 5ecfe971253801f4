// The expanded text of a few kernels, kept in tests/golden: what a change to templates or rendering changes is there to be read in
// review. LATHE_UPDATE_GOLDEN=1 writes the files anew.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <ostream>

#include "lathe/api/append.h"
#include "lathe/api/attention.h"
#include "lathe/api/merge.h"
#include "lathe/arch/traits.h"
#include "lathe/jit/compile_key.h"
#include "lathe/jit/engine.h"

namespace lathe::testing {
namespace {

struct GoldenCase {
  std::string name, family, json;
};

void PrintTo(const GoldenCase& c, std::ostream* out) {
  *out << c.name;
}

std::vector<GoldenCase> golden_cases() {
  return {
      {"decode", "attention",
       R"({"op":"attention","group_size":4,"head_dim_qk":128,"head_dim_vo":128,"layout":{"kind":"paged","page_size":16},"mask":"causal","lse":"ln"})"},
      {"prompt", "attention",
       R"({"op":"attention","q_dtype":"f16","o_dtype":"f16","head_dim_qk":80,"head_dim_vo":64,"layout":{"kind":"ragged"},"mask":"causal_window","soft_cap":true,"lse":"log2"})"},
      {"append", "append",
       R"({"op":"append","kfmt":"e4m3","kscale":"token","vfmt":"i8","vscale":"token_channel","vzero":"token","rope":"neox"})"},
      {"merge", "merge", R"({"op":"merge","dtype":"bf16","head_dim":128})"},
      {"merge_hooks", "merge",
       R"json({"op":"merge","dtype":"f16","head_dim":64,"lse":"log2","hooks":"tensor s: f32[HQ], g: bf16[TOK, HQ, D]; sink = s[h]; output = o * sigmoid(g[tok, h, d])"})json"},
  };
}

Result<KernelRequest> request_of(const GoldenCase& c, const std::string& arch) {
  if (c.family == "append") {
    Result<AppendSpec> spec = append_spec_from_json(c.json);
    LATHE_TRY(spec);
    spec->arch = arch;
    return append_request(*spec);
  }
  if (c.family == "merge") {
    Result<MergeSpec> spec = merge_spec_from_json(c.json);
    LATHE_TRY(spec);
    spec->arch = arch;
    return merge_request(*spec);
  }
  Result<AttentionSpec> spec = attention_spec_from_json(c.json);
  LATHE_TRY(spec);
  spec->arch = arch;
  Result<ArchTraits> traits = arch_traits(arch);
  LATHE_TRY(traits);
  Result<AttentionTile> tile = resolve_tile(*spec, *traits);
  LATHE_TRY(tile);
  return attention_request(*spec, *tile);
}

class Golden : public ::testing::TestWithParam<std::tuple<GoldenCase, std::string>> {};

TEST_P(Golden, RendersToTheKeptText) {
  const auto& [c, arch] = GetParam();
  const std::string path = std::string(LATHE_GOLDEN_DIR) + "/" + c.name + "." + arch + ".cu";
  EngineOptions options;
  options.cache.mode = CacheMode::off;
  options.templates = std::make_shared<TemplateStore>(TemplateStore::embedded());
  Engine fresh(options);
  Result<KernelRequest> request = request_of(c, arch);
  ASSERT_TRUE(request.ok()) << request.status().to_string();
  Result<std::string> text = fresh.source(*request);
  ASSERT_TRUE(text.ok()) << text.status().to_string();
  if (const char* update = std::getenv("LATHE_UPDATE_GOLDEN"); update != nullptr && std::string(update) == "1") {
    std::ofstream(path, std::ios::binary) << *text;
    GTEST_SKIP() << "wrote " << path;
  }
  std::ifstream file(path, std::ios::binary);
  ASSERT_TRUE(file) << path << " is missing; LATHE_UPDATE_GOLDEN=1 writes it";
  const std::string kept((std::istreambuf_iterator<char>(file)), {});
  if (kept == *text) return;
  const auto differs = std::mismatch(kept.begin(), kept.end(), text->begin(), text->end()).first - kept.begin();
  FAIL() << path << " differs from what is rendered, first in line " << 1 + std::count(kept.begin(), kept.begin() + differs, '\n')
         << "; if the change is meant, LATHE_UPDATE_GOLDEN=1 writes the files anew";
}
// A template that a kernel is made of changes its key; another does not.
TEST_P(Golden, EachTemplateOfItChangesTheKey) {
  const auto& [c, arch] = GetParam();
  Result<KernelRequest> request = request_of(c, arch);
  ASSERT_TRUE(request.ok()) << request.status().to_string();
  const TemplateStore store = TemplateStore::embedded();
  const auto source_from = [&](TemplateStore templates) {
    EngineOptions options;
    options.cache.mode = CacheMode::off;
    options.templates = std::make_shared<TemplateStore>(std::move(templates));
    return Engine(options).source(*request);
  };
  const Result<std::string> source = source_from(store);
  ASSERT_TRUE(source.ok()) << source.status().to_string();
  const std::string key = compile_key(*request, *source, "compiler");
  size_t used = 0;
  for (const auto& [path, text] : store.files()) {
    const Result<std::string> changed = source_from(store.with(path, text + "\nconstexpr int kAdded = 1;\n"));
    ASSERT_TRUE(changed.ok()) << path << ": " << changed.status().to_string();
    const bool is_used = source->find("\"templates/" + path + "\"") != std::string::npos;
    used += is_used ? 1 : 0;
    EXPECT_EQ(compile_key(*request, *changed, "compiler") != key, is_used) << path;
  }
  EXPECT_GE(used, 5u);
  EXPECT_LT(used, store.files().size());
}

INSTANTIATE_TEST_SUITE_P(, Golden, ::testing::Combine(::testing::ValuesIn(golden_cases()), ::testing::Values("host", "sm_90a")),
                         [](const auto& c) { return std::get<0>(c.param).name + "_" + std::get<1>(c.param); });

}  // namespace
}  // namespace lathe::testing
