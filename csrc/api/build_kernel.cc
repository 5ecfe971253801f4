#include "build_kernel.h"

#include "lathe/base/log.h"

namespace lathe {
namespace {

// What the device refuses was sound as a file and is of no use: it is built anew, once.
Result<KernelPtr> load_anew(Engine& engine, Device& device, const KernelRequest& request, const ArtifactPtr& refused,
                            const Status& why, Origin* origin) {
  warn_once("refused/" + refused->key_hex, why.to_string() + "; the kernel is taken out of the cache and built anew");
  Result<ArtifactPtr> artifact = engine.rebuild(request, refused, origin);
  const auto also = [&](const std::string& then) {
    return Status{why.code(), why.message() + "\n" + then, why.where(), why.hint()};
  };
  if (!artifact) return also("it could not be built anew: " + artifact.status().to_string());
  Result<KernelPtr> kernel = device.load(*artifact);
  if (kernel || kernel.status().code() == Code::device_lost) return kernel;
  return also("built anew, it was refused again: " + kernel.status().message());
}

}  // namespace

Result<KernelPtr> build_kernel(Engine& engine, Device& device, const KernelRequest& request, Origin* origin) {
  if (engine.jit()) {
    Result<std::string> compiler = engine.compiler().identity(request.arch);
    if (compiler) LATHE_TRY(device.accepts(*compiler));
  }
  Result<ArtifactPtr> artifact = engine.build(request, origin);
  LATHE_TRY(artifact);
  LATHE_TRY(device.accepts((*artifact)->compiler));
  Result<KernelPtr> kernel = device.load(*artifact);
  if (kernel || kernel.status().code() != Code::launch_failed) return kernel;
  return load_anew(engine, device, request, *artifact, kernel.status(), origin);
}

}  // namespace lathe
