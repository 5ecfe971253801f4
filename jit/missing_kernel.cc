#include "lathe/jit/missing_kernel.h"

#include <string_view>

namespace lathe {
namespace {

// One word of a shell's, which expands nothing between single quotes.
std::string in_shell_quotes(std::string_view text) {
  std::string out = "'";
  for (char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

}  // namespace

std::string how_to_add(const KernelRequest& request) {
  if (request.unsafe_cuda) {  // no bundle is made of these
    return "on a machine with a compiler: lathe compile --unsafe-cuda --spec SPEC.json --arch " + request.arch +
           "; here: its cache as LATHE_CACHE_DIR";
  }
  const std::string spec = request.spec.empty() ? "SPEC.json" : in_shell_quotes(request.spec);
  return "on a machine with a compiler: lathe warm --specs " + spec + " --arch " + request.arch +
         " --out BUNDLE; here: LATHE_BUNDLE=$PWD/BUNDLE";
}

}  // namespace lathe
