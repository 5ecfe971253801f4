// Calibration on the fake driver: launches there take what a plan's items cost by planted costs, which are found again; plans
// follow a costs file of their device, and none other.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <mutex>
#include <random>

#include "cubin_compiler.h"
#include "cuda_support.h"
#include "lathe/abi/attention.h"
#include "lathe/api/attention.h"
#include "lathe/api/calibrate.h"
#include "lathe/api/device_costs.h"
#include "lathe/base/log.h"
#include "lathe/plan/attention_image.h"
#include "lathe/testing/seed.h"
#include "lathe/testing/temp_dir.h"

namespace lathe::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

AttentionSpec spec_of(int32_t head_dim) {
  AttentionSpec spec;
  spec.group_size = 4;
  spec.head_dim_qk = spec.head_dim_vo = head_dim;
  return spec;
}

/// A GPU by the planner's own idea of one.
class ModelGpu {
 public:
  ModelGpu(const CalibratedCosts& costs, int32_t num_sms, double noise) : costs_(costs), num_sms_(num_sms), noise_(0, noise) {
    for (int32_t dim : {64, 128}) tiles_[dim] = resolve_tile(spec_of(dim), *arch_traits("sm_90a"))->classes;
  }

  double microseconds(const fake::LaunchRecord& launch) {
    abi::AttentionParams params;
    std::memcpy(&params, launch.params.data(), sizeof params);
    const auto* image = static_cast<const std::byte*>(params.plan);
    abi::AttentionPlanHeader header;
    std::memcpy(&header, image, sizeof header);
    const PlanView view = view_plan({image, static_cast<size_t>(header.bytes)});
    const auto dim = static_cast<int32_t>(params.q_stride_head / 2);
    const double share = double(launch.grid[0]) / num_sms_;
    const bool cached = view.requests[0].qo_len > 1;
    std::vector<double> load(launch.grid[0], 0);
    for_each_item(view, [&](int cta, const abi::AttentionWorkItem& item) {
      const int rows = tiles_.at(dim)[static_cast<size_t>(item.tile_class)].q;
      const double key_dims = 2.0 * dim * (item.kv_end - item.kv_begin) * share;
      load[static_cast<size_t>(cta)] += item.num_heads * (costs_.item + (item.partial_row >= 0 ? costs_.partial : 0) +
                                                          key_dims * (cached ? costs_.fragment_dim * rows / 16 : 2 * costs_.byte));
    });
    return (1 + noise_(rng_)) * (3 + *std::max_element(load.begin(), load.end()) / 1e6);
  }

 private:
  CalibratedCosts costs_;
  int32_t num_sms_;
  std::map<int32_t, std::vector<TileClass>> tiles_;
  std::mt19937_64 rng_{seed()};
  std::normal_distribution<double> noise_;
};

class Calibrate : public CudaTest {
 protected:
  Calibrate() {
    EngineOptions options;
    options.cache.mode = CacheMode::off;
    options.compiler = std::make_shared<CubinCompiler>();
    engine = std::make_unique<Engine>(options);
    small.keys_per_block = 1024;
    small.timing = {.warmup = 0, .repeats = 5, .flush_bytes = 4096};
    set_log_callback([this](LogLevel level, std::string_view message) {
      const std::lock_guard lock(mutex);
      if (level == LogLevel::warning) warnings.emplace_back(message);
    });
    unsetenv("LATHE_COSTS");
  }
  ~Calibrate() override {
    set_log_callback({});
    unsetenv("LATHE_COSTS");
  }

  // A file of the device's stamp with a hundred microseconds for an item, so that less is worth cutting.
  std::string write_costs(const DeviceInfo& device) const {
    CostsStamp stamp = costs_stamp(device, "today");
    return write(costs_to_json(stamp, fit, {}));
  }
  std::string write(const std::string& text) const {
    std::ofstream(folder / "costs.json", std::ios::binary) << text;
    return (folder / "costs.json").string();
  }
  AttentionCosts prepared_costs(const std::shared_ptr<Device>& device) const {
    auto attention = Attention::prepare(*engine, device, spec_of(128));
    EXPECT_TRUE(attention.ok()) << attention.status().to_string();
    return attention.ok() ? attention->plan_shape(8).costs : AttentionCosts{};
  }
  AttentionCosts estimates(const DeviceInfo& info) const {
    return attention_costs(*arch_traits(info.arch), info.num_sms, info.num_sms);
  }

