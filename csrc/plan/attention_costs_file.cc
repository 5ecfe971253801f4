#include "lathe/plan/attention_costs_file.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "lathe/spec/json_scan.h"
#include "lathe/spec/text.h"

namespace lathe {
namespace {

using Json = nlohmann::json;

constexpr int kFormat = 1;
constexpr size_t kMaxText = 256;
constexpr int32_t kMaxSms = 1 << 16;

// The object `name` of the file.
const Json* object_of(const Json& root, const char* name, Problems& problems) {
  const auto at = root.find(name);
  if (at != root.end() && at->is_object()) return &*at;
  problems.add(name, "must be an object");
  return nullptr;
}

std::string text_of(const Json& object, const std::string& folder, const char* name, Problems& problems) {
  const auto at = object.find(name);
  if (at != object.end() && at->is_string()) {
    auto text = at->get<std::string>();
    if (!text.empty() && text.size() <= kMaxText && fields::is_printable(text)) return text;
  }
  problems.add(folder + name, "must be a text of 1.." + std::to_string(kMaxText) + " printable bytes");
  return {};
}

double number_of(const Json& object, const std::string& folder, const char* name, Problems& problems) {
  const auto at = object.find(name);
  if (at != object.end() && at->is_number()) {
    const auto value = at->get<double>();
    if (std::isfinite(value)) return value;
  }
  problems.add(folder + name, "must be a number");
  return 0;
}

CostsStamp stamp_of(const Json& root, Problems& problems) {
  CostsStamp stamp;
  stamp.lathe = text_of(root, "", "lathe", problems);
  stamp.date = text_of(root, "", "date", problems);
  const Json* device = object_of(root, "device", problems);
  if (device == nullptr) return stamp;
  stamp.device = text_of(*device, "device.", "name", problems);
  stamp.arch = text_of(*device, "device.", "arch", problems);
  stamp.driver = text_of(*device, "device.", "driver", problems);
  if (!stamp.arch.empty() && (stamp.arch == "host" || !fields::is_arch_name(stamp.arch)))
    problems.add("device.arch", "is " + fields::in_quotes(stamp.arch) + "; must be a GPU's, as sm_90a");
  const double sms = number_of(*device, "device.", "multiprocessors", problems);
  if (sms >= 1 && sms <= kMaxSms && sms == std::floor(sms)) {
    stamp.multiprocessors = static_cast<int32_t>(sms);
  } else {
    problems.add("device.multiprocessors", "must be a whole number in 1.." + std::to_string(kMaxSms));
  }
  return stamp;
}

CalibratedCosts costs_of(const Json& root, Problems& problems) {
  const Json* costs = object_of(root, "costs", problems);
  if (costs == nullptr) return {};
  const auto number = [&](const char* name) { return number_of(*costs, "costs.", name, problems); };
  return {number("byte_ps"), number("fragment_dim_ps"), number("item_ps"), number("partial_ps")};
}

double to_thousandths(double value) {
  return std::round(value * 1000) / 1000;
}

}  // namespace

std::string costs_to_json(const CostsStamp& stamp, const CalibrationFit& fit, std::span<const CalibrationSample> samples) {
  nlohmann::ordered_json root, list = nlohmann::ordered_json::array();
  for (size_t i = 0; i < samples.size(); ++i) {
    const CalibrationSample& s = samples[i];
    list.push_back({{"name", s.name},
                    {"us", to_thousandths(s.picoseconds / 1e6)},
                    {"fitted_us", to_thousandths(fit.predicted[i] / 1e6)},
                    {"items", s.items},
                    {"partials", s.partials},
                    {"bytes", s.bytes},
                    {"fragment_dims", s.fragment_dims},
                    {"cached", s.cached}});
  }
  root["lathe_costs"] = kFormat;
  root["lathe"] = stamp.lathe;
  root["date"] = stamp.date;
  root["device"] = {
      {"name", stamp.device}, {"arch", stamp.arch}, {"multiprocessors", stamp.multiprocessors}, {"driver", stamp.driver}};
  root["costs"] = {{"byte_ps", fit.costs.byte},
                   {"fragment_dim_ps", fit.costs.fragment_dim},
                   {"item_ps", fit.costs.item},
                   {"partial_ps", fit.costs.partial}};
  root["fit"] = {{"launch_us", to_thousandths(fit.launch / 1e6)}, {"rms", fit.rms}, {"worst", fit.worst}};
  root["samples"] = list;
  return root.dump(2, ' ', false, Json::error_handler_t::replace);
}

Result<CostsFile> costs_from_json(std::string_view text) {
  const auto refused = [](const std::string& why) { return invalid_argument("costs file", why); };
  if (text.size() > kMaxCostsFileBytes)
    return refused("has " + std::to_string(text.size()) + " bytes, at most " + std::to_string(kMaxCostsFileBytes) + " are read");
  if (const auto problem = json_problem(text)) return refused("is not JSON: " + *problem);
  const Json root = Json::parse(text, nullptr, false);
  if (!root.is_object()) return refused("must hold an object");
  const auto format = root.find("lathe_costs");
  if (format == root.end() || !format->is_number_integer() || *format != kFormat)
    return refused("must say \"lathe_costs\": " + std::to_string(kFormat) + ", the form that this version reads");
  Problems problems;
  CostsFile file;
  file.stamp = stamp_of(root, problems);
  file.costs = costs_of(root, problems);
  if (problems.empty()) LATHE_TRY(check_costs(file.costs));
  LATHE_TRY(problems.status());
  return file;
}

}  // namespace lathe
