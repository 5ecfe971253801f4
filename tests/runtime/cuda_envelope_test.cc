// Serving step after step through one envelope on a CUDA device: one captured launch, plans staged behind a device that lags, and
// nothing that waits.
#include <gmock/gmock.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "cubin_compiler.h"
#include "cuda_support.h"
#include "lathe/api/attention.h"
#include "lathe/api/plan_stager.h"
#include "lathe/runtime/cuda_stream.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int32_t kHeads = 2, kMaxBatch = 16, kMaxTokens = 96, kMaxPages = 1024;

/// A random paged batch within the bounds.
struct Lengths {
  std::vector<int32_t> qo_indptr{0}, kv_indptr{0}, last_page_len;

  explicit Lengths(std::mt19937_64& rng) {
    const auto draw = [&](int32_t low, int32_t high) { return std::uniform_int_distribution<int32_t>(low, high)(rng); };
    const int32_t batch = draw(0, kMaxBatch);
    for (int32_t b = 0; b < batch; ++b) {
      qo_indptr.push_back(qo_indptr.back() + draw(0, kMaxTokens / kMaxBatch));
      kv_indptr.push_back(kv_indptr.back() + draw(0, kMaxPages / kMaxBatch));
      last_page_len.push_back(draw(1, 16));
    }
  }
  AttentionBatch batch() const {
    AttentionBatch out;
    out.qo_indptr = qo_indptr, out.kv_indptr = kv_indptr, out.last_page_len = last_page_len;
    return out;
  }
};

class CudaEnvelope : public CudaTest {
 protected:
  void prepare(int delay) {
    start({.delay = delay});
    device = open();
    EngineOptions options;
    options.cache.mode = CacheMode::off;
    options.compiler = std::make_shared<CubinCompiler>();
    engine = std::make_unique<Engine>(options);
    AttentionSpec spec;
    spec.group_size = 4;
    spec.mask = Mask::causal;
    auto prepared = Attention::prepare(*engine, device, spec);
    ASSERT_TRUE(prepared.ok()) << prepared.status().to_string();
    attention = std::make_unique<Attention>(*std::move(prepared));
    auto made = attention->envelope({kHeads, kMaxBatch, kMaxTokens, kMaxPages});
    ASSERT_TRUE(made.ok()) << made.status().to_string();
    envelope = *std::move(made);
    auto ring = PlanStager::create(device, envelope.layout.plan);
    ASSERT_TRUE(ring.ok()) << ring.status().to_string();
    stager = *std::move(ring);
    workspace = *device->allocate(envelope.layout.total());
    constexpr int64_t kHeadDim = 128, kQoHeads = 4 * kHeads, kPage = 16;
    tensors = *device->allocate(1 << 20);
    // Nothing reads them here; they need only be there.
    args.q = Tensor::contiguous(tensors.get(), {kMaxTokens, kQoHeads, kHeadDim});
    args.k = Tensor::contiguous(tensors.get(), {kMaxPages, kPage, kHeads, kHeadDim});
    args.v = args.k, args.o = args.q;
    args.kv_indices = reinterpret_cast<const int32_t*>(tensors.get());
    args.num_kv_indices = kMaxPages;
    auto made_stream = CudaStream::create(*device);
    ASSERT_TRUE(made_stream.ok());
    stream.emplace(*std::move(made_stream));
    ASSERT_TRUE(attention->prepare_workspace(envelope, workspace.get(), envelope.layout.total(), stream->handle()).ok());
  }

  Status upload(const PlannedAttention& plan) {
    return attention->upload(plan, envelope, *stager, workspace.get(), envelope.layout.total(), stream->handle());
  }

  std::shared_ptr<Device> device;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<Attention> attention;
  AttentionEnvelope envelope;
  std::unique_ptr<PlanStager> stager;
  std::shared_ptr<std::byte> workspace, tensors;
  AttentionArgs args;
  std::optional<CudaStream> stream;
};

