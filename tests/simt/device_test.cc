// The executor as a device: loading, refusing, several launches at once, reports without tools.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <thread>

#include "support.h"

namespace lathe::testing {
namespace {

using ::testing::HasSubstr;

const Probe& probe() {
  static const Probe instance(R"(
LATHE_KERNEL(fill, Args, 64) {
  const u32 i = block_index() * 64 + thread_index();
  shared_store_u32(thread_index() * 4, i * params.n);
  block_barrier();
  global_store_u32(word(params.out, i), shared_load_u32((thread_index() ^ 32) * 4));
}
LATHE_KERNEL(faulty, Args, 32) { shared_load_u32(thread_index() * 4); }
)");
  return instance;
}

TEST(HostDevice, Info) {
  SimtOptions options = unchecked();
  options.num_sms = 5;
  auto device = host_device(options);
  EXPECT_EQ(device->info().arch, "host");
  EXPECT_EQ(device->info().num_sms, 5);
  EXPECT_EQ(device->info().max_shared_bytes, arch_traits("host")->max_shared_bytes);
}

TEST(HostDevice, LoadsAnArtifactOnce) {
  auto device = host_device(unchecked());
  {
    auto first = device->load(probe().artifact("fill")), second = device->load(probe().artifact("fill"));
    ASSERT_TRUE(first.ok() && second.ok());
    EXPECT_EQ(*first, *second);
    EXPECT_EQ(device->modules(), 1u);
    auto other = device->load(probe().artifact("faulty"));
    ASSERT_TRUE(other.ok());
    EXPECT_EQ(device->modules(), 2u);
  }
  EXPECT_EQ(device->modules(), 0u);
}

TEST(HostDevice, RefusesWhatItCannotLoad) {
  auto device = host_device(unchecked());
  auto changed = [&](auto change) {
    auto artifact = std::make_shared<Artifact>(*probe().artifact("fill"));
    change(*artifact);
    return device->load(artifact).status().to_string();
  };
  EXPECT_THAT(changed([](Artifact& a) { a.arch = "sm_80"; }), HasSubstr("built for sm_80"));
  EXPECT_THAT(changed([](Artifact& a) { a.entry = "absent"; }), HasSubstr("no kernel named 'absent'"));
  EXPECT_THAT(changed([](Artifact& a) { a.binary.resize(100); }), HasSubstr("launch_failed"));
  EXPECT_THAT(changed([](Artifact& a) { a.binary.clear(); }), HasSubstr("launch_failed"));
  EXPECT_EQ(device->modules(), 0u);
}

TEST(HostDevice, RefusesLaunchesItCannotRun) {
  auto device = host_device(unchecked());
  auto kernel = device->load(probe().artifact("fill"));
  ASSERT_TRUE(kernel.ok());
  auto changed = [&](auto change) {
    Launch launch;
    launch.block.x = 64;
    change(launch);
    Status status = device->launch(**kernel, launch, nullptr);
    EXPECT_EQ(status.code(), Code::invalid_argument);
    return status.to_string();
  };
  EXPECT_THAT(changed([](Launch& l) { l.grid.x = 0; }), HasSubstr("grid"));
  EXPECT_THAT(changed([](Launch& l) { l.grid.y = 2; }), HasSubstr("grid"));
  EXPECT_THAT(changed([](Launch& l) { l.cluster.x = 2; }), HasSubstr("cluster"));
  EXPECT_THAT(changed([](Launch& l) { l.block.x = 48; }), HasSubstr("multiple of 32"));
  EXPECT_THAT(changed([](Launch& l) { l.block.x = 2048; }), HasSubstr("block"));
  EXPECT_THAT(changed([](Launch& l) { l.shared_bytes = 1 << 20; }), HasSubstr("shared_bytes"));
  static const std::byte many[5000]{};
  EXPECT_THAT(changed([](Launch& l) { l.params = many; }), HasSubstr("at most 4096"));
}

TEST(HostDevice, ManyThreadsLaunchAtOnce) {
  for (const SimtOptions& options : {checked(), unchecked(2)}) {
    auto device = host_device(options);
    std::vector<std::thread> threads;
    for (uint32_t n = 1; n <= 4; ++n) {
      threads.emplace_back([n, &device] {
        for (int i = 0; i < 5; ++i) {
          Memory memory{.in = {}, .out = std::vector<uint32_t>(5 * 64), .work = {}};
          auto outcome = run(probe(), "fill", memory, {.grid = 5, .threads = 64, .shared = 256}, *device, n);
          ASSERT_TRUE(outcome.status.ok()) << outcome.status.to_string();
          for (uint32_t j = 0; j < 5 * 64; ++j) ASSERT_EQ(memory.out[j], (j ^ 32) * n);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
}

// One device, one kernel: after a fault, and with other shapes in between, it still works.
TEST(HostDevice, GoesOnAfterAFault) {
  auto device = host_device(checked());
  auto fill = device->load(probe().artifact("fill")), faulty = device->load(probe().artifact("faulty"));
  ASSERT_TRUE(fill.ok() && faulty.ok());
  std::vector<uint32_t> out(64 * 7);
  const Args args{nullptr, out.data(), nullptr, 3};
  std::byte params[sizeof(args)];
  std::memcpy(params, &args, sizeof(args));
  const BufferArg buffer{"out", out.data(), out.size() * 4, BufferArg::Use::output};
  for (int i = 0; i < 6; ++i) {
    Launch launch;
    launch.params = params;
    launch.buffers = {&buffer, 1};
    launch.shared_bytes = 256;
    launch.block.x = 32;
    EXPECT_THAT(device->launch(**faulty, launch, nullptr).message(), HasSubstr("uninitialised"));
    launch.block.x = 64;
    launch.grid.x = 7;
    Status status = device->launch(**fill, launch, nullptr);
    ASSERT_TRUE(status.ok()) << status.to_string();
    for (uint32_t j = 0; j < out.size(); ++j) ASSERT_EQ(out[j], (j ^ 32) * 3);
    ASSERT_EQ(device->counters().tensors[0].bytes_written, out.size() * 4);
  }
}

TEST(HostDevice, ReportsCodeOffsetsWithoutAddr2line) {
  const char* path = std::getenv("PATH");
  const std::string kept = path == nullptr ? "" : path;
  Memory memory;
  probe();  // compiled while there is a PATH
  setenv("PATH", "/nonexistent", 1);
  auto outcome = run(probe(), "faulty", memory, {.shared = 256}, checked());
  setenv("PATH", kept.c_str(), 1);
  EXPECT_THAT(outcome.status.message(), HasSubstr("reads it at code offset 0x"));
}

TEST(HostDevice, MemoryIsAlignedAndCopied) {
  auto device = host_device(checked());
  auto memory = device->allocate(100);
  ASSERT_TRUE(memory.ok());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(memory->get()) % 1024, 0u);
  const uint32_t in[2] = {1, 2};
  uint32_t out[2] = {};
  ASSERT_TRUE(device->copy_in(memory->get(), in, sizeof(in), nullptr).ok());
  ASSERT_TRUE(device->fill(memory->get(), 7, 4, nullptr).ok());
  ASSERT_TRUE(device->copy_out(out, memory->get(), sizeof(out), nullptr).ok());
  EXPECT_EQ(out[0], 0x07070707u);
  EXPECT_EQ(out[1], 2u);
  EXPECT_TRUE(device->allocate(0).ok());
  EXPECT_FALSE(device->allocate(SIZE_MAX - 10).ok());
}

TEST(SimtOptions, FromEnvironment) {
  setenv("LATHE_SIMT_SEED", "17", 1);
  setenv("LATHE_SIMT_CHECK", "1", 1);
  setenv("LATHE_SIMT_THREADS", "3", 1);
  const SimtOptions options = SimtOptions::from_environment();
  for (const char* name : {"LATHE_SIMT_SEED", "LATHE_SIMT_CHECK", "LATHE_SIMT_THREADS"}) unsetenv(name);
  EXPECT_EQ(options.seed, 17u);
  EXPECT_TRUE(options.check);
  EXPECT_EQ(options.threads, 3);
  EXPECT_FALSE(SimtOptions::from_environment().check);
}

}  // namespace
}  // namespace lathe::testing
