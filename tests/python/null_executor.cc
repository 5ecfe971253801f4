// A library to load before the operators', with its names for all: their host device is then one whose launches return at once, and
// what is left of a call is its own cost. While $NULL_EXECUTOR_CAPTURES is set, streams say that a graph captures them. The rest is
// the host executor's. Nothing in Lathe knows of it.
#include <dlfcn.h>

#include <cstdlib>

#include "lathe/runtime/device.h"

namespace lathe {
namespace {

class NullExecutor : public Device {
 public:
  explicit NullExecutor(std::shared_ptr<Device> host) : host_(std::move(host)) {}

  Status launch(const Kernel&, const Launch&, Stream) override { return {}; }

  const DeviceInfo& info() const override { return host_->info(); }
  Status accepts(std::string_view compiler) const override { return host_->accepts(compiler); }
  Result<KernelPtr> load(const ArtifactPtr& artifact) override { return host_->load(artifact); }
  Result<std::shared_ptr<std::byte>> allocate(size_t bytes) override { return host_->allocate(bytes); }
  Status copy_in(void* device, const void* host, size_t bytes, Stream stream) override {
    return host_->copy_in(device, host, bytes, stream);
  }
  Status copy_out(void* host, const void* device, size_t bytes, Stream stream) override {
    return host_->copy_out(host, device, bytes, stream);
  }
  Status fill(void* device, uint8_t value, size_t bytes, Stream stream) override {
    return host_->fill(device, value, bytes, stream);
  }
  Status synchronize(Stream stream) override { return host_->synchronize(stream); }
  Result<std::shared_ptr<std::byte>> allocate_host(size_t bytes) override { return host_->allocate_host(bytes); }
  Result<std::unique_ptr<Fence>> make_fence() override { return host_->make_fence(); }
  Result<bool> capturing(Stream) override { return std::getenv("NULL_EXECUTOR_CAPTURES") != nullptr; }
  uint64_t modules() const override { return host_->modules(); }

 private:
  const std::shared_ptr<Device> host_;
};

}  // namespace

std::shared_ptr<Device> host_device(SimtOptions options) {
  using Make = std::shared_ptr<Device> (*)(SimtOptions);
  void* const lathe = dlopen("liblathe.so.0", RTLD_NOW | RTLD_NOLOAD);
  const auto make = reinterpret_cast<Make>(dlsym(lathe, "_ZN5lathe11host_deviceENS_11SimtOptionsE"));
  return std::make_shared<NullExecutor>(make(options));
}

}  // namespace lathe
