// A compiler for tests of the API on the fake driver.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "lathe/abi/attention.h"
#include "lathe/abi/merge.h"
#include "lathe/fake_driver/cubin.h"
#include "lathe/jit/engine.h"

namespace lathe::testing {

/// Makes files that the fake driver loads, with the entries and parameter blocks of the real kernels.
class CubinCompiler final : public Compiler {
 public:
  Result<std::string> identity(const std::string&) override { return std::string("nvrtc 13.0.88"); }
  Result<CompileOutput> compile(const CompileJob&) override {
    ++compiles;
    CompileOutput out;
    out.binary = make_cubin(
        {{"attention_kernel", {{sizeof(abi::AttentionParams)}, 256}}, {"merge_kernel", {{sizeof(abi::MergeParams)}, 256}}});
    out.binary.resize(out.binary.size() + padding);
    out.registers = 128;
    return out;
  }
  std::vector<std::string> archs() override { return {"sm_90a"}; }
  std::string describe() override { return "NVRTC 13.0.88 (pretended)"; }

  std::atomic<int> compiles{0};
  std::atomic<size_t> padding{0};  // bytes at the end, to tell one compile from another
};

}  // namespace lathe::testing
