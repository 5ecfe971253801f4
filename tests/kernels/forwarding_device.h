// A device that hands every call to another: what a test wants to see or change it overrides.
#pragma once

#include <memory>

#include "lathe/runtime/device.h"

namespace lathe::testing {

class ForwardingDevice : public Device {
 public:
  explicit ForwardingDevice(std::shared_ptr<Device> inner) : inner_(std::move(inner)) {}

  const DeviceInfo& info() const override { return inner_->info(); }
  Status accepts(std::string_view compiler) const override { return inner_->accepts(compiler); }
  Result<KernelPtr> load(const ArtifactPtr& artifact) override { return inner_->load(artifact); }
  Status launch(const Kernel& kernel, const Launch& launch, Stream stream) override {
    return inner_->launch(kernel, launch, stream);
  }
  Result<std::shared_ptr<std::byte>> allocate(size_t bytes) override { return inner_->allocate(bytes); }
  Status copy_in(void* device, const void* host, size_t bytes, Stream stream) override {
    return inner_->copy_in(device, host, bytes, stream);
  }
  Status copy_out(void* host, const void* device, size_t bytes, Stream stream) override {
    return inner_->copy_out(host, device, bytes, stream);
  }
  Status fill(void* device, uint8_t value, size_t bytes, Stream stream) override {
    return inner_->fill(device, value, bytes, stream);
  }
  Status synchronize(Stream stream) override { return inner_->synchronize(stream); }
  Result<std::shared_ptr<std::byte>> allocate_host(size_t bytes) override { return inner_->allocate_host(bytes); }
  Result<std::unique_ptr<Fence>> make_fence() override { return inner_->make_fence(); }
  Result<bool> capturing(Stream stream) override { return inner_->capturing(stream); }
  LaunchCounters counters() const override { return inner_->counters(); }
  uint64_t modules() const override { return inner_->modules(); }

 private:
  std::shared_ptr<Device> inner_;
};

}  // namespace lathe::testing