// Every launch finds the plan of its own step in the workspace, whole and with the counters untouched, though the device is 100
// launches behind; and from the first plan on no call waits or may wait.
TEST_F(CudaEnvelope, EveryReplaySeesItsOwnPlan) {
  prepare(100);
  if (HasFatalFailure()) return;
  const Stream handle = stream->handle();
  auto graph = stream->capture([&] { return attention->run(args, envelope, workspace.get(), handle); });
  ASSERT_TRUE(graph.ok()) << graph.status().to_string();

  const size_t counters = envelope.layout.counters;
  ASSERT_GT(counters, 0u);
  std::vector<Bytes> planned, seen;
  bool zero = true;
  const std::byte* base = workspace.get();
  fake::on_launch([&](const fake::LaunchRecord& record) {
    abi::AttentionParams params;
    std::memcpy(&params, record.params.data(), sizeof params);
    ASSERT_EQ(params.plan, base);
    abi::AttentionPlanHeader header;
    std::memcpy(&header, params.plan, sizeof header);
    const size_t bytes = std::min<size_t>(static_cast<size_t>(std::max(header.bytes, 0)), envelope.layout.plan);
    seen.emplace_back(base, base + bytes);
    const auto* words = reinterpret_cast<const std::byte*>(params.merge_counters);
    zero = zero && std::all_of(words, words + counters, [](std::byte b) { return b == std::byte{0}; });
  });

  std::mt19937_64 rng(seed());
  PlannedAttention plan;
  fake::no_waits(true);
  constexpr int kSteps = 400;
  for (int i = 0; i < kSteps; ++i) {
    const Lengths lengths(rng);
    Status status = attention->plan(lengths.batch(), envelope, plan);
    ASSERT_TRUE(status.ok()) << status.to_string() << "\nrepeat: " << repeat_command();
    planned.emplace_back(plan.plan.bytes().begin(), plan.plan.bytes().end());
    status = upload(plan);
    ASSERT_TRUE(status.ok()) << status.to_string();
    // Replays and plain launches by turns: they are the same launch.
    status = i % 2 == 0 ? graph->launch(handle) : attention->run(args, plan, workspace.get(), handle);
    ASSERT_TRUE(status.ok()) << status.to_string();
  }
  fake::no_waits(false);
  EXPECT_THAT(fake::forbidden(), IsEmpty());
  EXPECT_EQ(seen.size(), static_cast<size_t>(kSteps - 100));
  EXPECT_EQ(stager->slots(), 101u);
  ASSERT_TRUE(device->synchronize(handle).ok());
  fake::on_launch(nullptr);
  EXPECT_TRUE(seen == planned) << "a launch saw another step's plan\nrepeat: " << repeat_command();
  EXPECT_TRUE(zero);

  const std::vector<fake::LaunchRecord> launches = fake::launches();
  ASSERT_EQ(launches.size(), static_cast<size_t>(kSteps));
  for (const fake::LaunchRecord& launch : launches) {
    EXPECT_EQ(launch.params, launches[0].params);
    EXPECT_EQ(launch.grid, launches[0].grid);
    EXPECT_EQ(launch.shared_bytes, launches[0].shared_bytes);
  }
}

// That the test above can fail: an upload from the plan's own memory, which is not page-locked, may wait.
TEST_F(CudaEnvelope, AnUploadWithoutAStagerWaits) {
  prepare(0);
  if (HasFatalFailure()) return;
  std::mt19937_64 rng(seed());
  PlannedAttention plan;
  ASSERT_TRUE(attention->plan(Lengths(rng).batch(), envelope, plan).ok());
  fake::no_waits(true);
  EXPECT_FALSE(attention->upload(plan, workspace.get(), envelope.layout.total(), stream->handle()).ok());
  fake::no_waits(false);
  EXPECT_THAT(fake::forbidden(), ::testing::ElementsAre(HasSubstr("not page-locked")));
  // Where waiting is allowed it is one copy all the same: the counters are zero already.
  const uint64_t fills = fake::calls("cuMemsetD8Async");
  EXPECT_TRUE(attention->upload(plan, workspace.get(), envelope.layout.total(), stream->handle()).ok());
  EXPECT_EQ(fake::calls("cuMemsetD8Async"), fills);
}

TEST_F(CudaEnvelope, AStepIsOneCopyOneMarkAndOneLaunch) {
  prepare(0);
  if (HasFatalFailure()) return;
  std::mt19937_64 rng(seed());
  PlannedAttention plan;
  const auto step = [&] {
    ASSERT_TRUE(attention->plan(Lengths(rng).batch(), envelope, plan).ok());
    ASSERT_TRUE(upload(plan).ok());
    ASSERT_TRUE(attention->run(args, plan, workspace.get(), stream->handle()).ok());
  };
  step();
  const char* names[] = {"cuMemcpyHtoDAsync_v2", "cuEventRecord", "cuLaunchKernelEx", "cuEventQuery", "cuStreamIsCapturing"};
  uint64_t before[5],
      all = fake::calls() - fake::calls("cuCtxGetCurrent") - fake::calls("cuCtxPushCurrent_v2") - fake::calls("cuCtxPopCurrent_v2");
  for (int i = 0; i < 5; ++i) before[i] = fake::calls(names[i]);
  for (int i = 0; i < 10; ++i) step();
  for (int i = 0; i < 5; ++i) EXPECT_EQ(fake::calls(names[i]) - before[i], 10u) << names[i];
  EXPECT_EQ(
      fake::calls() - fake::calls("cuCtxGetCurrent") - fake::calls("cuCtxPushCurrent_v2") - fake::calls("cuCtxPopCurrent_v2") - all,
      50u);
}

TEST_F(CudaEnvelope, UploadsCannotBeCaptured) {
  prepare(0);
  if (HasFatalFailure()) return;
  std::mt19937_64 rng(seed());
  PlannedAttention plan;
  ASSERT_TRUE(attention->plan(Lengths(rng).batch(), envelope, plan).ok());
  auto graph = stream->capture([&] { return upload(plan); });
  EXPECT_THAT(graph.status().to_string(), AllOf(HasSubstr("stream"), HasSubstr("captured")));
  EXPECT_TRUE(upload(plan).ok());
}

TEST_F(CudaEnvelope, AStagerOfAnotherDeviceIsRefused) {
  prepare(0);
  if (HasFatalFailure()) return;
  std::mt19937_64 rng(seed());
  PlannedAttention plan;
  ASSERT_TRUE(attention->plan(Lengths(rng).batch(), envelope, plan).ok());
  auto other = PlanStager::create(host_device({}), envelope.layout.plan);
  ASSERT_TRUE(other.ok());
  Status status = attention->upload(plan, envelope, **other, workspace.get(), envelope.layout.total(), stream->handle());
  EXPECT_THAT(status.to_string(), AllOf(HasSubstr("stager"), HasSubstr("another device")));
}

}  // namespace
}  // namespace lathe::testing
