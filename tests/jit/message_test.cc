#include "lathe/jit/worker/message.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <random>
#include <thread>

#include "lathe/testing/seed.h"
#include "support.h"

namespace lathe {
namespace {

CompileOutput sample() {
  CompileOutput out;
  out.binary = testing::bytes_of(std::string("bin\0ary", 7));
  out.log = "log";
  out.milliseconds = 1.5;
  out.registers = 64;
  out.spill_bytes = 8;
  out.ptx_bytes = int64_t{1} << 40;
  return out;
}

TEST(WorkerMessage, RoundTrips) {
  auto hello = decode_hello(encode(WorkerHello{kWorkerProtocol, {Code::unavailable, "m", "w", "h"}, {"sm_80", "sm_90a"}}));
  ASSERT_TRUE(hello);
  EXPECT_EQ(hello->status.to_string(), "unavailable: w: m (h)");
  EXPECT_EQ(hello->archs, (std::vector<std::string>{"sm_80", "sm_90a"}));

  auto job = decode_job(encode(WorkerAsk::compile, {"source", "name", "sm_80"}));
  ASSERT_TRUE(job);
  EXPECT_EQ(job->first, WorkerAsk::compile);
  EXPECT_EQ(job->second.source, "source");
  EXPECT_EQ(job->second.name, "name");
  EXPECT_EQ(job->second.arch, "sm_80");

  auto outcome = decode_outcome(encode(Result<CompileOutput>(sample())));
  ASSERT_TRUE(outcome && outcome->ok());
  EXPECT_EQ((*outcome)->binary, sample().binary);
  EXPECT_EQ((*outcome)->log, "log");
  EXPECT_EQ((*outcome)->milliseconds, 1.5);
  EXPECT_EQ((*outcome)->registers, 64);
  EXPECT_EQ((*outcome)->spill_bytes, 8);
  EXPECT_EQ((*outcome)->ptx_bytes, int64_t{1} << 40);

  auto failure = decode_outcome(encode(Result<CompileOutput>(Status(Code::compile_failed, "why"))));
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->status().to_string(), "compile_failed: why");
}

TEST(WorkerMessage, PartsAreNoMessage) {
  const Bytes hello = encode(WorkerHello{kWorkerProtocol, {}, {"sm_80"}}), job = encode(WorkerAsk::compile, {"s", "n", "a"}),
              outcome = encode(Result<CompileOutput>(sample()));
  for (size_t n = 0; n < hello.size(); ++n) EXPECT_FALSE(decode_hello(BytesView(hello).first(n))) << n;
  for (size_t n = 0; n < job.size(); ++n) EXPECT_FALSE(decode_job(BytesView(job).first(n))) << n;
  for (size_t n = 0; n < outcome.size(); ++n) EXPECT_FALSE(decode_outcome(BytesView(outcome).first(n))) << n;
  for (Bytes longer : {hello, job, outcome}) {
    longer.push_back(std::byte{0});
    EXPECT_FALSE(decode_hello(longer));
    EXPECT_FALSE(decode_job(longer));
    EXPECT_FALSE(decode_outcome(longer));
  }
}

TEST(WorkerMessage, AnyBytesAreSurvived) {
  std::mt19937_64 random(testing::seed());
  const Bytes good = encode(Result<CompileOutput>(sample()));
  for (int round = 0; round < 50'000; ++round) {
    Bytes bytes = good;
    if (round % 2 == 0) bytes.resize(random() % 64);
    for (uint64_t i = 0; i < 4 && !bytes.empty(); ++i) bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    (void)decode_hello(bytes);
    (void)decode_job(bytes);
    (void)decode_outcome(bytes);
  }
}

TEST(WorkerFrame, LargeFramesGoThroughASmallSocket) {
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  OwnedFd a(pair[0]), b(pair[1]);
  const Bytes sent(10 << 20, std::byte{7});
  auto deadline = Clock::now() + std::chrono::seconds(30);
  std::thread sender([&] { EXPECT_EQ(send_frame(a.get(), sent, deadline), Transfer::done); });
  Bytes got;
  EXPECT_EQ(receive_frame(b.get(), got, deadline), Transfer::done);
  sender.join();
  EXPECT_EQ(got, sent);
}

TEST(WorkerFrame, EndsAreTold) {
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  OwnedFd a(pair[0]), b(pair[1]);
  Bytes got;
  EXPECT_EQ(receive_frame(b.get(), got, Clock::now() + std::chrono::milliseconds(20)), Transfer::timed_out);
  EXPECT_EQ(send_frame(a.get(), Bytes(16 << 20), Clock::now() + std::chrono::milliseconds(50)), Transfer::timed_out);
  a.reset();
  b.reset();
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  OwnedFd c(pair[0]), d(pair[1]);
  uint32_t size = kMaxFrameBytes + 1;
  ASSERT_EQ(send(c.get(), &size, sizeof size, 0), 4);
  EXPECT_EQ(receive_frame(d.get(), got, Clock::now() + std::chrono::seconds(5)), Transfer::refused);
  c.reset();
  EXPECT_EQ(receive_frame(d.get(), got, Clock::now() + std::chrono::seconds(5)), Transfer::closed);
  EXPECT_EQ(send_frame(d.get(), Bytes(8), Clock::now() + std::chrono::seconds(5)), Transfer::closed);
}

}  // namespace
}  // namespace lathe
