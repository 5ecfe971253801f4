#include "lathe/base/knobs.h"
#include "lathe/runtime/device.h"

namespace lathe {

SimtOptions SimtOptions::from_environment() {
  SimtOptions options;
  options.seed = static_cast<uint64_t>(knob_int("LATHE_SIMT_SEED").value_or(0));
  options.check = knob_on("LATHE_SIMT_CHECK");
  options.threads = static_cast<int>(knob_int("LATHE_SIMT_THREADS").value_or(0));
  return options;
}

}  // namespace lathe
