#include "lathe/runtime/driver.h"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <vector>

#include "lathe/base/knobs.h"

namespace lathe::cuda {
namespace {

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

template <class F>
bool find(void* library, const char* name, F& function) {
  function = reinterpret_cast<F>(dlsym(library, name));
  return function != nullptr;
}

Status unavailable(const Driver& driver, std::string message, std::string hint = {}) {
  return {Code::unavailable, std::move(message), driver.path, std::move(hint)};
}

// What a failed cuInit means for people.
Status explain_init(const Driver& driver, int error) {
  switch (error) {
    case kNotInitialized:
      return unavailable(driver, "the CUDA driver was initialised before this process was forked; CUDA does not support that",
                         "start the process with exec (Python: the spawn start method), or fork before first using CUDA");
    case kStubLibrary:
      return unavailable(driver, "this is the toolkit's stub for linking, not a driver", "set LATHE_CUDA_DRIVER to the driver's");
    case kNoDevice:
      return unavailable(driver, "the CUDA driver finds no device");
    default:
      return unavailable(driver, "the CUDA driver could not be initialised: " + driver.explain(error));
  }
}

}  // namespace

bool is_sticky(int error) {
  // ECC, NVLink, contained error, illegal address, time-out, destroyed context, device assert, 714..719 (stack, instruction,
  // alignment, address space, program counter, launch failure), tensor memory leak, lost external device.
  static constexpr std::array kSticky{214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 911};
  return std::find(kSticky.begin(), kSticky.end(), error) != kSticky.end();
}

std::string Driver::describe() const {
  return "CUDA driver " + version_text(version) + " (" + path + ")";
}

std::string Driver::explain(int error) const {
  const char* name = nullptr;
  const char* text = nullptr;
  if (cuGetErrorName == nullptr || cuGetErrorName(error, &name) != kSuccess || name == nullptr) name = "unknown CUDA error";
  if (cuGetErrorString == nullptr || cuGetErrorString(error, &text) != kSuccess || text == nullptr) text = "no description";
  return std::string(name) + " (" + std::to_string(error) + "): " + text;
}

Result<std::shared_ptr<const Driver>> open_driver() {
  auto driver = std::make_shared<Driver>();
  driver->path = knob("LATHE_CUDA_DRIVER").value_or("libcuda.so.1");
  void* library = dlopen(driver->path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr) {
    const char* reason = dlerror();
    return unavailable(*driver, std::string("no CUDA driver: ") + (reason != nullptr ? reason : "not found"),
                       "install NVIDIA's driver, or set LATHE_CUDA_DRIVER");
  }
  if (!find(library, "cuInit", driver->cuInit) || !find(library, "cuDriverGetVersion", driver->cuDriverGetVersion))
    return unavailable(*driver, "not a CUDA driver: it has no cuInit or no cuDriverGetVersion");
  if (int error = driver->cuDriverGetVersion(&driver->version); error != kSuccess)
    return unavailable(*driver, "cuDriverGetVersion failed: " + driver->explain(error));
  if (driver->version < kLeastDriver)
    return unavailable(*driver, "CUDA driver " + version_text(driver->version) + " is too old: Lathe needs " +
                                    version_text(kLeastDriver) + " or newer");

  std::vector<std::string> missing;
#define LATHE_CUDA_FIND(name, parameters) \
  if (!find(library, #name, driver->name)) missing.push_back(#name);
  LATHE_CUDA_FUNCTIONS(LATHE_CUDA_FIND)
#undef LATHE_CUDA_FIND
  if (!missing.empty()) {
    std::string names = missing[0];
    for (size_t i = 1; i < missing.size(); ++i) names += ", " + missing[i];
    return unavailable(*driver, driver->describe() + " lacks " + names);
  }
  if (int error = driver->cuInit(0); error != kSuccess) return explain_init(*driver, error);
  return std::shared_ptr<const Driver>(std::move(driver));
}

int nvrtc_major(std::string_view compiler) {
  static constexpr std::string_view kName = "nvrtc";
  auto same = [](char a, char b) { return std::tolower(static_cast<unsigned char>(a)) == b; };
  for (auto at = compiler.begin();; ++at) {
    at = std::search(at, compiler.end(), kName.begin(), kName.end(), same);
    if (at == compiler.end()) return 0;
    auto digit = at + kName.size();
    if (digit != compiler.end() && (*digit == ' ' || *digit == '=' || *digit == '-' || *digit == '/')) ++digit;
    int major = 0;
    for (; digit != compiler.end() && std::isdigit(static_cast<unsigned char>(*digit)) && major < 1000; ++digit)
      major = major * 10 + (*digit - '0');
    if (major > 0) return major;
  }
}

}  // namespace lathe::cuda
