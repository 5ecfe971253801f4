#include "lathe/base/log.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace lathe {
namespace {

// Collects what is logged while it lives.
class Capture {
 public:
  Capture() {
    set_log_callback([this](LogLevel level, std::string_view message) {
      std::lock_guard lock(mutex_);
      lines_.emplace_back(level, message);
    });
  }
  ~Capture() { set_log_callback({}); }
  const std::vector<std::pair<LogLevel, std::string>>& lines() const { return lines_; }

 private:
  std::mutex mutex_;
  std::vector<std::pair<LogLevel, std::string>> lines_;
};

TEST(Log, CallbackGetsErrorsAndWarnings) {
  Capture capture;
  log(LogLevel::error, "e");
  log(LogLevel::warning, "w {} %s");
  ASSERT_EQ(capture.lines().size(), 2u);
  EXPECT_EQ(capture.lines()[0], std::pair(LogLevel::error, std::string("e")));
  EXPECT_EQ(capture.lines()[1], std::pair(LogLevel::warning, std::string("w {} %s")));
}

TEST(Log, WarnsOncePerTopic) {
  Capture capture;
  for (int i = 0; i < 3; ++i) warn_once("log_test.topic", "first");
  warn_once("log_test.other", "second");
  ASSERT_EQ(capture.lines().size(), 2u);
  EXPECT_EQ(capture.lines()[1].second, "second");
}

TEST(Log, WarnsOnceFromManyThreads) {
  Capture capture;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) threads.emplace_back([] { warn_once("log_test.threads", "once"); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(capture.lines().size(), 1u);
}

TEST(Log, StandardErrorIsTheDefault) {
  ::testing::internal::CaptureStderr();
  log(LogLevel::warning, "to the terminal");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "[lathe warning] to the terminal\n");
}

TEST(Log, TellsOfDecisionsAndNoMoreUnlessTheDialIsTurned) {
  if (std::getenv("LATHE_DEBUG") != nullptr) GTEST_SKIP() << "LATHE_DEBUG is set";
  EXPECT_TRUE(log_enabled(LogLevel::error));
  EXPECT_TRUE(log_enabled(LogLevel::warning));
  EXPECT_TRUE(log_enabled(LogLevel::info));
  EXPECT_FALSE(log_enabled(LogLevel::detail));
  Capture capture;
  log(LogLevel::detail, "not seen");
  EXPECT_TRUE(capture.lines().empty());
}

}  // namespace
}  // namespace lathe
