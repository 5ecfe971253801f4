#include "hook_source.h"

#include "lathe/spec/expr/device_hooks.h"

namespace lathe {

Status print_hooks(const AttentionHooks& hooks, PrepareOptions options, const std::string& path, KernelRequest& request) {
  const expr::Hooks& canonical = hooks.canonical();
  request.unsafe_cuda = expr::uses_cuda(canonical);
  if (request.unsafe_cuda && !options.unsafe_cuda) {
    return invalid_argument(
        "hooks", "hold unsafe_cuda, and PrepareOptions::unsafe_cuda is off in this call; allowed: expressions",
        "--unsafe-cuda of the command, unsafe_cuda=True in Python; only for text that you would run as a program");
  }
  request.printed[path] = std::string(canonical.empty() ? "" : "#include \"device/expressions.cuh\"\n") +
                          "#include \"kernels/shared/hook_inputs.cuh\"\n\nnamespace hooks {\n\n" + expr::device_hooks(canonical) +
                          "\n}  // namespace hooks\n";
  return {};
}

}  // namespace lathe
