#include "lathe/replay/simulate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "lathe/testing/seed.h"

namespace lathe {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Simulation simulation_of(std::span<const TraceRequest> trace, int32_t batch, int32_t chunk) {
  Result<Simulation> made = Simulation::make(trace, {batch, chunk});
  EXPECT_TRUE(made.ok()) << made.status().to_string();
  return *std::move(made);
}

void expect_step(Simulation& simulation, StepKind kind, const std::vector<int32_t>& requests, const std::vector<int32_t>& qo_lens,
                 const std::vector<int32_t>& kv_lens) {
  Step step;
  ASSERT_TRUE(simulation.next(step));
  SCOPED_TRACE("step " + std::to_string(step.index));
  EXPECT_STREQ(name_of(step.kind), name_of(kind));
  EXPECT_EQ(step.requests, requests);
  EXPECT_EQ(step.qo_lens, qo_lens);
  EXPECT_EQ(step.kv_lens, kv_lens);
}

TEST(Simulation, ByHand) {
  const std::vector<TraceRequest> trace{{5, 3}, {12, 2}, {2, 1}};
  Simulation simulation = simulation_of(trace, 2, 8);
  expect_step(simulation, StepKind::mixed, {0, 1}, {5, 3}, {5, 3});   // request 0 has its first token
  expect_step(simulation, StepKind::mixed, {0, 1}, {1, 7}, {6, 10});  // its second
  expect_step(simulation, StepKind::mixed, {0, 1}, {1, 2}, {7, 12});  // its third, and request 1's first
  EXPECT_EQ(simulation.finished(), 1);
  expect_step(simulation, StepKind::mixed, {1, 2}, {1, 2}, {13, 2});  // request 2 is done with its input
  EXPECT_EQ(simulation.finished(), 3);
  Step step;
  EXPECT_FALSE(simulation.next(step));
}

TEST(Simulation, DecodeAndDrain) {
  const std::vector<TraceRequest> trace{{3, 2}, {3, 4}};
  Simulation simulation = simulation_of(trace, 2, 8);
  expect_step(simulation, StepKind::mixed, {0, 1}, {3, 3}, {3, 3});
  expect_step(simulation, StepKind::decode, {0, 1}, {1, 1}, {4, 4});
  expect_step(simulation, StepKind::drain, {1}, {1}, {5});
  expect_step(simulation, StepKind::drain, {1}, {1}, {6});
  Step step;
  EXPECT_FALSE(simulation.next(step));
}

TEST(Simulation, PromptsComputedElsewhere) {
  const std::vector<TraceRequest> trace{{3, 1}, {4, 3}, {0, 0}, {5, 2}};
  Simulation simulation = simulation_of(trace, 2, 0);
  expect_step(simulation, StepKind::decode, {1, 3}, {1, 1}, {5, 6});
  expect_step(simulation, StepKind::drain, {1}, {1}, {6});
  Step step;
  EXPECT_FALSE(simulation.next(step));
  EXPECT_EQ(simulation.finished(), 4);
}

TEST(Simulation, QueueIsInOrderOfArrival) {
  const std::vector<TraceRequest> trace{{3, 1, 7}, {4, 1, 5}, {5, 1, 7}};
  Simulation simulation = simulation_of(trace, 1, 16);
  expect_step(simulation, StepKind::mixed, {1}, {4}, {4});
  expect_step(simulation, StepKind::mixed, {0}, {3}, {3});
  expect_step(simulation, StepKind::mixed, {2}, {5}, {5});
}

TEST(Simulation, ResidentBlocksAreNotComputedAgain) {
  const std::vector<TraceRequest> trace{
      {1200, 1, 0, {7, 8, 9}},  // 9 is short: 176 tokens
      {1024, 1, 0, {7, 8}},     // all resident: the last token still is computed
      {1536, 1, 0, {7, 5, 8}},  // 8 is resident, but not at the end of a resident prefix
      {1300, 1, 0, {7, 8, 6}}, {1200, 1, 0, {7, 8, 9}},
  };
  Simulation simulation = simulation_of(trace, 1, 4096);
  expect_step(simulation, StepKind::mixed, {0}, {1200}, {1200});
  expect_step(simulation, StepKind::decode, {1}, {1}, {1024});
  expect_step(simulation, StepKind::mixed, {2}, {1024}, {1536});
  expect_step(simulation, StepKind::mixed, {3}, {276}, {1300});
  expect_step(simulation, StepKind::decode, {4}, {1}, {1200});
}

TEST(Simulation, BlocksAreResidentOnceComputed) {
  const std::vector<TraceRequest> trace{{1024, 9, 0, {1, 2}}, {1024, 9, 0, {1, 2}}};
  Simulation simulation = simulation_of(trace, 2, 600);
  expect_step(simulation, StepKind::mixed, {0}, {600}, {600});               // block 1 is complete, block 2 is not
  expect_step(simulation, StepKind::mixed, {0, 1}, {424, 1}, {1024, 1024});  // and now it is, in the same step already
  expect_step(simulation, StepKind::decode, {0, 1}, {1, 1}, {1025, 1025});
}

// Everything is computed exactly once, in order, and the rules of a step are kept.
TEST(Simulation, Random) {
  std::mt19937_64 rng(testing::seed());
  for (int run = 0; run < 200; ++run) {
    std::vector<TraceRequest> trace(1 + rng() % 60);
    for (TraceRequest& r : trace) {
      r.input = static_cast<int32_t>(rng() % 900);
      r.output = static_cast<int32_t>(rng() % 40);
      r.arrival_ms = static_cast<int64_t>(rng() % 5);
    }
    const auto batch = static_cast<int32_t>(1 + rng() % 20), chunk = static_cast<int32_t>(batch + rng() % 600);
    Simulation simulation = simulation_of(trace, batch, chunk);
    std::vector<int32_t> done(trace.size()), outputs(trace.size());
    Step step;
    int64_t steps = 0, arrived = 0;
    while (simulation.next(step)) {
      ASSERT_EQ(step.index, steps++);
      ASSERT_LE(step.requests.size(), static_cast<size_t>(batch));
      ASSERT_LE(std::accumulate(step.qo_lens.begin(), step.qo_lens.end(), 0), chunk);
      for (size_t i = 0; i < step.requests.size(); ++i) {
        const int32_t r = step.requests[i];
        const int32_t input = std::max(trace[r].input, 1);
        arrived += done[r] == 0 ? 1 : 0;
        ASSERT_GE(step.qo_lens[i], 1);
        if (done[r] >= input) {
          ASSERT_EQ(step.qo_lens[i], 1);
        }
        done[r] += step.qo_lens[i];
        ASSERT_EQ(step.kv_lens[i], done[r]);
        if (done[r] >= input) ++outputs[r];
        ASSERT_LE(done[r], input + std::max(trace[r].output - 1, 0));
      }
      if (step.kind == StepKind::decode) {
        ASSERT_EQ(*std::ranges::max_element(step.qo_lens), 1);
      }
      if (step.kind == StepKind::drain) {
        ASSERT_GT(simulation.finished() + batch, static_cast<int64_t>(trace.size()));
      }
    }
    EXPECT_EQ(arrived, static_cast<int64_t>(trace.size()));
    EXPECT_EQ(simulation.finished(), static_cast<int64_t>(trace.size()));
    for (size_t r = 0; r < trace.size(); ++r) EXPECT_EQ(outputs[r], std::max(trace[r].output, 1)) << testing::repeat_command();
  }
}

TEST(Simulation, RefusesOptionsByName) {
  const std::vector<TraceRequest> trace{{1, 1}};
  EXPECT_THAT(Simulation::make(trace, {0, -1}).status().to_string(), AllOf(HasSubstr("batch: 0"), HasSubstr("chunk: -1")));
  EXPECT_THAT(Simulation::make(trace, {64, 63}).status().to_string(), HasSubstr("chunk: 63"));
  EXPECT_TRUE(Simulation::make(trace, {64, 64}).ok());
}

}  // namespace
}  // namespace lathe
