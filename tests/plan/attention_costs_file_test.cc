// The costs file: what is written is read again; what is not sound is refused by name.
#include "lathe/plan/attention_costs_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Json = nlohmann::json;

const CostsStamp kStamp{"0.1.0", "NVIDIA H100 80GB HBM3", "sm_90a", 132, "CUDA driver 13.0", "2026-01-02T03:04:05Z"};
const CalibratedCosts kCosts{43.61, 11.27, 1'412'345.5, 1'012'345.25};

std::string sample_text() {
  CalibrationFit fit;
  fit.costs = kCosts;
  fit.launch = 4e6;
  fit.predicted = {51e6};
  fit.rms = 0.02, fit.worst = 0.02;
  const CalibrationSample sample{"decode \xff", false, 2, 0, 1e6, 1e6, 50e6};  // not UTF-8: must not stop the writer
  return costs_to_json(kStamp, fit, std::vector{sample});
}

std::string refusal(const std::string& text) {
  const Result<CostsFile> file = costs_from_json(text);
  EXPECT_FALSE(file.ok()) << text;
  return file.status().to_string();
}

TEST(CostsFile, IsReadAsItWasWritten) {
  const Result<CostsFile> file = costs_from_json(sample_text());
  ASSERT_TRUE(file.ok()) << file.status().to_string();
  EXPECT_EQ(file->stamp.lathe, kStamp.lathe);
  EXPECT_EQ(file->stamp.device, kStamp.device);
  EXPECT_EQ(file->stamp.arch, kStamp.arch);
  EXPECT_EQ(file->stamp.multiprocessors, kStamp.multiprocessors);
  EXPECT_EQ(file->stamp.driver, kStamp.driver);
  EXPECT_EQ(file->stamp.date, kStamp.date);
  EXPECT_EQ(file->costs.byte, kCosts.byte);
  EXPECT_EQ(file->costs.fragment_dim, kCosts.fragment_dim);
  EXPECT_EQ(file->costs.item, kCosts.item);
  EXPECT_EQ(file->costs.partial, kCosts.partial);
  const Json json = Json::parse(sample_text());
  EXPECT_EQ(json["samples"][0]["us"], 50);
  EXPECT_EQ(json["samples"][0]["fitted_us"], 51);
  EXPECT_EQ(json["fit"]["launch_us"], 4);
}

TEST(CostsFile, MeasurementsAreForPeople) {
  Json json = Json::parse(sample_text());
  json.erase("samples");
  json.erase("fit");
  json["note"] = "by hand";
  EXPECT_TRUE(costs_from_json(json.dump()).ok());
}

TEST(CostsFile, TruncatedIsRefusedAtEveryByte) {
  const std::string text = sample_text();
  for (size_t n = 0; n < text.size(); ++n) EXPECT_FALSE(costs_from_json(std::string_view(text).substr(0, n)).ok()) << n;
}

TEST(CostsFile, EveryFieldMustBeThereAndOfItsType) {
  for (const char* path :
       {"/lathe_costs", "/lathe", "/date", "/device", "/device/name", "/device/arch", "/device/multiprocessors", "/device/driver",
        "/costs", "/costs/byte_ps", "/costs/fragment_dim_ps", "/costs/item_ps", "/costs/partial_ps"}) {
    const Json::json_pointer at(path);
    const Json::json_pointer folder = at.parent_pointer();
    Json without = Json::parse(sample_text());
    without[folder].erase(at.back());
    EXPECT_THAT(refusal(without.dump()), HasSubstr(at.back())) << path;
    for (const Json& value : {Json(nullptr), Json(true), Json::array(), Json::array({1}), Json(Json::value_t::object), Json(-1),
                              Json(std::string("7")), Json("")}) {
      Json wrong = Json::parse(sample_text());
      const bool fits = wrong[at].is_string() && value.is_string() && value != "" && at.back() != "arch";
      wrong[at] = value;
      if (!fits) refusal(wrong.dump());
    }
  }
}

TEST(CostsFile, AbsurdCostsAreRefused) {
  for (const char* name : {"byte_ps", "fragment_dim_ps", "item_ps", "partial_ps"}) {
    for (double value : {0.0, -5.0, 1e-300, 0.5, 1e9, 1e300}) {
      Json json = Json::parse(sample_text());
      json["costs"][name] = value;
      EXPECT_THAT(refusal(json.dump()), HasSubstr("no GPU is outside")) << name << value;
    }
  }
  std::string text = sample_text();
  text.replace(text.find("43.61"), 5, "1e999");
  refusal(text);
}

TEST(CostsFile, AbsurdStampsAreRefused) {
  const auto with = [](const char* path, const Json& value) {
    Json json = Json::parse(sample_text());
    json[Json::json_pointer(path)] = value;
    return refusal(json.dump());
  };
  EXPECT_THAT(with("/device/arch", "host"), HasSubstr("must be a GPU's"));
  EXPECT_THAT(with("/device/arch", "sm_12345"), HasSubstr("device.arch"));
  EXPECT_THAT(with("/device/name", std::string(257, 'x')), HasSubstr("1..256"));
  EXPECT_THAT(with("/device/name", "line\nbreak"), HasSubstr("device.name"));
  EXPECT_THAT(with("/device/multiprocessors", 0), HasSubstr("1..65536"));
  EXPECT_THAT(with("/device/multiprocessors", 1.5), HasSubstr("whole number"));
  EXPECT_THAT(with("/device/multiprocessors", 1e18), HasSubstr("whole number"));
  EXPECT_THAT(with("/lathe_costs", 2), HasSubstr("\"lathe_costs\": 1"));
  EXPECT_THAT(with("/lathe_costs", 1.0), HasSubstr("\"lathe_costs\": 1"));
}

TEST(CostsFile, TextsThatAreNoCostsFile) {
  EXPECT_THAT(refusal("[]"), HasSubstr("must hold an object"));
  EXPECT_THAT(refusal("{}"), HasSubstr("lathe_costs"));
  EXPECT_THAT(refusal("hello"), HasSubstr("not JSON"));
  EXPECT_THAT(refusal(std::string(kMaxCostsFileBytes + 1, ' ')), HasSubstr("at most 1048576"));
  EXPECT_THAT(refusal(std::string(1000, '[')), HasSubstr("not JSON"));
  EXPECT_THAT(refusal(R"({"lathe_costs": 1, "lathe_costs": 1})"), HasSubstr("not JSON"));
  EXPECT_THAT(refusal(R"({"lathe_costs": 1})"), AllOf(HasSubstr("lathe: "), HasSubstr("device: "), HasSubstr("costs: ")));
}

TEST(CostsFile, DamagedBytesNeverYieldCostsOutOfBounds) {
  std::mt19937_64 rng(seed());
  int read = 0;
  for (int i = 0; i < 5000; ++i) {
    std::string text = sample_text();
    for (int n = 0; n < 1 + i % 3; ++n) text[rng() % text.size()] = static_cast<char>(rng());
    const Result<CostsFile> file = costs_from_json(text);
    if (!file.ok()) continue;
    ++read;
    EXPECT_TRUE(check_costs(file->costs).ok()) << text;
    EXPECT_GE(file->stamp.multiprocessors, 1);
  }
  EXPECT_GT(read, 0);
  EXPECT_LT(read, 5000);
}

}  // namespace
}  // namespace lathe::testing
