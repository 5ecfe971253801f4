// Where NVRTC lies, and which build it is, without loading it.
#pragma once

#include <string>
#include <vector>

#include "lathe/base/status.h"

namespace lathe {

struct NvrtcFiles {
  std::string library;   // path of libnvrtc.so.<major>
  std::string builtins;  // path of the libnvrtc-builtins.so.<major>.<minor> beside it; empty when there is none
  std::string version;   // "<major>.<minor>" by the builtins' name; empty when there are none
};

/// `library` when not empty, else LATHE_NVRTC, an installed toolkit (unless LATHE_IGNORE_TOOLKIT), the Python wheels near this
/// library and in $VIRTUAL_ENV, read now. `unavailable` names every place that was looked at.
Result<NvrtcFiles> find_nvrtc(const std::string& library);

/// What tells this build of NVRTC from every other: version and the build ids of its files (a digest of the file where it has
/// none). The same for the same files in two places.
Result<std::string> nvrtc_build(const NvrtcFiles& files);

/// The compile worker: `program` when not empty, else LATHE_WORKER, read now, else lathe-compile-worker beside this library. Empty
/// when it is not there or no program.
std::string find_compile_worker(const std::string& program);

/// The folder of the file that holds this code: of liblathe.so, or of the program it is linked into.
std::string own_folder();

}  // namespace lathe
