// What serving does with a kernel: one captured launch for every batch, streams side by side, many threads.
#include <cstring>
#include <thread>

#include "gpu.h"
#include "lathe/proof/harness.h"
#include "lathe/runtime/cuda_stream.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

// A batch in device memory with the tensors and the workspace of its own.
class Resident {
 public:
  Resident(const std::shared_ptr<Device>& device, const Attention& attention, const BatchShape& shape, uint64_t seed_of_values)
      : device_(device),
        attention_(attention),
        shape_(shape),
        rng_(seed_of_values),
        image_(attention.spec(), {shape, draw_values(attention.spec(), shape, 1.0, rng_)}, {.seed = rng_(), .padded = false}) {}

  Status prepare(size_t workspace_bytes, Stream stream) {
    auto plan = attention_.plan(image_.batch(), shape_.num_kv_heads);
    LATHE_TRY(plan);
    plan_ = *std::move(plan);
    args_ = image_.args();
    LATHE_TRY(place(image_.q, q_, args_.q.data, stream));
    LATHE_TRY(place(image_.k, k_, args_.k.data, stream));
    LATHE_TRY(place(image_.v, v_, args_.v.data, stream));
    LATHE_TRY(place(image_.o, o_, args_.o.data, stream));
    LATHE_TRY(place(image_.lse, lse_, args_.lse.data, stream));
    void* ids = nullptr;
    LATHE_TRY(place(image_.kv_indices, ids_, ids, stream));
    args_.kv_indices = static_cast<const int32_t*>(ids);
    auto workspace = device_->allocate(std::max(workspace_bytes, plan_.plan.workspace.total()));
    LATHE_TRY(workspace);
    workspace_ = *std::move(workspace);
    return device_->synchronize(stream);
  }
  Status upload(Stream stream) { return attention_.upload(plan_, workspace_.get(), plan_.plan.workspace.total(), stream); }
  Status run(Stream stream) { return attention_.run(args_, plan_, workspace_.get(), stream); }

  /// What is wrong with o by now; empty when nothing is. Poisons it again.
  std::string judge_result(Stream stream) {
    Outcome outcome;
    outcome.plan = plan_;
    std::vector<uint16_t> o(image_.o.size()), lse(image_.lse.size());
    for (const Status& status : {device_->copy_out(o.data(), o_.get(), 2 * o.size(), stream),
                                 device_->copy_out(lse.data(), lse_.get(), 2 * lse.size(), stream), device_->synchronize(stream),
                                 device_->copy_in(o_.get(), image_.o.data(), 2 * o.size(), stream), device_->synchronize(stream)})
      if (!status.ok()) outcome.problems.push_back(status.to_string());
    outcome.o = image_.gather_o(o, outcome.problems);
    outcome.lse.resize(static_cast<size_t>(shape_.qo_tokens() * shape_.num_kv_heads * attention_.spec().group_size));
    std::memcpy(outcome.lse.data(), lse.data(), std::min(4 * outcome.lse.size(), 2 * lse.size()));
    return judge(attention_.spec(), shape_, image_, outcome, repeat_command());
  }

 private:
  template <class T>
  Status place(const std::vector<T>& host, std::shared_ptr<std::byte>& owner, void*& address, Stream stream) {
    auto memory = device_->allocate(host.size() * sizeof(T));
    LATHE_TRY(memory);
    owner = *std::move(memory);
    address = host.empty() ? nullptr : owner.get();
    return device_->copy_in(owner.get(), host.data(), host.size() * sizeof(T), stream);
  }

  std::shared_ptr<Device> device_;
  const Attention& attention_;
  BatchShape shape_;
  std::mt19937_64 rng_;
  BatchImage image_;
  PlannedAttention plan_;
  AttentionArgs args_;
  std::shared_ptr<std::byte> q_, k_, v_, o_, lse_, ids_, workspace_;
};

class GpuGraph : public GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (IsSkipped()) return;
    AttentionSpec spec;
    spec.group_size = 4;
    spec.mask = Mask::causal;
    spec.lse = LseOut::ln;
    auto prepared = Attention::prepare(engine(), device, spec);
    ASSERT_TRUE(prepared.ok()) << prepared.status().to_string();
    attention = std::make_unique<Attention>(*std::move(prepared));
  }
  std::unique_ptr<Attention> attention;
};

TEST_F(GpuGraph, ReplaysLeaveNothingBehind) {
  auto stream = CudaStream::create(*device);
  ASSERT_TRUE(stream.ok());
  Resident batch(device, *attention, {.num_kv_heads = 2, .qo_lens = {1, 130, 1}, .kv_lens = {9000, 400, 33}}, mix(seed(), 1));
  ASSERT_TRUE(batch.prepare(0, stream->handle()).ok());
  ASSERT_TRUE(batch.upload(stream->handle()).ok());
  auto graph = stream->capture([&] { return batch.run(stream->handle()); });
  ASSERT_TRUE(graph.ok()) << graph.status().to_string();
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(graph->launch(stream->handle()).ok());
    ASSERT_EQ(batch.judge_result(stream->handle()), "") << "replay " << i;
  }
}

TEST_F(GpuGraph, ThreadsAndStreamsSideBySide) {
  constexpr int kThreads = 4;
  std::vector<std::thread> threads;
  std::vector<std::string> wrong(kThreads);
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      auto stream = CudaStream::create(*device);
      Resident batch(device, *attention, {.num_kv_heads = 2, .qo_lens = {1, 50 + t}, .kv_lens = {5000 + 777 * t, 300}},
                     mix(seed(), static_cast<uint64_t>(t)));
      Status status = stream.ok() ? batch.prepare(0, stream->handle()) : stream.status();
      for (int i = 0; status.ok() && i < 20 && wrong[t].empty(); ++i) {
        status = batch.upload(stream->handle());
        if (status.ok()) status = batch.run(stream->handle());
        if (status.ok()) wrong[t] = batch.judge_result(stream->handle());
      }
      if (!status.ok()) wrong[t] = status.to_string();
    });
  for (std::thread& t : threads) t.join();
  for (const std::string& text : wrong) EXPECT_EQ(text, "");
}

}  // namespace
}  // namespace lathe::testing
