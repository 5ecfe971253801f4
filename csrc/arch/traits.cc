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
};

// Shared memory: the opt-in maximum per block of the CUDA C++ Programming Guide. num_sms: of the device people meet most (A100,
// A40, Orin, L40S, H100, B200, B300, Thor, RTX PRO 6000, GB10).
constexpr std::array kRows{
    Row{80, 163, 108},  Row{86, 99, 84},    Row{87, 163, 16},  Row{89, 99, 142},  Row{90, 227, 132},
    Row{100, 227, 148}, Row{103, 227, 148}, Row{110, 227, 20}, Row{120, 99, 188}, Row{121, 99, 48},
};
constexpr int32_t kHostSharedKib = 163;
constexpr int32_t kHostSms = 8;
constexpr int32_t kUnknownSms = 108;

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
  if (name == "host") return ArchTraits{"host", 0, kHostSharedKib * 1024, kHostSms, {"device/host"}};
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
  bool known = row != kRows.end();
  return ArchTraits{std::string(name),
                    cc,
                    (known ? row->max_shared_kib : least->max_shared_kib) * 1024,
                    known ? row->num_sms : kUnknownSms,
                    {"device/sm_80"}};
}

std::vector<std::string> known_archs() {
  std::vector<std::string> names{"host"};
  for (const Row& row : kRows) names.push_back("sm_" + std::to_string(row.compute_capability));
  return names;
}

}  // namespace lathe
