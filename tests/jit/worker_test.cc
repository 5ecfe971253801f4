// The pool of compile workers under every kind of trouble, with the real worker program and a library that does as it is told.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "lathe/jit/worker/pool.h"
#include "support.h"

namespace lathe {
namespace {

using ::testing::HasSubstr;

WorkerOptions with_fake(int most = 2, int timeout_ms = 60'000) {
  return {LATHE_TEST_WORKER, {LATHE_TEST_FAKE_NVRTC, "", ""}, most, timeout_ms, 0};
}

Result<CompileOutput> compile(WorkerPool& pool, const std::string& source) {
  return pool.compile({source, "kernel", "sm_80"});
}

std::string text_of(const Bytes& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Whether a process is gone, or dead and waiting to be reaped by somebody else.
bool gone(int pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  if (!std::getline(stat, text)) return true;
  return text[text.rfind(')') + 2] == 'Z';
}

bool wait_until(const std::function<bool()>& done, int seconds = 10) {
  for (int i = 0; i < seconds * 100; ++i) {
    if (done()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return done();
}

TEST(WorkerPool, CompilesAndKeepsTheWorker) {
  WorkerPool pool(with_fake());
  for (int i = 0; i < 5; ++i) {
    auto out = compile(pool, "source " + std::to_string(i));
    ASSERT_TRUE(out.ok()) << out.status().to_string();
    EXPECT_EQ(text_of(out->binary).find("cubin of source " + std::to_string(i) + " --gpu-architecture=sm_80 --std=c++17"), 0u);
    EXPECT_EQ(out->ptx_bytes, 3);
  }
  EXPECT_EQ(testing::children_of(getpid()).size(), 1u);
  EXPECT_THAT(*pool.archs(), ::testing::ElementsAre("sm_80", "sm_90", "sm_90a", "sm_100", "sm_100a", "sm_100f"));
  EXPECT_EQ(*pool.version(), "13.0");
}

TEST(WorkerPool, FactsComeBack) {
  WorkerPool pool(with_fake());
  auto out = compile(pool, "PTXAS");
  ASSERT_TRUE(out.ok());
  EXPECT_EQ(out->registers, 99);
  EXPECT_EQ(out->spill_bytes, 40);
}

TEST(WorkerPool, ACrashIsAFailedCompileAndTheNextOneWorks) {
  WorkerPool pool(with_fake());
  const std::pair<const char*, const char*> cases[] = {
      {"CRASH", "died with signal 11"}, {"ABORT", "died with signal 6"}, {"LEAVE", "exited with 3"}};
  for (auto [source, says] : cases) {
    auto out = compile(pool, source);
    EXPECT_EQ(out.status().code(), Code::compile_failed);
    EXPECT_THAT(out.status().message(), HasSubstr(says));
    EXPECT_THAT(out.status().message(), HasSubstr("kernel for sm_80"));
    EXPECT_TRUE(compile(pool, "fine").ok());
  }
}

TEST(WorkerPool, AHangIsEndedAtTheLimit) {
  WorkerPool pool(with_fake(1, 1500));
  ASSERT_TRUE(compile(pool, "fine").ok());
  auto start = Clock::now();
  auto out = compile(pool, "HANG");
  EXPECT_EQ(out.status().code(), Code::resource_exhausted);
  EXPECT_THAT(out.status().message(), HasSubstr("did not finish within 1500 ms"));
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(10));
  EXPECT_TRUE(testing::children_of(getpid()).empty());
  EXPECT_TRUE(compile(pool, "fine").ok());
}

// A limit counts from the moment that a compile has a worker: what waits behind a hang has its own time.
TEST(WorkerPool, AHangDoesNotEndWhatWaitsBehindIt) {
  WorkerPool pool(with_fake(1, 1500));
  std::atomic<bool> hangs{false};
  std::thread other([&] {
    hangs = true;
    EXPECT_EQ(compile(pool, "HANG").status().code(), Code::resource_exhausted);
  });
  ASSERT_TRUE(wait_until([&] { return hangs.load() && !testing::children_of(getpid()).empty(); }));
  std::vector<std::thread> waiting;
  for (int i = 0; i < 3; ++i) {
    waiting.emplace_back([&] {
      auto out = compile(pool, "SLOW");  // longer than what would be left of the limit
      EXPECT_TRUE(out.ok()) << out.status().to_string();
    });
  }
  for (std::thread& thread : waiting) thread.join();
  other.join();
}

TEST(WorkerPool, AKilledCompileIsNoVerdictOnItsSource) {
  WorkerPool pool(with_fake(1));
  std::thread killer([] {
    ASSERT_TRUE(wait_until([] { return !testing::children_of(getpid()).empty(); }));
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    for (int child : testing::children_of(getpid())) kill(child, SIGKILL);
  });
  auto out = compile(pool, "HANG");
  killer.join();
  EXPECT_EQ(out.status().code(), Code::resource_exhausted) << out.status().to_string();
  EXPECT_THAT(out.status().message(), HasSubstr("was killed on kernel for sm_80"));
}

TEST(WorkerPool, MemoryLimitIsAFailedCompile) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers reserve more addresses than any limit";
#endif
  WorkerOptions options = with_fake();
  options.memory_bytes = int64_t{1} << 30;
  WorkerPool pool(options);
  auto out = compile(pool, "EAT");
  EXPECT_EQ(out.status().code(), Code::resource_exhausted);
  EXPECT_THAT(out.status().message(), HasSubstr("FAKE_OUT_OF_MEMORY"));
  EXPECT_TRUE(compile(pool, "fine").ok());
}

TEST(WorkerPool, AChattyLibraryDoesNotDisturbTheTalk) {
  WorkerPool pool(with_fake());
  auto out = compile(pool, "CHATTER");
  ASSERT_TRUE(out.ok()) << out.status().to_string();
  EXPECT_EQ(out->log, "standard input is empty");
  EXPECT_TRUE(compile(pool, "fine").ok());
}

TEST(WorkerPool, EveryErrorOfTheLibraryIsReported) {
  WorkerPool pool(with_fake());
  for (auto [source, says] : {std::pair("FAIL_CREATE", "'FAKE_ERROR' (2) while it took in"),
                              {"FAIL_COMPILE", "templates/x.cu(3): error: fake"},
                              {"FAIL_INTERNAL", "'FAKE_ERROR' (11) while it compiled"},
                              {"FAIL_CUBIN", "(4) while it handed back"}}) {
    auto out = compile(pool, source);
    EXPECT_EQ(out.status().code(), Code::compile_failed) << source;
    EXPECT_THAT(out.status().message(), HasSubstr(says));
  }
  EXPECT_TRUE(testing::children_of(getpid()).empty());  // a library that failed is not asked again
  ASSERT_TRUE(compile(pool, "fine").ok());
  EXPECT_EQ(pool.compile({"x", "kernel", "sm_75"}).status().code(), Code::unsupported);
  EXPECT_EQ(testing::children_of(getpid()).size(), 1u);  // refused before the library was asked
}

TEST(WorkerPool, UnknownArchIsUnsupported) {
  WorkerPool pool(with_fake());
  auto out = pool.compile({"x", "kernel", "sm_75"});
  EXPECT_EQ(out.status().code(), Code::unsupported);
  EXPECT_THAT(out.status().message(), HasSubstr("sm_80, sm_90, sm_90a"));
}

TEST(WorkerPool, LongLogsAndSourcesPass) {
  WorkerPool pool(with_fake());
  auto out = compile(pool, "LONG_LOG" + std::string(4 << 20, 's'));
  ASSERT_TRUE(out.ok());
  EXPECT_EQ(out->log.size(), size_t{1} << 20);
  EXPECT_GT(out->binary.size(), size_t{4} << 20);
}

TEST(WorkerPool, ManyThreadsShareFewWorkers) {
  WorkerPool pool(with_fake(3));
  std::atomic<int> right{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 16; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i) {
        std::string source = "source " + std::to_string(t) + "." + std::to_string(i) + (i == 10 && t % 5 == 0 ? " CRASH" : " ");
        auto out = compile(pool, source);
        right += out.ok() ? text_of(out->binary).starts_with("cubin of " + source) : i == 10 && t % 5 == 0;
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(right, 16 * 20);
  EXPECT_LE(testing::children_of(getpid()).size(), 3u);
}

// Eight threads, and room for one worker, then for all.
TEST(WorkerPool, StartsNoMoreThanThereIsRoomFor) {
  WorkerOptions options = with_fake(4);
  std::atomic<int64_t> free{1000};
  options.room_bytes = 1001;
  options.free_bytes = [&] { return std::optional<int64_t>(free.load()); };
  WorkerPool pool(options);
  auto compile_all = [&] {
    std::vector<std::thread> threads;
    std::atomic<int> right{0};
    for (int t = 0; t < 8; ++t) threads.emplace_back([&] { right += compile(pool, "SLOW").ok(); });
    for (std::thread& t : threads) t.join();
    EXPECT_EQ(right, 8);
    return testing::children_of(getpid()).size();
  };
  EXPECT_EQ(compile_all(), 1u);
  free = 1001;
  EXPECT_EQ(compile_all(), 4u);
}

TEST(WorkerPool, TheStartIsCountedOnceAndApart) {
  WorkerPool pool(with_fake());
  auto first = compile(pool, "fine"), second = compile(pool, "fine");
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_GT(first->start_milliseconds, 0);
  EXPECT_EQ(second->start_milliseconds, 0);
}

TEST(WorkerPool, LeaksNoDescriptorAndNoProcess) {
  { WorkerPool warm(with_fake()); }
  size_t before = testing::open_descriptors();
  for (int i = 0; i < 3; ++i) {
    WorkerPool pool(with_fake());
    EXPECT_TRUE(compile(pool, "fine").ok());
    EXPECT_FALSE(compile(pool, "CRASH").ok());
    EXPECT_TRUE(compile(pool, "fine").ok());
  }
  EXPECT_EQ(testing::open_descriptors(), before);
  EXPECT_TRUE(testing::children_of(getpid()).empty());
}

TEST(WorkerPool, TheWorkerInheritsNothing) {
  int leaked = dup(0);  // without close-on-exec
  WorkerPool pool(with_fake());
  ASSERT_TRUE(compile(pool, "fine").ok());
  std::vector<int> children = testing::children_of(getpid());
  ASSERT_EQ(children.size(), 1u);
  std::string proc = "/proc/" + std::to_string(children[0]);
  auto fds = std::filesystem::directory_iterator(proc + "/fd");
  EXPECT_EQ(std::distance(begin(fds), end(fds)), 5);  // the three, the socket, /dev/null
  std::ifstream environ(proc + "/environ");
  std::string variables{std::istreambuf_iterator<char>(environ), {}};
  EXPECT_THAT(variables, HasSubstr("LC_ALL=C"));
  EXPECT_THAT(variables, ::testing::Not(HasSubstr("LATHE_")));
  close(leaked);
}

TEST(WorkerPool, AWorkerKilledWhileIdleIsReplaced) {
  WorkerPool pool(with_fake());
  ASSERT_TRUE(compile(pool, "fine").ok());
  int pid = testing::children_of(getpid()).at(0);
  kill(pid, SIGKILL);
  ASSERT_TRUE(wait_until([&] { return gone(pid); }));
  EXPECT_TRUE(compile(pool, "fine").ok());
}

// The threads that start workers come and go; a worker outlives them.
TEST(WorkerPool, AWorkerOutlivesTheThreadThatStartedIt) {
  WorkerPool pool(with_fake());
  std::thread([&] { EXPECT_TRUE(compile(pool, "fine").ok()); }).join();
  int pid = testing::children_of(getpid()).at(0);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_TRUE(compile(pool, "fine").ok());
  EXPECT_EQ(testing::children_of(getpid()).at(0), pid);
}

// Kills a program in the middle of a compile that would never end, while a forked child of it lives on: its worker goes too.
TEST(WorkerPool, AWorkerDiesWithItsOwner) {
  int report[2];
  ASSERT_EQ(pipe(report), 0);
  pid_t owner = fork();
  if (owner == 0) {
    WorkerPool pool(with_fake(1, 3'600'000));
    (void)compile(pool, "fine");
    int pids[2] = {testing::children_of(getpid()).at(0), fork()};
    if (pids[1] == 0) {
      sleep(30);
      _exit(0);
    }
    if (write(report[1], pids, sizeof pids) != sizeof pids) _exit(1);
    (void)compile(pool, "HANG");
    _exit(1);
  }
  int pids[2] = {};
  ASSERT_EQ(read(report[0], pids, sizeof pids), ssize_t{sizeof pids});
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_FALSE(gone(pids[0]));
  kill(owner, SIGKILL);
  waitpid(owner, nullptr, 0);
  EXPECT_TRUE(wait_until([&] { return gone(pids[0]); }));
  kill(pids[1], SIGKILL);
  close(report[0]);
  close(report[1]);
}

TEST(WorkerPool, LibraryThatIsNoneIsUnavailable) {
  for (const char* library : {"/nonexistent/libnvrtc.so.13", "/proc/self/exe", "/etc/passwd"}) {
    WorkerOptions options = with_fake();
    options.nvrtc.library = library;
    WorkerPool pool(options);
    auto out = compile(pool, "fine");
    EXPECT_EQ(out.status().code(), Code::unavailable) << library;
    EXPECT_THAT(out.status().to_string(), HasSubstr(library));
    EXPECT_TRUE(testing::children_of(getpid()).empty());
  }
}

TEST(WorkerPool, WorkerThatIsNoneIsUnavailable) {
  for (const char* program : {"/nonexistent/worker", "/etc/passwd", "/bin/true"}) {
    WorkerOptions options = with_fake();
    options.program = program;
    WorkerPool pool(options);
    auto out = compile(pool, "fine");
    EXPECT_EQ(out.status().code(), Code::unavailable) << program;
    EXPECT_THAT(out.status().to_string(), HasSubstr(program));
  }
}

TEST(WorkerPool, ATalkThatBreaksIsSurvived) {
  const std::pair<const char*, Code> cases[] = {
      {"/silent", Code::unavailable},         {"/leaves", Code::unavailable},      {"/garbage", Code::unavailable},
      {"/huge", Code::unavailable},           {"/old", Code::unavailable},         {"/nonsense-answer", Code::compile_failed},
      {"/half-answer", Code::compile_failed}, {"/hangs-up", Code::compile_failed},
  };
  for (auto [mode, code] : cases) {
    WorkerOptions options = with_fake(1, 3000);
    options.program = LATHE_TEST_STUB_WORKER;
    options.nvrtc.library = mode;
    WorkerPool pool(options);
    auto out = compile(pool, "fine");
    EXPECT_EQ(out.status().code(), code) << mode << ": " << out.status().to_string();
    EXPECT_TRUE(testing::children_of(getpid()).empty()) << mode;
  }
}

TEST(WorkerPool, SigpipeIsNotRaised) {
  WorkerOptions options = with_fake(1, 3000);
  options.program = LATHE_TEST_STUB_WORKER;
  options.nvrtc.library = "/dies-idle";
  WorkerPool pool(options);
  EXPECT_FALSE(compile(pool, std::string(8 << 20, 'x')).ok());  // would have ended this process
}

}  // namespace
}  // namespace lathe
