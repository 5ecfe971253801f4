// The public API on a CUDA device: what a serving program counts on, shown on the fake driver.
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "cubin_compiler.h"
#include "cuda_support.h"
#include "lathe/abi/attention.h"
#include "lathe/api/attention.h"
#include "lathe/api/merge.h"
#include "lathe/runtime/cuda_stream.h"
#include "lathe/testing/temp_dir.h"

namespace lathe::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CudaApi : public CudaTest {
 protected:
  CudaApi() {
    EngineOptions options;
    options.cache.mode = CacheMode::off;
    options.compiler = compiler;
    engine = std::make_unique<Engine>(options);
  }

  static AttentionSpec sample_spec() {
    AttentionSpec spec;
    spec.group_size = 4;
    spec.mask = Mask::causal;
    return spec;
  }

  std::shared_ptr<CubinCompiler> compiler = std::make_shared<CubinCompiler>();
  std::unique_ptr<Engine> engine;
};

constexpr int kInvalidImage = 200;

/// A folder for a cache, and how often kernels were compiled.
class CudaRefusal : public CudaApi {
 protected:
  CudaRefusal() {
    EngineOptions options;
    options.cache = {};
    options.cache.root = (folder / "cache").string();
    options.compiler = compiler;
    // A first process has filled the cache.
    EXPECT_TRUE(Attention::prepare(*std::make_unique<Engine>(options), open(), sample_spec()).ok());
    EXPECT_EQ(compiler->compiles, 1);
    // What is compiled from here on differs.
    compiler->padding = 8;
    engine = std::make_unique<Engine>(options);
  }
  TempDir folder;
};

TEST_F(CudaRefusal, OfACachedKernelIsMendedOnce) {
  auto device = open();
  fake::fail("cuLibraryLoadData", kInvalidImage);
  auto attention = Attention::prepare(*engine, device, sample_spec());
  ASSERT_TRUE(attention.ok()) << attention.status().to_string();
  EXPECT_EQ(compiler->compiles, 2);
  EXPECT_EQ(engine->stats().cache.quarantined, 1u);
  EXPECT_EQ(engine->cache().list().size(), 1u) << "the new one is kept";
}

TEST_F(CudaRefusal, OfTheNewOneTooIsAnErrorWithBothLogs) {
  auto device = open();
  fake::fail("cuLibraryLoadData", kInvalidImage, 1, -1);
  for (int i = 0; i < 3; i++) {
    const Status status = Attention::prepare(*engine, device, sample_spec()).status();
    EXPECT_EQ(status.code(), Code::launch_failed);
    EXPECT_THAT(status.message(), i == 0 ? HasSubstr("refused again: ") : HasSubstr("built anew already"));
    EXPECT_THAT(status.message(), HasSubstr("cuLibraryLoadData"));
  }
  EXPECT_EQ(compiler->compiles, 2) << "not once for each try";
}

TEST_F(CudaRefusal, ALostDeviceIsNoRefusal) {
  auto device = open();
  fake::fail("cuLibraryLoadData", 700);
  EXPECT_EQ(Attention::prepare(*engine, device, sample_spec()).status().code(), Code::device_lost);
  EXPECT_EQ(compiler->compiles, 1);
  EXPECT_EQ(engine->stats().cache.quarantined, 0u);
  expect_clean = false;
}

/// A small paged batch with its memory.
struct SampleBatch {
  std::vector<int32_t> qo_indptr{0, 1, 33}, kv_indptr{0, 200, 204}, last_page_len{16, 9};
  AttentionArgs args;
  std::shared_ptr<std::byte> q, k, v, o, ids, workspace;
  PlannedAttention plan;