  TempDir folder;
  std::unique_ptr<Engine> engine;
  CalibrateOptions small;
  CalibrationFit fit{{50, 12, 99e6, 2e6}, 3e6, {}, 0.01, 0.02};
  std::mutex mutex;
  std::vector<std::string> warnings;
};

TEST_F(Calibrate, FindsWhatTheGpuCosts) {
  const CalibratedCosts planted{40, 14, 1.1e6, 0.7e6};
  for (int sms : {132, 20, 142}) {
    start({.sms = sms});
    ModelGpu gpu(planted, sms, 0.005);
    fake::launch_time([&](const fake::LaunchRecord& launch) { return gpu.microseconds(launch); });
    const auto samples = measure_attention_costs(*engine, open(), small);
    ASSERT_TRUE(samples.ok()) << samples.status().to_string();
    const Result<CalibrationFit> found = fit_attention_costs(*samples);
    ASSERT_TRUE(found.ok()) << sms << " multiprocessors: " << found.status().to_string();
    EXPECT_NEAR(found->costs.byte / planted.byte, 1, 0.05) << repeat_command();
    EXPECT_NEAR(found->costs.fragment_dim / planted.fragment_dim, 1, 0.05) << repeat_command();
    EXPECT_NEAR(found->costs.item / planted.item, 1, 0.05) << repeat_command();
    EXPECT_NEAR(found->costs.partial / planted.partial, 1, 0.05) << repeat_command();
    EXPECT_LT(found->rms, 0.01) << repeat_command();
  }
}

TEST_F(Calibrate, TimesThatTellNothingAreRefused) {
  const auto samples = measure_attention_costs(*engine, open(), small);  // every launch takes 10 us
  ASSERT_TRUE(samples.ok()) << samples.status().to_string();
  EXPECT_EQ(fit_attention_costs(*samples).status().code(), Code::invalid_argument);
}

TEST_F(Calibrate, TroubleOnTheWayIsReported) {
  fake::fail("cuEventRecord", 700, 40);
  EXPECT_EQ(measure_attention_costs(*engine, open(), small).status().code(), Code::device_lost);
  expect_clean = false;
}

TEST_F(Calibrate, ArgumentsAreChecked) {
  const auto refusal = [&](const std::shared_ptr<Device>& device, const CalibrateOptions& options) {
    return measure_attention_costs(*engine, device, options).status().to_string();
  };
  EXPECT_THAT(refusal(nullptr, small), HasSubstr("device: is null"));
  EXPECT_THAT(refusal(host_device(), small), HasSubstr("host executor"));
  for (int32_t keys : {0, -8192, 512, 1025, 1 << 21}) {
    CalibrateOptions options = small;
    options.keys_per_block = keys;
    EXPECT_THAT(refusal(open(), options), HasSubstr("keys_per_block: is " + std::to_string(keys)));
  }
  CalibrateOptions options = small;
  options.timing.repeats = 0;
  EXPECT_THAT(refusal(open(), options), HasSubstr("timing.repeats: is 0"));
}

TEST_F(Calibrate, PlansFollowTheFile) {
  const auto device = open();
  const auto items = [&] {
    auto attention = Attention::prepare(*engine, device, spec_of(128));
    EXPECT_TRUE(attention.ok());
    const std::vector<int32_t> qo_indptr{0, 1}, kv_indptr{0, 64}, last_page_len{16};
    AttentionBatch batch;
    batch.qo_indptr = qo_indptr, batch.kv_indptr = kv_indptr, batch.last_page_len = last_page_len;
    return attention->plan(batch, 8)->plan.num_items;
  };
  const int32_t by_estimates = items();
  EXPECT_EQ(prepared_costs(device).item, estimates(device->info()).item);
  setenv("LATHE_COSTS", write_costs(device->info()).c_str(), 1);
  const AttentionCosts costs = prepared_costs(device);
  EXPECT_EQ(costs.item, 99'000'000);
  EXPECT_EQ(costs.partial, 2'000'000);
  EXPECT_EQ(costs.byte % 50, 0) << "one or two blocks on each multiprocessor";
  EXPECT_LT(items(), by_estimates) << "at that price less is cut";
  EXPECT_THAT(warnings, IsEmpty());
}

