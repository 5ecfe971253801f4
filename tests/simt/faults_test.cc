// Every kind of fault, provoked by a kernel of a few lines, must be found under every seed and named with the template's line.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support.h"

namespace lathe::testing {
namespace {

using ::testing::HasSubstr;

const Probe& probe() {
  static const Probe instance(R"(
// ---- Shared memory
LATHE_KERNEL(race_read, Args, 64) {
  const u32 t = thread_index();
  shared_store_u32(t * 4, 0);
  block_barrier();
  shared_store_u32(t * 4, t);  // race_read wrote
  global_store_u32(word(params.out, t), shared_load_u32((t + 32) % 64 * 4));  // race_read reads
}
LATHE_KERNEL(race_write, Args, 64) {
  const u32 t = thread_index();
  shared_store_u32(t * 4, t);
  block_barrier();
  const u32 x = shared_load_u32((t + 32) % 64 * 4);  // race_write reads
  shared_store_u32(t * 4, x);  // race_write wrote
  block_barrier();
}
LATHE_KERNEL(race_write_write, Args, 64) {
  shared_store_u32(thread_index() % 32 * 4, 1);  // race_write_write
}
LATHE_KERNEL(race_in_warp, Args, 32) {
  const u32 t = thread_index();
  shared_store_u32(t * 4, t);  // race_in_warp wrote
  const u32 x = shuffle(t, 0);
  global_store_u32(word(params.out, t), shared_load_u32((t + 1) % 32 * 4) + x);  // race_in_warp reads
}
LATHE_KERNEL(race_matrix, Args, 32) {
  const u32 t = thread_index();
  shared_store_vec16(t * 16, Vec16{{t, t, t, t}});  // race_matrix wrote
  u32 r[4];
  load_matrix_x4(r, t * 16);  // race_matrix reads
  global_store_u32(word(params.out, t), r[0]);
}
LATHE_KERNEL(race_after_matrix, Args, 64) {
  const u32 t = thread_index();
  shared_store_vec16(t * 16, Vec16{{t, t, t, t}});
  block_barrier();
  u32 r[4];
  load_matrix_x4(r, t * 16 ^ 512);  // race_after_matrix reads
  shared_store_vec16(t * 16, Vec16{{t, t, t, r[0]}});  // race_after_matrix writes
}
LATHE_KERNEL(uninitialised, Args, 32) {
  const u32 t = thread_index();
  if (t != 5) shared_store_u32(t * 4, t);
  warp_sync();
  global_store_u32(word(params.out, t), shared_load_u32(t * 4));  // uninitialised
}
LATHE_KERNEL(shared_bounds, Args, 32) {
  shared_store_u32((thread_index() + params.n) * 4, 0);  // shared_bounds
}
LATHE_KERNEL(shared_alignment, Args, 32) {
  shared_store_vec16(thread_index() * 16 + 8, Vec16{{0, 0, 0, 0}});  // shared_alignment
}
LATHE_KERNEL(matrix_alignment, Args, 32) {
  shared_store_u32(thread_index() * 4, 0);
  warp_sync();
  u32 r[4];
  load_matrix_x4(r, thread_index() == 9 ? 24 : 0);  // matrix_alignment
}

// ---- Asynchronous copies
LATHE_KERNEL(copy_not_waited, Args, 32) {
  const u32 t = thread_index();
  copy_async_16(t * 16, word(params.in, t * 4), true);  // copy_not_waited issued
  copy_async_commit();
  copy_async_wait<1>();
  global_store_u32(word(params.out, t), shared_load_u32(t * 16));  // copy_not_waited reads
  copy_async_wait<0>();
}
LATHE_KERNEL(copy_not_committed, Args, 32) {
  const u32 t = thread_index();
  copy_async_16(t * 16, word(params.in, t * 4), true);  // copy_not_committed issued
  copy_async_wait<0>();
  global_store_u32(word(params.out, t), shared_load_u32(t * 16));  // copy_not_committed reads
}
LATHE_KERNEL(copy_overwritten, Args, 32) {
  const u32 t = thread_index();
  copy_async_16(t * 16, word(params.in, t * 4), true);  // copy_overwritten issued
  shared_store_u32(t * 16 + 4, 1);  // copy_overwritten writes
}
LATHE_KERNEL(copy_left, Args, 32) {
  copy_async_16(thread_index() * 16, word(params.in, thread_index() * 4), true);  // copy_left
  copy_async_commit();
}
LATHE_KERNEL(copy_no_barrier, Args, 64) {
  const u32 t = thread_index();
  shared_store_vec16(t * 16, Vec16{{t, t, t, t}});
  block_barrier();
  copy_async_16(t * 16, word(params.in, t * 4), true);  // copy_no_barrier issued
  copy_async_commit();
  copy_async_wait<0>();
  global_store_u32(word(params.out, t), shared_load_u32((t ^ 32) * 16));  // copy_no_barrier reads
}
LATHE_KERNEL(copy_too_early, Args, 64) {
  const u32 t = thread_index();
  shared_store_vec16(t * 16, Vec16{{t, t, t, t}});
  block_barrier();
  const u32 x = shared_load_u32((t ^ 32) * 16);  // copy_too_early reads
  copy_async_16(t * 16, word(params.in, x % 64 * 4), true);  // copy_too_early issued
  copy_async_commit();
  copy_async_wait<0>();
}
LATHE_KERNEL(copy_source, Args, 32) {
  copy_async_16(thread_index() * 16, word(params.in, thread_index() * 4 + params.n), true);  // copy_source
  copy_async_commit();
  copy_async_wait<0>();
}

// ---- Global memory
LATHE_KERNEL(global_bounds, Args, 32) {
  global_store_u32(word(params.out, thread_index() + params.n), 0);  // global_bounds
}
LATHE_KERNEL(nowhere, Args, 32) {
  global_load_u32(nullptr);  // nowhere
}
LATHE_KERNEL(write_input, Args, 32) {
  global_store_u32(const_cast<u32*>(word(params.in, thread_index())), 0);  // write_input
}
LATHE_KERNEL(global_alignment, Args, 32) {
  global_load_vec16(word(params.in, thread_index() + 1));  // global_alignment
}
LATHE_KERNEL(race_output, Args, 32) {
  global_store_u32(word(params.out, thread_index()), block_index());  // race_output
}
LATHE_KERNEL(output_unwritten, Args, 32) {
  global_load_u32(word(params.out, thread_index()));  // output_unwritten
}
// Block 0 publishes, the others read when the counter shows it.
LATHE_KERNEL(no_release, Args, 32) {
  const u32 t = thread_index();
  if (block_index() == 0) {
    global_store_u32(word(params.work, 1 + t), t);  // no_release wrote
    warp_sync();
    if (t == 0) atomic_add_relaxed(word(params.work, 0), 1);
  } else {
    spin_until([&] { return load_acquire(word(params.work, 0)) != 0; });
    global_store_u32(word(params.out, t), global_load_u32(word(params.work, 1 + t)));  // no_release reads
  }
}
LATHE_KERNEL(no_acquire, Args, 32) {
  const u32 t = thread_index();
  if (block_index() == 0) {
    global_store_u32(word(params.work, 1 + t), t);  // no_acquire wrote
    warp_sync();
    if (t == 0) store_release(word(params.work, 0), 1);
  } else {
    spin_until([&] { return load_relaxed(word(params.work, 0)) != 0; });
    global_store_u32(word(params.out, t), global_load_u32(word(params.work, 1 + t)));  // no_acquire reads
  }
}
// The lane that releases has not synchronised with the lanes that wrote.
LATHE_KERNEL(release_of_one_lane, Args, 32) {
  const u32 t = thread_index();
  if (block_index() == 0) {
    global_store_u32(word(params.work, 1 + t), t);  // release_of_one_lane wrote
    if (vote_any(true) && t == 0) store_release(word(params.work, 0), 1);
  } else {
    spin_until([&] { return load_acquire(word(params.work, 0)) != 0; });
    global_store_u32(word(params.out, t), global_load_u32(word(params.work, 1 + t)));  // release_of_one_lane reads
  }
}
// One lane acquires; the others must meet it before they read.
LATHE_KERNEL(acquire_of_one_lane, Args, 32) {
  const u32 t = thread_index();
  if (block_index() == 0) {
    global_store_u32(word(params.work, 1 + t), t);  // acquire_of_one_lane wrote
    warp_sync();
    if (t == 0) store_release(word(params.work, 0), 1);
  } else {
    if (t == 0) spin_until([&] { return load_acquire(word(params.work, 0)) != 0; });
    vote_any(true);
    global_store_u32(word(params.out, t), global_load_u32(word(params.work, 1 + t)));  // acquire_of_one_lane reads
  }
}
LATHE_KERNEL(store_after_release, Args, 32) {
  const u32 t = thread_index();
  if (block_index() == 0) {
    if (t == 0) {
      store_release(word(params.work, 0), 1);
      global_store_u32(word(params.work, 1), t);  // store_after_release wrote
    }
  } else {
    spin_until([&] { return load_acquire(word(params.work, 0)) != 0; });
    if (t == 0) global_store_u32(word(params.out, t), global_load_u32(word(params.work, 1)));  // store_after_release reads
  }
}
LATHE_KERNEL(plain_counter, Args, 32) {
  if (thread_index() == 0) global_store_u32(word(params.work, 0), global_load_u32(word(params.work, 0)) + 1);  // plain_counter
}
LATHE_KERNEL(scratch_unwritten, Args, 32) {
  global_load_u32(word(params.work, thread_index()));  // scratch_unwritten
}

// ---- Divergence and waiting
LATHE_KERNEL(different_calls, Args, 32) {
  if (thread_index() < 16) {
    warp_sync();  // different_calls sync
  } else {
    vote_any(true);  // different_calls vote
  }
}
LATHE_KERNEL(different_barriers, Args, 32) {
  if (thread_index() % 2 == 0) {
    block_barrier();  // different_barriers even
  } else {
    block_barrier();  // different_barriers odd
  }
}
LATHE_KERNEL(ends_in_warp, Args, 32) {
  if (thread_index() != 3) warp_sync();  // ends_in_warp
}
LATHE_KERNEL(ends_in_block, Args, 64) {
  if (warp_index() == 0) block_barrier();  // ends_in_block
}
LATHE_KERNEL(named_deadlock, Args, 64) {
  if (warp_index() == 0) named_barrier(3, 64);  // named_deadlock
}
LATHE_KERNEL(named_twice, Args, 64) {
  if (warp_index() == 0) {
    named_barrier_arrive(3, 64);
    named_barrier_arrive(3, 64);  // named_twice
  }
}
LATHE_KERNEL(named_counts, Args, 96) {
  if (warp_index() < 2) named_barrier(3, warp_index() == 0 ? 96 : 64);  // named_counts
}
LATHE_KERNEL(named_id, Args, 32) {
  named_barrier(params.n, 32);  // named_id
}
LATHE_KERNEL(spin_forever, Args, 32) {
  spin_until([&] { return load_acquire(word(params.work, 0)) != 0; });  // spin_forever
}
LATHE_KERNEL(endless, Args, 32) {
  for (;;) warp_sync();  // endless
}
LATHE_KERNEL(traps, Args, 32) {
  if (thread_index() == 4) trap();  // traps
}
)");
  return instance;
}

// Far enough apart that what lies behind one is not another.
std::vector<uint32_t> words(size_t n) {
  std::vector<uint32_t> out;
  out.reserve(16 * n);
  out.resize(n);
  return out;
}

Memory some_memory() {
  return {.in = words(256), .out = words(256), .work = words(64)};
}

struct Case {
  const char* name;
  Shape shape;
  std::vector<std::string> texts;
  std::vector<std::string> places;  // markers
  uint32_t n = 0;
  BufferArg::Use work_use = BufferArg::Use::workspace;
  bool always = false;  // found without the checks too
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.name;
}

class Faults : public ::testing::TestWithParam<Case> {};

TEST_P(Faults, AreNamedUnderEverySeed) {
  const Case& c = GetParam();
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Memory memory = some_memory();
    memory.work_use = c.work_use;
    SimtOptions options = checked(seed);
    options.step_limit = 200'000;
    auto outcome = run(probe(), c.name, memory, c.shape, options, c.n);
    ASSERT_EQ(outcome.status.code(), Code::launch_failed) << "seed " << seed << ": " << outcome.status.to_string();
    for (const std::string& text : c.texts) ASSERT_THAT(outcome.status.message(), HasSubstr(text)) << "seed " << seed;
    for (const std::string& marker : c.places)
      ASSERT_THAT(outcome.status.message(), HasSubstr(probe().place(marker))) << "seed " << seed;
  }
}

TEST_P(Faults, AreFoundWithoutChecksWhereTheyProtectTheProcess) {
  const Case& c = GetParam();
  if (!c.always) return;
  for (int threads : {1, 2}) {
    Memory memory = some_memory();
    SimtOptions options = unchecked(threads);
    options.step_limit = 200'000;
    auto outcome = run(probe(), c.name, memory, c.shape, options, c.n);
    ASSERT_EQ(outcome.status.code(), Code::launch_failed) << outcome.status.to_string();
    for (const std::string& text : c.texts) ASSERT_THAT(outcome.status.message(), HasSubstr(text));
  }
}

const Shape kTwoWarps{.threads = 64, .shared = 1024};
const Shape kOneWarp{.threads = 32, .shared = 1024};
const Shape kResident{.grid = 3, .threads = 32, .resident = true};

INSTANTIATE_TEST_SUITE_P(
    All, Faults,
    ::testing::Values(
        Case{"race_read", kTwoWarps, {"race on shared memory at offset 0x"}, {"race_read wrote", "race_read reads"}},
        Case{"race_write", kTwoWarps, {"race on shared memory"}, {"race_write reads", "race_write wrote"}},
        Case{"race_write_write", kTwoWarps, {"race on shared memory at offset 0x", "writes"}, {"race_write_write"}},
        Case{"race_in_warp", kOneWarp, {"race on shared memory"}, {"race_in_warp wrote", "race_in_warp reads"}},
        Case{"race_matrix", kOneWarp, {"race on shared memory"}, {"race_matrix wrote", "race_matrix reads"}},
        Case{"race_after_matrix", kTwoWarps, {"race on shared memory"}, {"race_after_matrix reads", "race_after_matrix writes"}},
        Case{"uninitialised", kOneWarp, {"uninitialised shared memory at offset 0x14", "block 0, thread 5"}, {"uninitialised"}},
        Case{.name = "shared_bounds",
             .shape = kOneWarp,
             .texts = {"out of bounds: shared offset 0x400 for 4 bytes, the block has 1024 bytes", "thread 31"},
             .places = {"shared_bounds"},
             .n = 225,
             .always = true},
        Case{.name = "shared_alignment",
             .shape = kOneWarp,
             .texts = {"misaligned shared address"},
             .places = {"shared_alignment"},
             .always = true},
        Case{.name = "matrix_alignment",
             .shape = kOneWarp,
             .texts = {"ldmatrix row at offset 0x18"},
             .places = {"matrix_alignment"},
             .always = true},
        Case{
            "copy_not_waited", kOneWarp, {"asynchronous copy not waited for"}, {"copy_not_waited issued", "copy_not_waited reads"}},
        Case{"copy_not_committed",
             kOneWarp,
             {"asynchronous copy not waited for"},
             {"copy_not_committed issued", "copy_not_committed reads"}},
        Case{"copy_overwritten",
             kOneWarp,
             {"asynchronous copy not waited for"},
             {"copy_overwritten issued", "copy_overwritten writes"}},
        Case{"copy_left", kOneWarp, {"ends while its asynchronous copies are under way"}, {"copy_left"}},
        Case{"copy_no_barrier", kTwoWarps, {"shared memory at offset"}, {"copy_no_barrier issued", "copy_no_barrier reads"}},
        Case{"copy_too_early", kTwoWarps, {"shared memory at offset"}, {"copy_too_early issued", "copy_too_early reads"}},
        Case{.name = "copy_source",
             .shape = kOneWarp,
             .texts = {"out of bounds", " of in, which has 1024 bytes"},
             .places = {"copy_source"},
             .n = 132,
             .always = true}),
    [](const auto& test) { return std::string(test.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Global, Faults,
    ::testing::Values(
        Case{.name = "global_bounds",
             .shape = kOneWarp,
             .texts = {"out of bounds: 4 bytes at byte 1024 of out, which has 1024 bytes"},
             .places = {"global_bounds"},
             .n = 225,
             .always = true},
        Case{.name = "nowhere", .shape = kOneWarp, .texts = {"out of bounds"}, .places = {"nowhere"}, .always = true},
        Case{.name = "write_input", .shape = kOneWarp, .texts = {"write to input in"}, .places = {"write_input"}, .always = true},
        Case{.name = "global_alignment",
             .shape = kOneWarp,
             .texts = {"misaligned address: 16 bytes"},
             .places = {"global_alignment"},
             .always = true},
        Case{"race_output", {.grid = 2, .threads = 32}, {"race on out at byte", "writes", "wrote"}, {"race_output"}},
        Case{"output_unwritten", kOneWarp, {"uninitialised out at byte"}, {"output_unwritten"}},
        Case{"no_release", kResident, {"race on work at byte"}, {"no_release wrote", "no_release reads"}},
        Case{"no_acquire", kResident, {"race on work at byte"}, {"no_acquire wrote", "no_acquire reads"}},
        Case{
            "release_of_one_lane", kResident, {"race on work at byte"}, {"release_of_one_lane wrote", "release_of_one_lane reads"}},
        Case{
            "acquire_of_one_lane", kResident, {"race on work at byte"}, {"acquire_of_one_lane wrote", "acquire_of_one_lane reads"}},
        Case{"store_after_release",
             kResident,
             {"race on work at byte 4"},
             {"store_after_release wrote", "store_after_release reads"}},
        Case{"plain_counter", {.grid = 2, .threads = 32}, {"race on work at byte 0"}, {"plain_counter"}},
        Case{.name = "scratch_unwritten",
             .shape = kOneWarp,
             .texts = {"uninitialised work at byte"},
             .places = {"scratch_unwritten"},
             .work_use = BufferArg::Use::scratch}),
    [](const auto& test) { return std::string(test.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Waiting, Faults,
    ::testing::Values(
        Case{.name = "different_calls",
             .shape = kOneWarp,
             .texts = {"divergence", "warp_sync", "vote_any"},
             .places = {"different_calls sync", "different_calls vote"},
             .always = true},
        Case{
            "different_barriers", kOneWarp, {"divergence", "block_barrier"}, {"different_barriers even", "different_barriers odd"}},
        Case{.name = "ends_in_warp", .shape = kOneWarp, .texts = {"divergence"}, .places = {"ends_in_warp"}, .always = true},
        Case{.name = "ends_in_block", .shape = kTwoWarps, .texts = {"divergence"}, .places = {"ends_in_block"}, .always = true},
        Case{.name = "named_deadlock",
             .shape = kTwoWarps,
             .texts = {"deadlock", "block 0, warp 0, all lanes wait in named_barrier"},
             .places = {"named_deadlock"},
             .always = true},
        Case{.name = "named_twice", .shape = kTwoWarps, .texts = {"met twice"}, .places = {"named_twice"}, .always = true},
        Case{"named_counts", {.threads = 96}, {"is used for", "threads at once"}, {"named_counts"}},
        Case{.name = "named_id",
             .shape = kOneWarp,
             .texts = {"bad barrier: id 16"},
             .places = {"named_id"},
             .n = 16,
             .always = true},
        Case{.name = "spin_forever",
             .shape = kResident,
             .texts = {"deadlock", "block 0, warp 0, all lanes wait in spin_until", "block 2, warp 0"},
             .places = {"spin_forever"},
             .always = true},
        Case{"spin_forever", kOneWarp, {"spin_until in a grid that is not resident"}, {"spin_forever"}},
        Case{.name = "endless", .shape = kOneWarp, .texts = {"step limit reached"}, .places = {"endless"}, .always = true},
        Case{.name = "traps", .shape = kOneWarp, .texts = {"trap", "block 0, thread 4"}, .places = {"traps"}, .always = true}),
    [](const auto& test) { return std::string(test.param.name) + "_" + std::to_string(test.index); });

}  // namespace
}  // namespace lathe::testing