  Status prepare(Device& device, const Attention& attention) {
    AttentionBatch batch;
    batch.qo_indptr = qo_indptr, batch.kv_indptr = kv_indptr, batch.last_page_len = last_page_len;
    auto planned = attention.plan(batch, 2);
    LATHE_TRY(planned);
    plan = *std::move(planned);
    for (auto [memory, bytes] : {std::pair{&q, 33 * 8 * 128 * 2},
                                 {&k, 204 * 16 * 2 * 128 * 2},
                                 {&v, 204 * 16 * 2 * 128 * 2},
                                 {&o, 33 * 8 * 128 * 2},
                                 {&ids, 204 * 4},
                                 {&workspace, static_cast<int>(plan.plan.workspace.total())}}) {
      auto made = device.allocate(static_cast<size_t>(bytes));
      LATHE_TRY(made);
      *memory = *std::move(made);
    }
    args.q = Tensor::contiguous(q.get(), {33, 8, 128});
    args.k = Tensor::contiguous(k.get(), {204, 16, 2, 128});
    args.v = Tensor::contiguous(v.get(), {204, 16, 2, 128});
    args.o = Tensor::contiguous(o.get(), {33, 8, 128});
    args.kv_indices = reinterpret_cast<const int32_t*>(ids.get());
    args.num_kv_indices = 204;
    return attention.upload(plan, workspace.get(), plan.plan.workspace.total(), nullptr);
  }
};

TEST_F(CudaApi, RunIsOneLaunchAndNothingElse) {
  auto device = open();
  auto attention = Attention::prepare(*engine, device, sample_spec());
  ASSERT_TRUE(attention.ok()) << attention.status().to_string();
  SampleBatch batch;
  Status prepared = batch.prepare(*device, *attention);
  ASSERT_TRUE(prepared.ok()) << prepared.to_string();
  ASSERT_THAT(fake::launches(), IsEmpty());
  fake::only_launches(true);
  for (int i = 0; i < 10; ++i) {
    Status s = attention->run(batch.args, batch.plan, batch.workspace.get(), nullptr);
    ASSERT_TRUE(s.ok()) << s.to_string();
  }
  fake::only_launches(false);
  EXPECT_THAT(fake::forbidden(), IsEmpty());
  ASSERT_EQ(fake::launches().size(), 10u);
  fake::LaunchRecord r = fake::launches()[0];
  EXPECT_EQ(r.grid[0], static_cast<uint32_t>(attention->num_ctas()));
  EXPECT_EQ(r.block[0], static_cast<uint32_t>(attention->tile().threads()));
  EXPECT_EQ(r.shared_bytes, static_cast<uint32_t>(attention->tile().shared_bytes));
  EXPECT_EQ(r.params.size(), sizeof(abi::AttentionParams));
}

TEST_F(CudaApi, ACapturedRunServesEveryBatch) {
  auto device = open();
  auto attention = Attention::prepare(*engine, device, sample_spec());
  ASSERT_TRUE(attention.ok()) << attention.status().to_string();
  SampleBatch batch;
  ASSERT_TRUE(batch.prepare(*device, *attention).ok());
  auto stream = CudaStream::create(*device);
  ASSERT_TRUE(stream.ok());
  auto run = [&] { return attention->run(batch.args, batch.plan, batch.workspace.get(), stream->handle()); };
  auto graph = stream->capture(run);
  ASSERT_TRUE(graph.ok()) << graph.status().to_string();
  ASSERT_TRUE(graph->launch(stream->handle()).ok());
  ASSERT_TRUE(run().ok());
  // Nothing of a launch depends on when it was made.
  std::vector<fake::LaunchRecord> launches = fake::launches();
  ASSERT_EQ(launches.size(), 2u);
  EXPECT_EQ(launches[0].params, launches[1].params);
  EXPECT_EQ(launches[0].grid, launches[1].grid);
}

TEST_F(CudaApi, AnOldDriverIsRefusedBeforeAnythingIsCompiled) {
  start({.version = 12080});
  auto device = open();
  for (const Status& s :
       {Attention::prepare(*engine, device, sample_spec()).status(), Merge::prepare(*engine, device, {}).status()}) {
    EXPECT_EQ(s.code(), Code::unavailable);
    EXPECT_THAT(s.to_string(), AllOf(HasSubstr("12.8"), HasSubstr("nvrtc 13.0.88")));
  }
  EXPECT_EQ(compiler->compiles, 0);
}

