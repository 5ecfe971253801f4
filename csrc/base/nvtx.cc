#include "lathe/base/nvtx.h"

#include <dlfcn.h>

#include "lathe/base/knobs.h"
#include "lathe/base/log.h"

namespace lathe {
namespace {

constexpr const char* kLibrary = "libnvtx3interop.so.1";

// NVTX's C interface, as far as it is used.
struct Nvtx {
  int (*push)(const char*) = nullptr;
  int (*pop)() = nullptr;
};

Nvtx open_nvtx() {
  if (!knob_on("LATHE_NVTX")) return {};
  const std::string value = *knob("LATHE_NVTX");
  const bool named = value != "1" && value != "on" && value != "true" && value != "yes";
  const std::string path = named ? value : kLibrary;
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);  // stays open: ranges end while the process exits
  Nvtx out;
  if (library != nullptr) {
    out.push = reinterpret_cast<int (*)(const char*)>(dlsym(library, "nvtxRangePushA"));
    out.pop = reinterpret_cast<int (*)()>(dlsym(library, "nvtxRangePop"));
  }
  if (out.push != nullptr && out.pop != nullptr) return out;
  const char* why = dlerror();
  warn_once("LATHE_NVTX", "LATHE_NVTX=" + value + ": there are no ranges, " + path + " is not to be had" +
                              (why != nullptr ? std::string(" (") + why + ")" : "") +
                              "; allowed: 0, 1, or the path of NVTX's library");
  return {};
}

const Nvtx& nvtx() {
  static const Nvtx opened = open_nvtx();
  return opened;
}

}  // namespace

bool nvtx_on() {
  return nvtx().push != nullptr;
}

void NvtxRange::push(const std::string& name) {
  nvtx().push(name.c_str());
}
void NvtxRange::pop() {
  nvtx().pop();
}

}  // namespace lathe
