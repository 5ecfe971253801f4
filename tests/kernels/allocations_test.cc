// A serving step allocates nothing: planning into memory of before, staging and launching.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <random>

#include "envelope_server.h"
#include "lathe/testing/seed.h"

namespace {

std::atomic<uint64_t> allocations{0};

}  // namespace

// The other forms call these. Not inlined, or the compiler takes new and free for a pair that does not match.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(bytes)) return memory;
  std::abort();
}
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t alignment) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  const auto step = static_cast<std::size_t>(alignment);
  if (void* memory = std::aligned_alloc(step, (bytes + step - 1) / step * step)) return memory;
  std::abort();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}

namespace lathe::testing {
namespace {

/// Launches nothing: what the executor allocates to run a kernel is not the API's.
class IdleDevice final : public ForwardingDevice {
 public:
  using ForwardingDevice::ForwardingDevice;
  Status launch(const Kernel&, const Launch&, Stream) override {
    ++launches;
    return {};
  }
  int launches = 0;
};

constexpr int32_t kHeads = 8, kMaxBatch = 200, kMaxTokens = 1000, kMaxEntries = 20'000;

/// A random batch within the bounds, of `size` requests.
struct Lengths {
  std::vector<int32_t> qo_indptr{0}, kv_indptr{0}, last_page_len, pages;

  Lengths(int32_t size, std::mt19937_64& rng) {
    const auto draw = [&](int32_t low, int32_t high) { return std::uniform_int_distribution<int32_t>(low, high)(rng); };
    for (int32_t b = 0; b < size; ++b) {
      qo_indptr.push_back(qo_indptr.back() + draw(0, kMaxTokens / size));
      kv_indptr.push_back(kv_indptr.back() + draw(0, kMaxEntries / size));
      last_page_len.push_back(draw(1, 16));
      // The tables agree for a while.
      const int32_t common = draw(0, 300);
      for (int32_t i = 0, begin = kv_indptr[b]; begin + i < kv_indptr.back(); ++i) pages.push_back(i < common ? i : begin + i);
    }
  }
  AttentionBatch batch(bool share) const {
    AttentionBatch out;
    out.qo_indptr = qo_indptr, out.kv_indptr = kv_indptr, out.last_page_len = last_page_len;
    if (share) out.kv_indices = pages, out.num_pages = kMaxEntries;
    return out;
  }
};

struct Way {
  const char* name;
  SplitSpec split;
  bool share = false;
};

void PrintTo(const Way& way, std::ostream* out) {
  *out << way.name;
}

class Allocations : public ::testing::TestWithParam<Way> {};

TEST_P(Allocations, NoneInAStepAfterTheFirst) {
  AttentionSpec spec = small_spec();
  spec.split_kv = GetParam().split;
  const auto device = std::make_shared<IdleDevice>(host_device({.num_sms = 132}));
  Result<Attention> attention = Attention::prepare(engine(), device, spec);
  ASSERT_TRUE(attention.ok()) << attention.status().to_string();
  Result<AttentionEnvelope> envelope =
      attention->envelope({kHeads, kMaxBatch, kMaxTokens, kMaxEntries, 16 * kMaxEntries, 0, GetParam().share});
  ASSERT_TRUE(envelope.ok()) << envelope.status().to_string();
  auto stager = PlanStager::create(device, envelope->layout.plan);
  auto memory = device->allocate(1 << 20);
  ASSERT_TRUE(stager.ok() && memory.ok());
  const size_t bytes = envelope->layout.total();  // only the plan's part of it is written here
  auto workspace = device->allocate(bytes);
  ASSERT_TRUE(workspace.ok());
  AttentionArgs args;  // nothing reads them
  args.q = args.o = Tensor::contiguous(memory->get(), {kMaxTokens, kHeads * spec.group_size, spec.head_dim_qk});
  args.k = args.v = Tensor::contiguous(memory->get(), {kMaxEntries, 16, kHeads, spec.head_dim_qk});
  args.lse = Tensor::contiguous(memory->get(), {kMaxTokens, kHeads * spec.group_size});
  args.kv_indices = reinterpret_cast<const int32_t*>(memory->get());
  args.num_kv_indices = kMaxEntries;

  std::mt19937_64 rng(seed());
  std::vector<Lengths> batches{{1, rng}};
  for (int i = 0; i < 200; ++i) batches.emplace_back(std::uniform_int_distribution<int32_t>(1, kMaxBatch)(rng), rng);
  batches.emplace_back(0, rng);
  PlannedAttention plan;
  uint64_t counted = 0;
  int splits = 0, shared = 0;
  for (size_t i = 0; i < batches.size(); ++i) {
    const AttentionBatch batch = batches[i].batch(GetParam().share);
    const uint64_t before = allocations.load();
    const Status planned = attention->plan(batch, *envelope, plan);
    const Status uploaded = attention->upload(plan, *envelope, **stager, workspace->get(), bytes, nullptr);
    const Status ran = attention->run(args, plan, workspace->get(), nullptr);
    if (i > 0) counted += allocations.load() - before;
    ASSERT_TRUE(planned.ok() && uploaded.ok() && ran.ok()) << planned.to_string() << "\n"
                                                           << uploaded.to_string() << "\n"
                                                           << ran.to_string() << "\nrepeat: " << repeat_command();
    splits += plan.plan.num_split_tiles > 0 ? 1 : 0;
    shared += plan.plan.num_shared_tiles > 0 ? 1 : 0;
  }
  EXPECT_EQ(counted, 0u) << "repeat: " << repeat_command();
  EXPECT_EQ(device->launches, static_cast<int>(batches.size()));
  EXPECT_EQ(splits > 50, GetParam().split.mode != SplitMode::off);
  EXPECT_EQ(shared > 50, GetParam().share);
}
INSTANTIATE_TEST_SUITE_P(, Allocations,
                         ::testing::Values(Way{"Automatic", {SplitMode::automatic, 0}}, Way{"Off", {SplitMode::off, 0}},
                                           Way{"Fixed", {SplitMode::fixed, 512}},
                                           Way{"SharedPrefixes", {SplitMode::automatic, 0}, true}),
                         [](const auto& c) { return std::string(c.param.name); });

TEST(AllocationCounter, TheCounterCounts) {  // that the test above can fail
  const uint64_t before = allocations.load();
  const auto one = std::make_unique<std::string>(100, 'x');
  EXPECT_EQ(allocations.load() - before, 2u);
}

}  // namespace
}  // namespace lathe::testing
