// The schedule's promises, on lengths drawn from quantiles of public traces and on laws that are hard to balance;
// bench/plan/replay.py holds whole traces against the same bounds.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <random>
#include <string_view>

#include "lathe/replay/policies.h"
#include "lathe/replay/simulate.h"
#include "lathe/replay/summary.h"
#include "lathe/replay/synthetic.h"

namespace lathe {
namespace {

constexpr PolicyShape kLlama{.num_qo_heads = 32, .num_kv_heads = 8, .head_dim = 128, .page_size = 16, .num_sms = 132};
constexpr int64_t kSteps = 3000;  // of each kind looked at
constexpr size_t kRequests = 20000;
constexpr int kCheckedEvery = 37;
constexpr uint64_t kSeed = 1;  // fixed: a figure near its bound must not fail by chance

struct Limits {
  int32_t batch;
  double imbalance_p50, imbalance_p99, decode_loss_p99;
};
constexpr Limits kLimits[] = {{16, 1.02, 1.05, 1.25}, {64, 1.02, 1.05, 1.12}, {256, 1.02, 1.05, 1.08}};

class Bounds : public ::testing::Test {
 protected:
  Bounds() {
    auto made = make_policy(PolicyKind::ours, kLlama);
    EXPECT_TRUE(made.ok()) << made.status().to_string();
    ours_ = *std::move(made);
  }

  void add(const Step& step, Figures& figures) {
    const auto timed = ours_->assign({step.qo_lens, step.kv_lens}, assignment_);
    ASSERT_TRUE(timed.ok()) << timed.status().to_string();
    const EvaluatedBatch batch = kLlama.batch(step.qo_lens, step.kv_lens);
    if (step.index % kCheckedEvery == 0) {
      ASSERT_EQ(coverage_problem(batch, assignment_), "");
    }
    figures.add(evaluate(batch, assignment_), timed->plan_us, assignment_.workspace_bytes);
  }

  // Steps of a simulation of `batch` slots, from a time on when the first requests are gone.
  PolicyFigures replay(const TraceQuantiles& quantiles, int32_t batch, int32_t chunk, std::mt19937_64& rng) {
    const std::vector<TraceRequest> trace = draw_requests(quantiles, kRequests, rng);
    PolicyFigures figures;
    auto simulation = Simulation::make(trace, {batch, chunk});
    EXPECT_TRUE(simulation.ok()) << simulation.status().to_string();
    Step step;
    // Neighbours are alike, so only some are looked at.
    while (simulation->next(step) && step.kind != StepKind::drain && figures[step.kind].steps() < kSteps) {
      if (simulation->finished() < batch || rng() % 4 != 0) continue;
      add(step, figures[step.kind]);
    }
    return figures;
  }

  std::unique_ptr<Policy> ours_;
  Assignment assignment_;
};

void print(const char* name, int32_t batch, const char* kind, const Figures& f) {
  std::printf("%-22s batch %3d %-6s %4lld steps: imbalance %.3f %.3f %.3f, efficiency loss %.3f %.3f %.3f (p50, p99, max)\n", name,
              batch, kind, static_cast<long long>(f.steps()), f.imbalance.quantile(0.5), f.imbalance.quantile(0.99),
              f.imbalance.quantile(1), f.efficiency_loss.quantile(0.5), f.efficiency_loss.quantile(0.99),
              f.efficiency_loss.quantile(1));
}

TEST_F(Bounds, TraceQuantiles) {
  std::mt19937_64 rng(kSeed);
  for (const TraceQuantiles& quantiles : published_quantiles()) {
    for (const Limits& limits : kLimits) {
      for (int32_t chunk : {2048, 0}) {
        const PolicyFigures figures = replay(quantiles, limits.batch, chunk, rng);
        for (StepKind kind : {StepKind::decode, StepKind::mixed}) {
          const Figures& f = figures[kind];
          if (f.steps() < 100) continue;  // too few for a p99: at large batches hardly a step has decodes only
          print(quantiles.name, limits.batch, name_of(kind), f);
          EXPECT_LE(f.imbalance.quantile(0.5), limits.imbalance_p50);
          EXPECT_LE(f.imbalance.quantile(0.99), limits.imbalance_p99);
          if (kind == StepKind::decode) {
            EXPECT_LE(f.efficiency_loss.quantile(0.99), limits.decode_loss_p99);
          }
        }
        EXPECT_GE(figures[chunk == 0 ? StepKind::decode : StepKind::mixed].steps(), 100);
      }
    }
  }
}

TEST_F(Bounds, HardLaws) {
  std::mt19937_64 rng(kSeed);
  for (SyntheticKind kind : {SyntheticKind::zipf, SyntheticKind::one_long}) {
    Figures figures;
    Step step;
    for (step.index = 0; step.index < kSteps; ++step.index) {
      step.kv_lens = synthetic_batch(kind, 64, 4096, rng);
      step.qo_lens.assign(step.kv_lens.size(), 1);
      add(step, figures);
    }
    print(kind == SyntheticKind::zipf ? "zipf, mean 4096" : "one 64k, rest 1k", 64, "decode", figures);
    EXPECT_LE(figures.imbalance.quantile(1), 1.03);
    EXPECT_LE(figures.efficiency_loss.quantile(1), 1.12);
  }
}

}  // namespace
}  // namespace lathe
