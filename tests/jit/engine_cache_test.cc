// The engine and its cache: served whatever becomes of it, told of once, without a compiler, and after a device's refusal.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>

#include "lathe/base/log.h"
#include "lathe/jit/engine.h"
#include "lathe/jit_testing/fake_compiler.h"
#include "lathe/testing/temp_dir.h"
#include "support.h"

namespace lathe {
namespace {

using testing::FakeCompiler;
using ::testing::HasSubstr;
using testing::TempDir;
using testing::tiny_engine;
using testing::tiny_request;

std::filesystem::path only_entry(const std::filesystem::path& root) {
  std::filesystem::path found;
  int count = 0;
  for (const auto& file : std::filesystem::recursive_directory_iterator(root)) {
    if (file.path().extension() == ".lathe") found = file.path(), ++count;
  }
  EXPECT_EQ(count, 1);
  return found;
}

// Whatever lies where the cache should be, and whatever becomes of it, every request is served.
TEST(Engine, ServesWhateverTheCacheIs) {
  namespace fs = std::filesystem;
  const std::vector<std::pair<const char*, std::function<void(const fs::path&)>>> troubles{
      {"a file", [](const fs::path& root) { std::ofstream(root) << "x"; }},
      {"a dangling link", [](const fs::path& root) { fs::create_symlink("nowhere", root); }},
      {"writable by all",
       [](const fs::path& root) {
         fs::create_directory(root);
         fs::permissions(root, fs::perms::all);
       }},
      {"the layout's folder is a file",
       [](const fs::path& root) {
         fs::create_directory(root);
         fs::permissions(root, fs::perms::owner_all);
         std::ofstream(root / "v1") << "x";
       }},
  };
  for (const auto& [what, make] : troubles) {
    TempDir dir;
    make(dir / "cache");
    auto compiler = std::make_shared<FakeCompiler>();
    Engine engine(tiny_engine(compiler, dir / "cache"));
    for (int number = 0; number < 3; ++number) {
      auto built = engine.build(tiny_request("sm_80", number));
      ASSERT_TRUE(built.ok()) << what << ": " << built.status().to_string();
      EXPECT_EQ((*built)->binary, FakeCompiler::binary_of({*engine.source(tiny_request("sm_80", number)), "tiny", "sm_80"}));
    }
    EXPECT_EQ(compiler->compiles(), 3u);
  }
  TempDir dir;
  Engine engine(tiny_engine(std::make_shared<FakeCompiler>(), dir / "cache"));
  ASSERT_TRUE(engine.build(tiny_request("sm_80", 1)).ok());
  fs::remove_all(dir / "cache");
  EXPECT_TRUE(engine.build(tiny_request("sm_80", 2)).ok()) << "removed underneath";
}

// What a compile is told of: its beginning, with the nearest key, and its end, with where it is kept. A hit is quiet.
TEST(Engine, TellsOfEachCompileOnce) {
  if (std::getenv("LATHE_DEBUG") != nullptr) GTEST_SKIP() << "LATHE_DEBUG is set";
  TempDir dir;
  std::vector<std::string> told;
  set_log_callback([&](LogLevel, std::string_view message) { told.emplace_back(message); });
  for (int i = 0; i < 3; ++i) {
    Engine engine(tiny_engine(std::make_shared<FakeCompiler>(), dir / "cache"));
    EXPECT_TRUE(engine.build(tiny_request("sm_80")).ok());
    EXPECT_TRUE(engine.build(tiny_request("sm_80")).ok());
  }
  set_log_callback({});
  ASSERT_EQ(told.size(), 2u) << ::testing::PrintToString(told);
  EXPECT_THAT(told[0], ::testing::AllOf(HasSubstr("tiny sm_80 [tiny kernel 7]"), HasSubstr("compiling; no kernel of this family")));
  EXPECT_THAT(told[1], ::testing::AllOf(HasSubstr("compiled in "), HasSubstr("kept as " + only_entry(dir / "cache").string())));
}

TEST(EngineWithoutJit, UsesWhatAnyCompilerMade) {
  TempDir root;
  auto compiler = std::make_shared<FakeCompiler>();
  compiler->set_version("7");
  ASSERT_TRUE(Engine(tiny_engine(compiler, root / "cache")).build(tiny_request("sm_80")).ok());
  auto other = std::make_shared<FakeCompiler>();
  other->set_version("8");
  for (bool missing : {false, true}) {
    other->set_missing(missing);
    EngineOptions options = tiny_engine(other, root / "cache");
    options.jit = missing;  // without a compiler, and with one that may not be used
    Engine engine(options);
    Origin origin{};
    auto built = engine.build(tiny_request("sm_80"), &origin);
    ASSERT_TRUE(built.ok()) << built.status().to_string();
    EXPECT_EQ(origin, Origin::disk);
    EXPECT_THAT((*built)->compiler, HasSubstr("7"));
  }
  EXPECT_EQ(other->compiles(), 0u);
}

TEST(EngineWithoutJit, NamesTheKernelAndTheCommandThatMakesIt) {
  TempDir root;
  auto compiler = std::make_shared<FakeCompiler>();
  EngineOptions options = tiny_engine(compiler, root / "cache");
  options.jit = false;
  options.cache.bundles = {root / "no such bundle"};
  Engine engine(options);
  const Status status = engine.build(tiny_request("sm_80")).status();
  EXPECT_EQ(status.code(), Code::unavailable);
  EXPECT_THAT(status.where(), HasSubstr("tiny sm_80 [tiny kernel 7]"));
  for (const std::string& part : {std::string("LATHE_JIT=off"), (root / "cache").string(), (root / "no such bundle").string()}) {
    EXPECT_THAT(status.message(), HasSubstr(part));
  }
  EXPECT_THAT(status.hint(), HasSubstr("lathe warm --specs SPEC.json --arch sm_80 --out BUNDLE"));
  KernelRequest with_spec = testing::tiny_request("sm_80");
  with_spec.spec = R"({"op":"tiny","label":"it's"})";
  EXPECT_THAT(engine.build(with_spec).status().hint(),
              HasSubstr(R"(lathe warm --specs '{"op":"tiny","label":"it'\''s"}' --arch sm_80)"));
  EXPECT_EQ(compiler->compiles(), 0u);

  ASSERT_TRUE(Engine(tiny_engine(compiler, root / "cache")).build(tiny_request("sm_80")).ok());
  EXPECT_TRUE(engine.build(tiny_request("sm_80")).ok()) << "what is added is found without a restart";
  EXPECT_FALSE(engine.build(tiny_request("sm_80", 8)).ok());
}

TEST(EngineWithoutJit, TheKnobIsOnOrOff) {
  for (auto [text, jit] : {std::pair{"on", true}, std::pair{"off", false}, std::pair{"", true}, std::pair{"no", false}}) {
    testing::ScopedEnv env("LATHE_JIT", text);
    EXPECT_EQ(jit_of_environment(), jit) << text;
  }
}

// What a device refuses is built anew once, by whoever comes first.
TEST(Engine, RebuildsOnceAndTakesTheRefusedOut) {
  TempDir root;
  auto compiler = std::make_shared<FakeCompiler>();
  EngineOptions options = tiny_engine(compiler, root / "cache");
  // Sound as a file, with facts that fit, and not what the compiler makes.
  ASSERT_TRUE(Engine(options).build(tiny_request("sm_80")).ok());
  {
    DiskCache cache(options.cache);
    Entry entry = *cache.find(*Engine(options).key(tiny_request("sm_80")));
    entry.payload = testing::bytes_of("no driver takes this");
    ASSERT_TRUE(cache.store(entry));
  }
  Engine engine(options);
  Origin origin{};
  auto refused = engine.build(tiny_request("sm_80"), &origin);
  ASSERT_TRUE(refused.ok());
  ASSERT_EQ(origin, Origin::disk);
  auto anew = engine.rebuild(tiny_request("sm_80"), *refused, &origin);
  ASSERT_TRUE(anew.ok()) << anew.status().to_string();
  EXPECT_EQ(origin, Origin::compiled);
  EXPECT_NE((*anew)->binary, (*refused)->binary);
  EXPECT_EQ(engine.stats().cache.quarantined, 1u);
  EXPECT_EQ(*engine.build(tiny_request("sm_80")), *anew);
  EXPECT_EQ(*engine.rebuild(tiny_request("sm_80"), *refused), *anew) << "a second thread with the same trouble";
  EXPECT_EQ(compiler->compiles(), 2u);
  EXPECT_FALSE(engine.rebuild(tiny_request("sm_80"), *anew).ok()) << "once";
  EXPECT_EQ(compiler->compiles(), 2u);
  EXPECT_EQ((*Engine(options).build(tiny_request("sm_80")))->binary, (*anew)->binary) << "the next process has the new one";
}

}  // namespace
}  // namespace lathe
