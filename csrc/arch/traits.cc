#include "lathe/arch/traits.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace lathe {
namespace {

struct Row {
  int compute_capability;
  int32_t max_shared_kib;
  int32_t num_sms;
  int32_t memory_gb_per_s;
  int32_t mma_tflop_per_s;
};

// Shared memory: the opt-in maximum per block of the CUDA C++ Programming Guide. The rest is of the device people meet most (A100,
// A40, Orin, L40S, H100, B200, B300, Thor, RTX PRO 6000, GB10): nine tenths of the data sheet's memory bandwidth and about half of
// its dense 16-bit rate, except where measurements are public (H100: 3.0 TB/s copied; about 370 TFLOP/s by mma.sync). The planner
// needs no more than proportions.
constexpr std::array kRows{
    Row{80, 163, 108, 1830, 190}, Row{86, 99, 84, 620, 90},      Row{87, 163, 16, 180, 25},     Row{89, 99, 142, 770, 180},
    Row{90, 227, 132, 3000, 370}, Row{100, 227, 148, 7200, 600}, Row{103, 227, 148, 7200, 600}, Row{110, 227, 20, 240, 60},
    Row{120, 99, 188, 1600, 250}, Row{121, 99, 48, 240, 60},
};
constexpr int32_t kHostSharedKib = 163;
constexpr int32_t kHostSms = 8;
constexpr Row kUnknown{0, 0, 108, 1830, 190};
constexpr Row kHostRates{0, 0, 0, 182, 22};  // 8 of an H100's multiprocessors: the host plans as that would

constexpr int kFirstCapability = 80;
constexpr int kFirstWithA = 90;   // arch-specific features exist from here ...
constexpr int kFirstWithF = 100;  // ... and family-specific ones from here

Status refused(std::string_view name) {
  return invalid_argument("arch", "is '" + std::string(name.substr(0, 64)) +
                                      "'; allowed are host and sm_<cc> with cc >= 80 (suffix a from sm_90, f from sm_100), e.g. "
                                      "sm_80, sm_89, sm_90a, sm_100a");
}

}  // namespace

Result<ArchTraits> arch_traits(std::string_view name) {
  if (name == "host")
    return ArchTraits{"host",         0, kHostSharedKib * 1024, kHostSms, kHostRates.memory_gb_per_s, kHostRates.mma_tflop_per_s,
                      {"device/host"}};
  constexpr std::string_view kPrefix = "sm_";
  if (!name.starts_with(kPrefix)) return refused(name);
  std::string_view digits = name.substr(kPrefix.size());
  char suffix = 0;
  if (digits.ends_with('a') || digits.ends_with('f')) {
    suffix = digits.back();
    digits.remove_suffix(1);
  }
  int cc = 0;
  auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), cc);
  bool number = error == std::errc() && stop == digits.data() + digits.size() && digits.size() <= 3 && digits[0] != '0';
  if (!number || cc < kFirstCapability) return refused(name);
  if ((suffix == 'a' && cc < kFirstWithA) || (suffix == 'f' && cc < kFirstWithF)) return refused(name);

  auto row = std::find_if(kRows.begin(), kRows.end(), [&](const Row& r) { return r.compute_capability == cc; });
  auto least =
      std::min_element(kRows.begin(), kRows.end(), [](const Row& a, const Row& b) { return a.max_shared_kib < b.max_shared_kib; });
  const Row& found = row != kRows.end() ? *row : kUnknown;
  return ArchTraits{std::string(name),
                    cc,
                    (row != kRows.end() ? row : least)->max_shared_kib * 1024,
                    found.num_sms,
                    found.memory_gb_per_s,
                    found.mma_tflop_per_s,
                    {"device/sm_80"}};
}

std::vector<std::string> known_archs() {
  std::vector<std::string> names{"host"};
  for (const Row& row : kRows) names.push_back("sm_" + std::to_string(row.compute_capability));
  return names;
}

}  // namespace lathe
