#include "lathe/jit/compile_key.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <set>

#include "lathe/jit/nearest_key.h"
#include "lathe/jit_testing/fake_compiler.h"
#include "lathe/spec/merge_spec.h"
#include "lathe/testing/temp_dir.h"
#include "support.h"

namespace lathe {
namespace {

using testing::FakeCompiler;
using ::testing::HasSubstr;
using ::testing::Not;

std::string key_of(const KernelRequest& request, const std::string& source = "source", const std::string& compiler = "compiler 1") {
  return compile_key(request, source, compiler);
}

TEST(CompileKey, EveryInputChangesIt) {
  const KernelRequest base = testing::tiny_request("sm_80");
  std::set<std::string> keys{key_of(base)};
  size_t count = 1;
  auto expect_new = [&](const std::string& key, const char* what) {
    keys.insert(key);
    EXPECT_EQ(keys.size(), ++count) << what;
  };
  auto changed = [&](const std::function<void(KernelRequest&)>& change) {
    KernelRequest r = base;
    change(r);
    return key_of(r);
  };
  expect_new(changed([](auto& r) { r.family += "x"; }), "family");
  expect_new(changed([](auto& r) { r.entry += "x"; }), "entry");
  expect_new(changed([](auto& r) { r.arch = "sm_90a"; }), "arch");
  expect_new(changed([](auto& r) { r.block_threads += 32; }), "block_threads");
  expect_new(changed([](auto& r) { r.shared_bytes += 1; }), "shared_bytes");
  for (size_t i = 0; i < base.canonical.size(); ++i) {
    expect_new(changed([&](auto& r) { r.canonical[i] ^= std::byte{1}; }), "canonical byte");
  }
  expect_new(changed([](auto& r) { r.canonical.push_back(std::byte{0}); }), "canonical length");
  expect_new(key_of(base, "Source"), "source");
  expect_new(key_of(base, "source\n"), "source length");
  expect_new(key_of(base, "source", "compiler 2"), "compiler");
  // Bytes do not slide from one field into its neighbour.
  expect_new(changed([](auto& r) { r.family = "tin", r.entry = "ytiny"; }), "boundary");
}

TEST(CompileKey, WordsForPeopleDoNotChangeIt) {
  KernelRequest other = testing::tiny_request("sm_80");
  other.description = "other words";
  EXPECT_EQ(key_of(other), key_of(testing::tiny_request("sm_80")));
}

TEST(CompileKey, PrintsAsTextThatCanBeCompared) {
  std::string text = key_text(key_of(testing::tiny_request("sm_80")));
  EXPECT_THAT(text, HasSubstr("family: tiny\n"));
  EXPECT_THAT(text, HasSubstr("arch: sm_80\n"));
  EXPECT_THAT(text, HasSubstr("compiler: compiler 1\n"));
}

TEST(CompileKey, PrintsAnyBytes) {
  const std::string key = key_of(testing::tiny_request("sm_80"));
  for (size_t length = 0; length < key.size(); ++length) {
    std::string text = key_text(key.substr(0, length));
    EXPECT_TRUE(text == "not a key of a kernel\n" || key_text(key).starts_with(text)) << length;
  }
  EXPECT_EQ(key_text(std::string(64, '\xff')), "not a key of a kernel\n");
}

TEST(NearestKey, NamesWhatDiffers) {
  testing::TempDir root;
  auto compiler = std::make_shared<FakeCompiler>();
  const EngineOptions options = testing::tiny_engine(compiler, root / "cache");
  Engine engine(options);
  const std::string key = *engine.key(testing::tiny_request("sm_80"));
  EXPECT_FALSE(nearest_key(engine.cache(), key)) << "an empty cache";
  EXPECT_THAT(why_missed(engine.cache(), key), HasSubstr("no kernel of this family"));
  EXPECT_THAT(why_missed(DiskCache({"", CacheMode::off}), key), HasSubstr("no cache"));
  for (auto [arch, number] : {std::pair{"sm_80", 8}, {"sm_90a", 7}})
    ASSERT_TRUE(engine.build(testing::tiny_request(arch, number)).ok());
  auto names = [&](const std::string& asked) {
    std::vector<std::string> out;
    const NearestKey nearest = nearest_key(engine.cache(), asked).value();
    for (const KeyDifference& difference : nearest.differences) out.push_back(difference.field);
    return out;
  };
  EXPECT_THAT(names(key), ::testing::ElementsAre("canonical", "source_xxh3")) << "another number, not another arch";
  ASSERT_TRUE(engine.build(testing::tiny_request("sm_80")).ok());
  EXPECT_THAT(names(key), ::testing::IsEmpty());
  compiler->set_version("2");
  const std::string other = *engine.key(testing::tiny_request("sm_80"));
  ASSERT_THAT(names(other), ::testing::ElementsAre("compiler"));
  const KeyDifference difference = nearest_key(engine.cache(), other)->differences[0];
  EXPECT_EQ(difference.asked, "fake 2 for sm_80");
  EXPECT_EQ(difference.stored, "fake 1 for sm_80");
  EXPECT_THAT(why_missed(engine.cache(), other), HasSubstr("differs in compiler"));
  EXPECT_FALSE(nearest_key(engine.cache(), "no key"));
}

TEST(NearestKey, NamesTheFieldsOfTheSpec) {
  testing::TempDir root;
  Engine engine(testing::tiny_engine(std::make_shared<FakeCompiler>(), root / "cache"));
  MergeSpec spec;
  KernelRequest request = testing::tiny_request("sm_80");
  request.canonical = canonical_bytes(spec);
  ASSERT_TRUE(engine.build(request).ok());
  spec.head_dim = 64;
  request.canonical = canonical_bytes(spec);
  const std::string asked = *engine.key(request);
  const NearestKey nearest = nearest_key(engine.cache(), asked).value();
  ASSERT_EQ(nearest.spec_differences.size(), 1u);
  EXPECT_EQ(nearest.spec_differences[0].field, "head_dim");
  EXPECT_EQ(nearest.spec_differences[0].asked, "64");
  EXPECT_EQ(nearest.spec_differences[0].stored, "128");
  EXPECT_THAT(why_missed(engine.cache(), asked), ::testing::EndsWith("differs in canonical (head_dim)"));
  request.canonical.push_back(std::byte{7});  // no field
  EXPECT_THAT(why_missed(engine.cache(), *engine.key(request)), ::testing::EndsWith("differs in canonical"));
}

TEST(CompileKey, TakesUnderFiveMicrosecondsWithoutTheSource) {
  const KernelRequest request = testing::tiny_request("sm_80");
  const std::string source(1000, 'x');
  auto start = std::chrono::steady_clock::now();
  constexpr int kRounds = 2000;
  for (int i = 0; i < kRounds; ++i) ASSERT_FALSE(key_of(request, source).empty());
  double us = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count() / kRounds;
  std::printf("key of a 1 kB source: %.2f us\n", us);
#ifdef NDEBUG
  EXPECT_LT(us, 5.0);
#endif
}

// The same templates in two folders, written at two times, give one key; another text gives another.
TEST(CompileKey, NeitherPathNorTimeMatters) {
  testing::TempDir dir;
  auto engine_on = [&](const std::string& name, const std::string& extra, int years_ago) {
    const TemplateStore store = testing::tiny_store();
    for (const auto& [path, text] : store.files()) {
      auto file = dir / name / path;
      std::filesystem::create_directories(file.parent_path());
      std::ofstream(file) << text << extra;
      std::filesystem::last_write_time(file, std::filesystem::file_time_type::clock::now() - std::chrono::hours(8760 * years_ago));
    }
    EngineOptions options = testing::tiny_engine(std::make_shared<FakeCompiler>());
    options.templates = std::make_shared<TemplateStore>(*TemplateStore::from_directory(dir / name));
    return std::make_unique<Engine>(options);
  };
  const KernelRequest request = testing::tiny_request("sm_80");
  auto first = engine_on("one", "", 0)->key(request);
  auto second = engine_on("a b;touch x", "", 9)->key(request);
  auto third = engine_on("three", "// more\n", 0)->key(request);
  ASSERT_TRUE(first.ok() && second.ok() && third.ok());
  EXPECT_EQ(*first, *second);
  EXPECT_NE(*first, *third);
  EXPECT_THAT(*first, Not(HasSubstr(dir.path().string())));
}

TEST(CompileKey, HoldsNoPathOfTheRealCompilers) {
  Engine engine(testing::tiny_engine(nullptr));
  auto host = engine.key(testing::tiny_request("host"));
  ASSERT_TRUE(host.ok()) << host.status().to_string();
  EXPECT_THAT(*host, Not(HasSubstr("/")));
  EXPECT_THAT(*host, HasSubstr("-ffp-contract=off"));
  if (!testing::have_nvrtc()) GTEST_SKIP() << "no NVRTC";
  auto gpu = engine.key(testing::tiny_request("sm_90a"));
  ASSERT_TRUE(gpu.ok()) << gpu.status().to_string();
  EXPECT_THAT(*gpu, Not(HasSubstr("/")));
  EXPECT_THAT(*gpu, HasSubstr("--fmad=false"));
  EXPECT_THAT(*gpu, HasSubstr("--gpu-architecture=sm_90a"));
}

}  // namespace
}  // namespace lathe
