#include "build_kernel.h"

namespace lathe {

Result<KernelPtr> build_kernel(Engine& engine, Device& device, const KernelRequest& request, Origin* origin) {
  Result<std::string> compiler = engine.compiler().identity(request.arch);
  LATHE_TRY(compiler);
  LATHE_TRY(device.accepts(*compiler));
  Result<ArtifactPtr> artifact = engine.build(request, origin);
  LATHE_TRY(artifact);
  return device.load(*artifact);
}

}  // namespace lathe