TEST_F(CudaApi, AnotherArchIsRefusedBeforeAnythingIsCompiled) {
  auto device = open();
  AttentionSpec spec = sample_spec();
  spec.arch = "sm_80";
  Status s = Attention::prepare(*engine, device, spec).status();
  EXPECT_EQ(s.code(), Code::invalid_argument);
  EXPECT_THAT(s.to_string(), AllOf(HasSubstr("sm_80"), HasSubstr("sm_90a")));
  EXPECT_EQ(compiler->compiles, 0);
}

TEST_F(CudaApi, ManyThreadsAndDevicesCompileOnceAndLoadOncePerDevice) {
  start({.devices = 2});
  std::shared_ptr<Device> devices[] = {open(0), open(1)};
  constexpr int kThreads = 8;
  std::vector<std::unique_ptr<Attention>> prepared(kThreads);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i)
    threads.emplace_back([&, i] {
      auto attention = Attention::prepare(*engine, devices[i % 2], sample_spec());
      if (attention.ok()) prepared[i] = std::make_unique<Attention>(*std::move(attention));
    });
  for (std::thread& t : threads) t.join();
  for (const auto& attention : prepared) ASSERT_NE(attention, nullptr);
  EXPECT_EQ(compiler->compiles, 1);
  EXPECT_EQ(devices[0]->modules(), 1u);
  EXPECT_EQ(devices[1]->modules(), 1u);
  EXPECT_EQ(fake::calls("cuLibraryLoadData"), 2u);
}

TEST_F(CudaApi, ALostDeviceIsReportedByRun) {
  expect_clean = false;
  auto device = open();
  auto attention = Attention::prepare(*engine, device, sample_spec());
  ASSERT_TRUE(attention.ok());
  SampleBatch batch;
  ASSERT_TRUE(batch.prepare(*device, *attention).ok());
  fake::lose_device_after(2, 719);
  auto run = [&] { return attention->run(batch.args, batch.plan, batch.workspace.get(), nullptr); };
  ASSERT_TRUE(run().ok());
  ASSERT_TRUE(run().ok());
  Status first = run();
  EXPECT_EQ(first.code(), Code::device_lost);
  EXPECT_EQ(run().to_string(), first.to_string());
  EXPECT_EQ(Attention::prepare(*engine, device, sample_spec()).status().to_string(), first.to_string());
}

// What a server that forks its workers late does: the child is told that it has no GPU; what needs none goes on.
TEST_F(CudaApi, AForkedChildPlansAndBuildsButDoesNotLaunch) {
  TempDir folder;
  EngineOptions options;
  options.cache = {};
  options.cache.root = (folder / "cache").string();
  options.compiler = compiler;
  Engine parents(options);
  auto device = open();
  auto attention = Attention::prepare(parents, device, sample_spec());
  ASSERT_TRUE(attention.ok()) << attention.status().to_string();
  SampleBatch batch;
  ASSERT_TRUE(batch.prepare(*device, *attention).ok());
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    alarm(20);
    AttentionBatch again;
    again.qo_indptr = batch.qo_indptr, again.kv_indptr = batch.kv_indptr, again.last_page_len = batch.last_page_len;
    const auto plan = attention->plan(again, 2);
    const bool plans = plan.ok() && plan->plan.workspace.total() == batch.plan.plan.workspace.total();
    const auto request = attention->kernel().artifact();
    const auto found = DiskCache(options.cache).find(request->key);
    const bool finds = found && found->payload == request->binary;
    const Status run = attention->run(batch.args, batch.plan, batch.workspace.get(), nullptr);
    const bool told = run.code() == Code::unavailable && run.message().find("fork") != std::string::npos;
    _exit(plans && finds && told ? 0 : 1 + (plans ? 0 : 2) + (finds ? 0 : 4) + (told ? 0 : 8));
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0) << "it does not plan, find or say so: " << status / 256 - 1;
  EXPECT_TRUE(attention->run(batch.args, batch.plan, batch.workspace.get(), nullptr).ok()) << "the parent goes on";
}

}  // namespace
}  // namespace lathe::testing
