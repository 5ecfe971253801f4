#include "lathe/jit/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

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

std::string text_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(Engine, CompilesOnceThenAnswersFromMemory) {
  auto compiler = std::make_shared<FakeCompiler>();
  Engine engine(tiny_engine(compiler));
  Origin origin{};
  auto first = engine.build(tiny_request("sm_80"), &origin);
  ASSERT_TRUE(first.ok()) << first.status().to_string();
  EXPECT_EQ(origin, Origin::compiled);
  auto second = engine.build(tiny_request("sm_80"), &origin);
  EXPECT_EQ(origin, Origin::memory);
  EXPECT_EQ(*first, *second);
  EXPECT_EQ(compiler->compiles(), 1u);
  EngineStats stats = engine.stats();
  EXPECT_EQ(stats.memory_hits, 1u);
  EXPECT_EQ(stats.misses, 1u);
  EXPECT_EQ(stats.compiles, 1u);
  EXPECT_EQ(stats.disk_hits, 0u);
  EXPECT_EQ(stats.failures, 0u);
}

TEST(Engine, ArtifactHoldsTheFacts) {
  auto compiler = std::make_shared<FakeCompiler>();
  Engine engine(tiny_engine(compiler));
  auto built = engine.build(tiny_request("sm_90a"));
  ASSERT_TRUE(built.ok());
  const Artifact& a = **built;
  EXPECT_EQ(a.family, "tiny");
  EXPECT_EQ(a.entry, "tiny");
  EXPECT_EQ(a.arch, "sm_90a");
  EXPECT_EQ(a.description, "tiny kernel 7");
  EXPECT_EQ(a.block_threads, 32u);
  EXPECT_EQ(a.shared_bytes, 1024u);
  EXPECT_EQ(a.registers, 32);
  EXPECT_EQ(a.compiler, "fake 1 for sm_90a");
  EXPECT_EQ(a.key, *engine.key(tiny_request("sm_90a")));
  EXPECT_EQ(a.key_hex.size(), 32u);
  EXPECT_EQ(a.binary, FakeCompiler::binary_of({*engine.source(tiny_request("sm_90a")), "tiny", "sm_90a"}));
}

TEST(Engine, DifferentRequestsAreKeptApart) {
  auto compiler = std::make_shared<FakeCompiler>();
  Engine engine(tiny_engine(compiler));
  auto a = engine.build(tiny_request("sm_80", 1)), b = engine.build(tiny_request("sm_80", 2)),
       c = engine.build(tiny_request("host", 1));
  ASSERT_TRUE(a.ok() && b.ok() && c.ok());
  EXPECT_NE((*a)->binary, (*b)->binary);
  EXPECT_NE((*a)->key, (*b)->key);
  EXPECT_NE((*a)->key, (*c)->key);
  EXPECT_EQ(compiler->compiles(), 3u);
}

TEST(Engine, SingleFlight) {
  auto compiler = std::make_shared<FakeCompiler>();
  compiler->set_delay(std::chrono::milliseconds(200));
  Engine engine(tiny_engine(compiler));
  constexpr int kThreads = 64;
  std::vector<std::thread> threads;
  std::vector<ArtifactPtr> got(kThreads);
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      auto built = engine.build(tiny_request("sm_80"));
      if (built.ok()) got[static_cast<size_t>(i)] = *built;
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(compiler->compiles(), 1u);
  ASSERT_NE(got[0], nullptr);
  for (const ArtifactPtr& a : got) EXPECT_EQ(a, got[0]);
  EngineStats stats = engine.stats();
  EXPECT_EQ(stats.misses, 1u);
  EXPECT_EQ(stats.memory_hits, uint64_t{kThreads - 1});
}