TEST_F(Calibrate, AFileOfAnotherDeviceIsNotUsed) {
  start({.sms = 108});
  setenv("LATHE_COSTS", write_costs(open()->info()).c_str(), 1);
  start({});
  const auto device = open();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(prepared_costs(device).item, estimates(device->info()).item);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_THAT(warnings[0], AllOf(HasSubstr("is not used"), HasSubstr("device.multiprocessors: is 108, here 132")));
}

TEST_F(Calibrate, EveryPartOfTheStampCounts) {
  const DeviceInfo info = open()->info();
  EXPECT_TRUE(check_stamp(costs_stamp(info, "today"), info).ok());
  const auto refusal = [&](auto change) {
    CostsStamp stamp = costs_stamp(info, "today");
    change(stamp);
    return check_stamp(stamp, info).to_string();
  };
  EXPECT_THAT(refusal([](CostsStamp& s) { s.lathe = "0.0.9"; }), HasSubstr("lathe: is 0.0.9, here "));
  EXPECT_THAT(refusal([](CostsStamp& s) { s.device = "Another"; }), HasSubstr("device.name: is Another, here " + info.name));
  EXPECT_THAT(refusal([](CostsStamp& s) { s.arch = "sm_80"; }), HasSubstr("device.arch: is sm_80, here " + info.arch));
  EXPECT_EQ(refusal([](CostsStamp& s) { s.driver = "newer"; }), "ok");
}

TEST_F(Calibrate, TheHostExecutorKeepsItsEstimates) {
  setenv("LATHE_COSTS", write_costs(open()->info()).c_str(), 1);
  const auto host = host_device();
  const AttentionCosts costs = device_costs(host->info(), *arch_traits("host"), host->info().num_sms);
  EXPECT_EQ(costs.item, estimates(host->info()).item);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_THAT(warnings[0], HasSubstr("here host"));
}

TEST_F(Calibrate, FilesThatCannotBeReadAreNotUsed) {
  const DeviceInfo info = open()->info();
  const auto warning = [&](const std::string& path) {
    setenv("LATHE_COSTS", path.c_str(), 1);
    warnings.clear();
    EXPECT_EQ(device_costs(info, *arch_traits(info.arch), info.num_sms).item, estimates(info).item);
    EXPECT_EQ(warnings.size(), 1u) << path;
    return warnings.empty() ? "" : warnings[0];
  };
  EXPECT_THAT(warning((folder / "none").string()), HasSubstr("cannot be read: No such file"));
  EXPECT_THAT(warning(folder.path().string()), HasSubstr("not a regular file"));
  EXPECT_THAT(warning("/dev/zero"), HasSubstr("not a regular file"));
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(warning((folder / "pipe").string()), HasSubstr("not a regular file"));
  const auto with = [&](const std::string& name, const std::string& text) {
    std::ofstream(folder / name, std::ios::binary) << text;
    return warning((folder / name).string());
  };
  EXPECT_THAT(with("empty", ""), HasSubstr("not JSON"));
  EXPECT_THAT(with("long", std::string(kMaxCostsFileBytes + 1, ' ')), HasSubstr("at most 1048576 are read"));
  const std::string text = costs_to_json(costs_stamp(info, "today"), fit, {});
  EXPECT_THAT(with("half", text.substr(0, text.size() / 2)), HasSubstr("not JSON"));
  fit.costs.byte = -3;
  EXPECT_THAT(with("negative", costs_to_json(costs_stamp(info, "today"), fit, {})), HasSubstr("byte: is -3 ps"));
}

}  // namespace
}  // namespace lathe::testing
