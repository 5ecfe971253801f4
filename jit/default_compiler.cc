#include <utility>

#include "lathe/jit/compiler.h"

namespace lathe {
namespace {

class ByArch : public Compiler {
 public:
  explicit ByArch(NvrtcOptions gpu) : gpu_(nvrtc_compiler(std::move(gpu))) {}

  Result<std::string> identity(const std::string& arch) override { return of(arch).identity(arch); }
  Result<CompileOutput> compile(const CompileJob& job) override { return of(job.arch).compile(job); }
  std::vector<std::string> archs() override {
    std::vector<std::string> all = host_->archs();
    for (std::string& arch : gpu_->archs()) all.push_back(std::move(arch));
    return all;
  }
  std::string describe() override { return gpu_->describe() + "; " + host_->describe(); }

 private:
  Compiler& of(const std::string& arch) const { return arch == "host" ? *host_ : *gpu_; }

  std::shared_ptr<Compiler> host_ = host_compiler(), gpu_;
};

}  // namespace

std::shared_ptr<Compiler> default_compiler(NvrtcOptions gpu) {
  return std::make_shared<ByArch>(std::move(gpu));
}

}  // namespace lathe
