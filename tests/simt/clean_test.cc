// Correct kernels stay clean under every seed, give the same values, and count exactly.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "support.h"

namespace lathe::testing {
namespace {

const Probe& probe() {
  static const Probe instance(R"(
// Stages of a tile through asynchronous copies, read by all warps, twice buffered.
LATHE_KERNEL(pipeline, Args, 128) {
  const u32 t = thread_index();
  u32 sum = 0;
  copy_async_16(t * 16, word(params.in, t * 4), true);
  copy_async_commit();
  for (u32 i = 0; i < params.n; ++i) {
    const u32 here = i % 2 * 2048, next = 2048 - here;
    if (i + 1 < params.n) copy_async_16(next + t * 16, word(params.in, ((i + 1) * 128 + t) * 4), true);
    copy_async_commit();
    copy_async_wait<1>();
    block_barrier();
    for (u32 j = 0; j < 4; ++j) sum += shared_load_u32(here + (t * 4 + j * 132) % 512 * 4) * (j + 1);
    block_barrier();
  }
  copy_async_wait<0>();
  global_store_u32(word(params.out, block_index() * 128 + t), sum);
}

// Two roles that hand a buffer to and fro: the first warp fills it, the others read it.
LATHE_KERNEL(roles, Args, 96) {
  const u32 t = lane_index();
  if (warp_index() == 0) {
    for (u32 i = 0; i < params.n; ++i) {
      named_barrier(2, 96);  // empty
      shared_store_u32(t * 4, i * 100 + t);
      named_barrier_arrive(1, 96);  // full
    }
  } else {
    u32 sum = 0;
    for (u32 i = 0; i < params.n; ++i) {
      named_barrier_arrive(2, 96);
      named_barrier(1, 96);
      sum += shared_load_u32((t + warp_index()) % 32 * 4);
    }
    global_store_u32(word(params.out, thread_index() - 32), sum);
  }
}

// Split work: each block writes its part, the last one to arrive adds up and resets the counter.
LATHE_KERNEL(last_arrives, Args, 64) {
  const u32 t = thread_index();
  global_store_u32(word(params.work, 1 + block_index() * 64 + t), block_index() + t);
  block_barrier();
  if (t == 0) shared_store_u32(0, atomic_add_acq_rel(word(params.work, 0), 1));
  block_barrier();
  if (shared_load_u32(0) != grid_size() - 1) return;
  u32 sum = 0;
  for (u32 b = 0; b < grid_size(); ++b) sum += global_load_u32(word(params.work, 1 + b * 64 + t));
  global_store_u32(word(params.out, t), sum);
  if (t == 0) store_relaxed(word(params.work, 0), 0);
}

// The same with fences around relaxed atomics, in one warp.
LATHE_KERNEL(fences, Args, 32) {
  const u32 t = thread_index();
  global_store_u32(word(params.work, 1 + block_index() * 32 + t), block_index() + t);
  warp_sync();
  u32 order = 0;
  if (t == 0) {
    fence_acq_rel();
    order = atomic_add_relaxed(word(params.work, 0), 1);
    fence_acq_rel();
  }
  warp_sync();
  if (shuffle(order, 0) != grid_size() - 1) return;
  u32 sum = 0;
  for (u32 b = 0; b < grid_size(); ++b) sum += global_load_u32(word(params.work, 1 + b * 32 + t));
  global_store_u32(word(params.out, t), sum);
}

// Every block waits for the one before it.
LATHE_KERNEL(chain, Args, 64) {
  const u32 t = thread_index(), b = block_index();
  if (b != 0) {
    if (t == 0) spin_until([&] { return load_acquire(word(params.work, 0)) == b; });
    block_barrier();
  }
  const u32 before = b == 0 ? 0 : global_load_u32(word(params.work, 1 + (b - 1) * 64 + t));
  global_store_u32(word(params.work, 1 + b * 64 + t), before + b + t);
  block_barrier();
  if (t == 0) store_release(word(params.work, 0), b + 1);
  if (b + 1 == grid_size()) global_store_u32(word(params.out, t), before + b + t);
}

// Everyone waits for everyone, without order.
LATHE_KERNEL(grid_barrier, Args, 32) {
  const u32 t = thread_index();
  global_store_u32(word(params.work, 1 + block_index() * 32 + t), block_index() * t);
  warp_sync();
  if (t == 0) {
    atomic_add_acq_rel(word(params.work, 0), 1);
    spin_until([&] { return load_acquire(word(params.work, 0)) == grid_size(); });
  }
  warp_sync();
  const u32 other = (block_index() + 1) % grid_size();
  global_store_u32(word(params.out, block_index() * 32 + t), global_load_u32(word(params.work, 1 + other * 32 + t)));
}

// Who comes when: not determined by the kernel.
LATHE_KERNEL(arrivals, Args, 64) {
  const u32 order = atomic_add_relaxed(word(params.work, 0), 1);
  block_barrier();
  const u32 again = atomic_add_relaxed(word(params.work, 0), 1);
  global_store_vec8(word(params.out, 2 * (block_index() * 64 + thread_index())), Vec8{{order, again}});
}

// One branch without a collective in it, then all together again.
LATHE_KERNEL(reconverges, Args, 32) {
  const u32 t = thread_index();
  u32 x = t;
  if (t % 3 == 0) {
    for (u32 i = 0; i < t; ++i) x = x * 3 + global_load_u32(word(params.in, i));
  }
  global_store_u32(word(params.out, t), shuffle_xor(x, 1));
}

// ---- Counting
LATHE_KERNEL(conflicts_u32, Args, 32) {
  const u32 t = thread_index();
  shared_store_u32(t * params.n * 4, t);
  warp_sync();
  shared_load_u32(t * params.n * 4);
}
LATHE_KERNEL(conflicts_vec16, Args, 32) { shared_store_vec16(thread_index() * params.n * 16, Vec16{{0, 0, 0, 0}}); }
LATHE_KERNEL(conflicts_vec8, Args, 32) { shared_store_vec8(thread_index() * params.n * 8, Vec8{{0, 0}}); }
LATHE_KERNEL(conflicts_matrix, Args, 32) {
  const u32 t = thread_index();
  for (u32 i = 0; i < 32; ++i) shared_store_u32((i * 32 + t) * 4, 0);
  warp_sync();
  u32 r[4];
  load_matrix_x4(r, t * params.n);
}
// Lanes take the same place a different number of times.
LATHE_KERNEL(conflicts_loop, Args, 32) {
  const u32 t = thread_index();
  for (u32 i = 0; i <= t % 2; ++i) shared_store_u32((t + 32 * i) * 4, 0);
}
LATHE_KERNEL(counted, Args, 64) {
  const u32 t = thread_index();
  u32 a[4] = {0, 0, 0, 0};
  float d[4] = {0, 0, 0, 0};
  mma_m16n8k16<bf16>(d, a, 0, 0);
  mma_m16n8k16<f16>(d, a, 0, 0);
  block_barrier();
  named_barrier(1, 64);
  copy_async_16(t * 16, word(params.in, t * 4), t % 2 == 0);
  copy_async_commit();
  copy_async_wait<0>();
  global_load_vec8(word(params.in, t * 4));
  global_store_vec16(word(params.out, (block_index() * 64 + t) * 4), Vec16{{0, 0, 0, 0}});
  if (t == 0) atomic_add_relaxed(word(params.work, 0), 1);
}
)");
  return instance;
}

#if defined(__SANITIZE_THREAD__)
constexpr uint64_t kSeeds = 5;  // a fibre takes a millisecond to make there
#else
constexpr uint64_t kSeeds = 50;
#endif

TEST(Clean, PipelineOfCopies) {
  Memory memory{.in = std::vector<uint32_t>(512 * 5), .out = std::vector<uint32_t>(256), .work = {}};
  for (size_t i = 0; i < memory.in.size(); ++i) memory.in[i] = static_cast<uint32_t>(i * i);
  for (uint64_t s = 0; s < kSeeds; ++s) {
    std::fill(memory.out.begin(), memory.out.end(), 0);
    auto outcome = run(probe(), "pipeline", memory, {.grid = 2, .threads = 128, .shared = 4096}, checked(s), 5);
    ASSERT_TRUE(outcome.status.ok()) << "seed " << s << ": " << outcome.status.to_string();
    for (uint32_t t = 0; t < 256; ++t) {
      uint32_t want = 0;
      for (uint32_t i = 0; i < 5; ++i)
        for (uint32_t j = 0; j < 4; ++j) want += memory.in[i * 512 + (t % 128 * 4 + j * 132) % 512] * (j + 1);
      ASSERT_EQ(memory.out[t], want);
    }
  }
}

TEST(Clean, RolesAndNamedBarriers) {
  for (uint64_t s = 0; s < kSeeds; ++s) {
    Memory memory{.in = {}, .out = std::vector<uint32_t>(64), .work = {}};
    auto outcome = run(probe(), "roles", memory, {.threads = 96, .shared = 128}, checked(s), 6);
    ASSERT_TRUE(outcome.status.ok()) << "seed " << s << ": " << outcome.status.to_string();
    for (uint32_t t = 0; t < 64; ++t) ASSERT_EQ(memory.out[t], 1500 + 6 * ((t % 32 + 1 + t / 32) % 32));
  }
}

TEST(Clean, LastToArriveMerges) {
  for (const char* name : {"last_arrives", "fences"}) {
    const uint32_t threads = name[0] == 'l' ? 64 : 32;
    for (uint64_t s = 0; s < kSeeds; ++s) {
      Memory memory{.in = {}, .out = std::vector<uint32_t>(threads), .work = std::vector<uint32_t>(1 + 10 * threads)};
      auto outcome = run(probe(), name, memory, {.grid = 10, .threads = threads, .shared = 16}, checked(s));
      ASSERT_TRUE(outcome.status.ok()) << "seed " << s << ": " << outcome.status.to_string();
      for (uint32_t t = 0; t < threads; ++t) ASSERT_EQ(memory.out[t], 45 + 10 * t);
    }
    for (int threads_of_os : {1, 4}) {
      Memory memory{.in = {}, .out = std::vector<uint32_t>(threads), .work = std::vector<uint32_t>(1 + 10 * threads)};
      auto outcome = run(probe(), name, memory, {.grid = 10, .threads = threads, .shared = 16}, unchecked(threads_of_os));
      ASSERT_TRUE(outcome.status.ok()) << outcome.status.to_string();
      for (uint32_t t = 0; t < threads; ++t) ASSERT_EQ(memory.out[t], 45 + 10 * t);
    }
  }
}

// A counter that is not reset shows in the second launch, under every seed.
TEST(Clean, WorkspaceKeepsItsContents) {
  Memory memory{.in = {}, .out = std::vector<uint32_t>(64), .work = std::vector<uint32_t>(1 + 4 * 64)};
  for (uint64_t s = 0; s < 10; ++s) {
    auto outcome = run(probe(), "last_arrives", memory, {.grid = 4, .threads = 64, .shared = 16}, checked(s));
    ASSERT_TRUE(outcome.status.ok()) << outcome.status.to_string();
    ASSERT_EQ(memory.work[0], 0u);
  }
}

TEST(Clean, ResidentGrid) {
  for (uint64_t s = 0; s < kSeeds; ++s) {
    for (const SimtOptions& options : {checked(s), unchecked(2)}) {
      Memory memory{.in = {}, .out = std::vector<uint32_t>(64), .work = std::vector<uint32_t>(1 + 8 * 64)};
      auto outcome = run(probe(), "chain", memory, {.grid = 8, .threads = 64, .resident = true}, options);
      ASSERT_TRUE(outcome.status.ok()) << "seed " << s << ": " << outcome.status.to_string();
      for (uint32_t t = 0; t < 64; ++t) ASSERT_EQ(memory.out[t], 28 + 8 * t);
      Memory all{.in = {}, .out = std::vector<uint32_t>(256), .work = std::vector<uint32_t>(1 + 8 * 32)};
      outcome = run(probe(), "grid_barrier", all, {.grid = 8, .threads = 32, .resident = true}, options);
      ASSERT_TRUE(outcome.status.ok()) << "seed " << s << ": " << outcome.status.to_string();
      for (uint32_t i = 0; i < 256; ++i) ASSERT_EQ(all.out[i], (i / 32 + 1) % 8 * (i % 32));
    }
  }
}

TEST(Clean, BranchesReconverge) {
  for (uint64_t s = 0; s < kSeeds; ++s) {
    Memory memory{.in = std::vector<uint32_t>(32, 9), .out = std::vector<uint32_t>(32), .work = {}};
    auto outcome = run(probe(), "reconverges", memory, {}, checked(s));
    ASSERT_TRUE(outcome.status.ok()) << outcome.status.to_string();
  }
}

std::vector<uint32_t> arrivals(uint64_t s) {
  Memory memory{.in = {}, .out = std::vector<uint32_t>(2 * 6 * 64), .work = {0}};
  auto outcome = run(probe(), "arrivals", memory, {.grid = 6, .threads = 64}, checked(s));
  EXPECT_TRUE(outcome.status.ok()) << outcome.status.to_string();
  return memory.out;
}

TEST(Order, IsThatOfTheSeed) {
  std::set<std::vector<uint32_t>> different;
  for (uint64_t s = 0; s < 20; ++s) {
    const auto first = arrivals(s);
    EXPECT_EQ(first, arrivals(s)) << "seed " << s;
    different.insert(first);
  }
  EXPECT_EQ(different.size(), 20u);
}

LaunchCounters counted(const char* name, Shape shape, uint32_t n) {
  Memory memory{.in = std::vector<uint32_t>(256), .out = std::vector<uint32_t>(1024), .work = {0}};
  auto outcome = run(probe(), name, memory, shape, checked(), n);
  EXPECT_TRUE(outcome.status.ok()) << outcome.status.to_string();
  return outcome.counters;
}

TEST(Counters, BankConflicts) {
  const Shape shape{.threads = 32, .shared = 32768};
  struct Expected {
    const char* name;
    uint32_t n;
    uint64_t accesses, conflicts;
  };
  // A stride of n words: n lanes share a bank when n is a power of two up to 32.
  for (const Expected& e :
       {Expected{"conflicts_u32", 1, 2, 0}, Expected{"conflicts_u32", 2, 2, 2}, Expected{"conflicts_u32", 32, 2, 62},
        Expected{"conflicts_u32", 33, 2, 0}, Expected{"conflicts_vec8", 1, 1, 0}, Expected{"conflicts_vec8", 2, 1, 2},
        Expected{"conflicts_vec16", 1, 1, 0}, Expected{"conflicts_vec16", 2, 1, 4}, Expected{"conflicts_vec16", 8, 1, 28},
        Expected{"conflicts_matrix", 16, 33, 0}, Expected{"conflicts_matrix", 128, 33, 28}, Expected{"conflicts_matrix", 0, 33, 0},
        Expected{"conflicts_loop", 0, 2, 0}}) {
    LaunchCounters got = counted(e.name, shape, e.n);
    EXPECT_EQ(got.shared_accesses, e.accesses) << e.name << " " << e.n;
    EXPECT_EQ(got.shared_bank_conflicts, e.conflicts) << e.name << " " << e.n;
  }
}

TEST(Counters, AreExact) {
  const LaunchCounters got = counted("counted", {.grid = 3, .threads = 64, .shared = 1024}, 0);
  EXPECT_EQ(got.matrix_instructions, 3 * 2 * 2u);
  EXPECT_EQ(got.block_barriers, 3 * 2u);
  EXPECT_EQ(got.warp_collectives, 3 * 2 * 2u);
  EXPECT_EQ(got.async_copies, 3 * 64u);
  ASSERT_EQ(got.tensors.size(), 3u);
  EXPECT_EQ(got.tensors[0].name, "in");
  EXPECT_EQ(got.tensors[0].bytes_read, 3 * (32 * 16 + 64 * 8u));
  EXPECT_EQ(got.tensors[0].bytes_written, 0u);
  EXPECT_EQ(got.tensors[1].bytes_read, 0u);
  EXPECT_EQ(got.tensors[1].bytes_written, 3 * 64 * 16u);
  EXPECT_EQ(got.tensors[2].bytes_read, 3 * 4u);
  EXPECT_EQ(got.tensors[2].bytes_written, 3 * 4u);
}

}  // namespace
}  // namespace lathe::testing