TEST(Engine, FailureIsSharedByAllWhoWait) {
  auto compiler = std::make_shared<FakeCompiler>();
  compiler->set_delay(std::chrono::milliseconds(100));
  compiler->fail_with({Code::compile_failed, "no such luck"});
  Engine engine(tiny_engine(compiler));
  std::vector<std::thread> threads;
  std::atomic<int> failed{0};
  for (int i = 0; i < 16; ++i) {
    threads.emplace_back([&] { failed += engine.build(tiny_request("sm_80")).status().code() == Code::compile_failed; });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(failed, 16);
  EXPECT_EQ(compiler->compiles(), 1u);
}

TEST(Engine, FailedCompileIsRememberedInMemoryOnly) {
  TempDir root;
  auto compiler = std::make_shared<FakeCompiler>();
  compiler->fail_with({Code::compile_failed, "error: expected ';'"});
  Engine engine(tiny_engine(compiler, root / "cache"));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(engine.build(tiny_request("sm_80")).status().code(), Code::compile_failed);
  EXPECT_EQ(compiler->compiles(), 1u);
  EXPECT_EQ(engine.stats().failures, 1u);
  EXPECT_TRUE(engine.cache().list().empty());

  compiler->fail_with({});
  Engine later(tiny_engine(compiler, root / "cache"));
  EXPECT_TRUE(later.build(tiny_request("sm_80")).ok());
}

TEST(Engine, LimitsAreNoVerdict) {
  auto compiler = std::make_shared<FakeCompiler>();
  compiler->fail_with({Code::resource_exhausted, "did not finish"});
  Engine engine(tiny_engine(compiler));
  EXPECT_EQ(engine.build(tiny_request("sm_80")).status().code(), Code::resource_exhausted);
  compiler->fail_with({});
  EXPECT_TRUE(engine.build(tiny_request("sm_80")).ok());
}

TEST(Engine, MissingToolIsAskedAgain) {
  auto compiler = std::make_shared<FakeCompiler>();
  compiler->set_missing(true);
  Engine engine(tiny_engine(compiler));
  EXPECT_EQ(engine.build(tiny_request("sm_80")).status().code(), Code::unavailable);
  compiler->set_missing(false);
  EXPECT_TRUE(engine.build(tiny_request("sm_80")).ok());
}

TEST(Engine, FailureNamesTheKernelAndTheKeptSource) {
  TempDir root;
  auto compiler = std::make_shared<FakeCompiler>();
  compiler->fail_with({Code::compile_failed, "error: expected ';'"});
  Engine engine(tiny_engine(compiler, root / "cache"));
  Status status = engine.build(tiny_request("sm_80")).status();
  EXPECT_THAT(status.where(), HasSubstr("tiny sm_80 [tiny kernel 7]"));
  EXPECT_THAT(status.message(), HasSubstr("expected ';'"));
  const std::string folder = (root / "cache/lathe-failed/").string();
  size_t at = status.hint().find(folder);
  ASSERT_NE(at, std::string::npos) << status.hint();
  EXPECT_THAT(status.message(), HasSubstr("compiled with fake 1 for sm_80"));
  const std::string path = status.hint().substr(at);
  EXPECT_EQ(text_of(path + "/kernel.cu"), *engine.source(tiny_request("sm_80")));
  EXPECT_THAT(text_of(path + "/log"), HasSubstr("expected ';'"));
  EXPECT_THAT(text_of(path + "/key"), HasSubstr("family: tiny"));
  EXPECT_THAT(text_of(path + "/key"), HasSubstr("compiler: fake 1 for sm_80"));
  struct stat info {};
  ASSERT_EQ(stat((path + "/kernel.cu").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
}

TEST(Engine, KeepDirIsTheUsers) {
  TempDir root;
  testing::ScopedEnv env("LATHE_KEEP_DIR", (root / "kept here;").c_str());
  auto compiler = std::make_shared<FakeCompiler>();
  compiler->fail_with({Code::compile_failed, "x"});
  Engine engine(tiny_engine(compiler));
  EXPECT_THAT(engine.build(tiny_request("sm_80")).status().hint(), HasSubstr((root / "kept here;").string()));
}

TEST(Engine, SourceIsNeverKeptThroughALink) {
  TempDir root;
  std::ofstream(root / "canary") << "canary";
  testing::ScopedEnv env("LATHE_KEEP_DIR", root.path().c_str());
  auto compiler = std::make_shared<FakeCompiler>();
  compiler->fail_with({Code::compile_failed, "x"});
  Engine probe(tiny_engine(compiler));
  std::string hint = probe.build(tiny_request("sm_80")).status().hint();
  std::string path = hint.substr(hint.find(root.path().string()));
  // A file that is a link is replaced; a folder that is one is not used.
  const std::filesystem::path source = path + "/kernel.cu";
  std::filesystem::remove(source);
  std::filesystem::create_symlink(root / "canary", source);
  EXPECT_EQ(Engine(tiny_engine(compiler)).build(tiny_request("sm_80")).status().code(), Code::compile_failed);
  EXPECT_FALSE(std::filesystem::is_symlink(source));
  std::filesystem::remove_all(path);
  std::filesystem::create_directory(root / "elsewhere");
  std::filesystem::create_symlink(root / "elsewhere", path);
  const Status status = Engine(tiny_engine(compiler)).build(tiny_request("sm_80")).status();
  EXPECT_EQ(status.code(), Code::compile_failed);
  EXPECT_THAT(status.hint(), ::testing::Not(HasSubstr("kept in")));
  EXPECT_TRUE(std::filesystem::is_empty(root / "elsewhere"));
  EXPECT_EQ(text_of(root / "canary"), "canary");
}

TEST(Engine, SecondEngineReadsTheDisk) {
  TempDir root;
  auto compiler = std::make_shared<FakeCompiler>();
  ArtifactPtr first;
  {
    Engine engine(tiny_engine(compiler, root / "cache"));
    first = *engine.build(tiny_request("sm_80"));
  }
  Engine engine(tiny_engine(compiler, root / "cache"));
  Origin origin{};
  auto second = engine.build(tiny_request("sm_80"), &origin);
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(origin, Origin::disk);
  EXPECT_EQ(compiler->compiles(), 1u);
  EXPECT_EQ((*second)->binary, first->binary);
  EXPECT_EQ((*second)->key, first->key);
  EXPECT_EQ((*second)->key_hex, first->key_hex);
  EXPECT_EQ((*second)->registers, first->registers);
  EXPECT_EQ((*second)->compiler, first->compiler);
  EXPECT_EQ(engine.stats().disk_hits, 1u);
  EXPECT_EQ(engine.stats().cache.hits, 1u);
}

TEST(Engine, NewCompilerVersionIsAMiss) {
  TempDir root;
  auto compiler = std::make_shared<FakeCompiler>();
  ASSERT_TRUE(Engine(tiny_engine(compiler, root / "cache")).build(tiny_request("sm_80")).ok());
  compiler->set_version("2");
  ASSERT_TRUE(Engine(tiny_engine(compiler, root / "cache")).build(tiny_request("sm_80")).ok());
  EXPECT_EQ(compiler->compiles(), 2u);
}

TEST(Engine, DamagedEntryIsCompiledAgainAndReplaced) {
  TempDir root;
  auto compiler = std::make_shared<FakeCompiler>();
  ASSERT_TRUE(Engine(tiny_engine(compiler, root / "cache")).build(tiny_request("sm_80")).ok());
  std::filesystem::path file = only_entry(root / "cache");
  std::string bytes = text_of(file);
  bytes[bytes.size() / 2] ^= 1;
  std::ofstream(file, std::ios::binary) << bytes;
  Origin origin{};
  auto again = Engine(tiny_engine(compiler, root / "cache")).build(tiny_request("sm_80"), &origin);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(origin, Origin::compiled);
  ASSERT_TRUE(Engine(tiny_engine(compiler, root / "cache")).build(tiny_request("sm_80"), &origin).ok());
  EXPECT_EQ(origin, Origin::disk);
  EXPECT_EQ(compiler->compiles(), 2u);
}

// A whole entry with the right key whose metadata is nonsense.
TEST(Engine, ForeignMetadataIsCompiledAgain) {
  for (const char* metadata : {"", "{}", "[]", "null", "nonsense", "{\"version\":1}", "[[[[[[[["}) {
    TempDir root;
    auto compiler = std::make_shared<FakeCompiler>();
    EngineOptions options = tiny_engine(compiler, root / "cache");
    Engine engine(options);
    DiskCache(options.cache).store({*engine.key(tiny_request("sm_80")), metadata, testing::bytes_of("bad")});
    Origin origin{};
    auto built = engine.build(tiny_request("sm_80"), &origin);
    ASSERT_TRUE(built.ok()) << metadata;
    EXPECT_EQ(origin, Origin::compiled) << metadata;
    EXPECT_NE((*built)->binary, testing::bytes_of("bad"));
  }
}

TEST(Engine, RefusesBadRequestsWithAllProblemsBeforeAnyCompile) {
  auto compiler = std::make_shared<FakeCompiler>();
  Engine engine(tiny_engine(compiler));
  KernelRequest r = tiny_request("sm_75");
  r.family = "no such/family";
  r.entry = "int";
  r.canonical.clear();
  r.block_threads = 33;
  Status status = engine.build(r).status();
  EXPECT_EQ(status.code(), Code::invalid_argument);
  for (const char* part : {"family", "entry", "canonical", "block_threads", "33", "arch", "sm_75"}) {
    EXPECT_THAT(status.message(), HasSubstr(part));
  }
  for (uint32_t threads : {0u, 31u, 1056u, 4096u}) {
    r = tiny_request("sm_80");
    r.block_threads = threads;
    EXPECT_EQ(engine.build(r).status().where(), "block_threads") << threads;
  }
  r = tiny_request("sm_89");
  r.shared_bytes = 99 * 1024 + 1;
  EXPECT_THAT(engine.build(r).status().message(), HasSubstr("101376"));
  r = tiny_request("sm_80");
  r.family = "unknown";
  EXPECT_THAT(engine.build(r).status().message(), HasSubstr("templates/kernels/unknown/kernel.cu"));
  EXPECT_EQ(compiler->compiles(), 0u);
}

// A child forked while another thread compiles is as another process to it: it neither touches that thread's mutexes nor compiles
// the same again, but waits for the entry.
TEST(Engine, WorksInAForkedChild) {
  TempDir root;
  auto compiler = std::make_shared<FakeCompiler>();
  compiler->set_delay(std::chrono::milliseconds(500));
  Engine engine(tiny_engine(compiler, root / "cache"));
  std::thread busy([&] { EXPECT_TRUE(engine.build(tiny_request("sm_80")).ok()); });
  while (compiler->compiles() == 0) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(100));  // into the delay, past the compiler's own lock
  pid_t child = fork();
  if (child == 0) {
    alarm(20);
    bool ok = engine.build(tiny_request("sm_80")).ok() && engine.build(tiny_request("sm_80", 8)).ok();
    _exit(ok && engine.stats().disk_hits == 1 && engine.stats().misses == 1 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  busy.join();
  EXPECT_EQ(engine.stats().misses, 1u);
}

TEST(Engine, TwoThatMissAtOnceCompileOnce) {
  TempDir root;
  auto compiler = std::make_shared<FakeCompiler>();
  compiler->set_delay(std::chrono::milliseconds(100));
  Engine one(tiny_engine(compiler, root / "cache")), two(tiny_engine(compiler, root / "cache"));
  std::thread other([&] { EXPECT_TRUE(one.build(tiny_request("sm_80")).ok()); });
  EXPECT_TRUE(two.build(tiny_request("sm_80")).ok());
  other.join();
  EXPECT_EQ(compiler->compiles(), 1u);
}

TEST(Engine, MemoryHitIsQuick) {
  Engine engine(tiny_engine(std::make_shared<FakeCompiler>()));
  const KernelRequest request = tiny_request("sm_80");
  ASSERT_TRUE(engine.build(request).ok());
  constexpr int kRounds = 20'000;
  auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < kRounds; ++i) ASSERT_TRUE(engine.build(request).ok());
  double us = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count() / kRounds;
  std::printf("memory hit: %.2f us\n", us);
  EXPECT_LT(us, 50);  // generous: it must not render, hash a source or touch the disk
}

}  // namespace
}  // namespace lathe
