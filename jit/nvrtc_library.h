// NVRTC, opened at run time. Used by the compile worker, and in this process under LATHE_COMPILE=inprocess.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lathe/base/status.h"
#include "lathe/jit/compiler.h"
#include "lathe/jit/nvrtc_find.h"

namespace lathe {

/// The options every compile gets, in order, but for --gpu-architecture, which comes first. Part of the compile key.
std::vector<std::string> nvrtc_options();

/// A loaded NVRTC. It stays loaded for the life of the process: it holds state that cannot be taken down. Thread-safe, as NVRTC is.
class NvrtcLibrary {
 public:
  /// `unavailable` when the library cannot be opened or lacks a function.
  static Result<std::unique_ptr<NvrtcLibrary>> open(const NvrtcFiles& files);
  ~NvrtcLibrary();

  /// Every arch of compute capability 8.0 and higher it compiles for, suffixed forms included: "sm_90", "sm_90a", ...
  const std::vector<std::string>& archs() const { return archs_; }
  /// "13.0.88", or "13.0" when its output does not say more. Compiles an empty kernel the first time.
  std::string version() const;
  /// As Compiler::compile.
  Result<CompileOutput> compile(const CompileJob& job) const;

 private:
  struct Functions;
  NvrtcLibrary();

  std::unique_ptr<Functions> nvrtc_;
  int major_ = 0, minor_ = 0;
  std::vector<std::string> archs_;
};

/// `unsupported`, with the list, unless `arch` is in `archs`.
Status check_arch(const std::string& arch, const std::vector<std::string>& archs);

}  // namespace lathe
