// What the tests of envelopes serve their batches with.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lathe/proof/forwarding_device.h"
#include "lathe/proof/harness.h"

namespace lathe::testing {

/// Keeps what every launch was asked for.
class RecordingDevice final : public ForwardingDevice {
 public:
  using ForwardingDevice::ForwardingDevice;
  Status launch(const Kernel& kernel, const Launch& launch, Stream stream) override {
    params.emplace_back(launch.params.begin(), launch.params.end());
    grids.push_back(launch.grid.x);
    return ForwardingDevice::launch(kernel, launch, stream);
  }
  std::vector<Bytes> params;
  std::vector<uint32_t> grids;
};

/// An envelope with all its memory, which every batch is put into.
class Server {
 public:
  Status prepare(std::shared_ptr<Device> on, const AttentionSpec& spec, const AttentionBounds& bounds);

  /// Plans `batch` into the one plan, stages it and launches; done when it returns. What is wrong besides the numbers is among the
  /// problems.
  Outcome serve(const Batch& batch, const BatchImage& image);
  /// serve(), judged by the oracle.
  std::string prove(const Batch& batch, uint64_t pages_seed, Outcome* outcome = nullptr);
  /// Which guard zones were written so far.
  std::string damage() const;

  std::byte* workspace() const { return workspace_.data(); }
  const AttentionArgs& args() const { return args_; }
  Status upload(const PlannedAttention& of) {
    return attention->upload(of, envelope, *stager_, workspace_.data(), envelope.layout.total(), stream);
  }

  std::shared_ptr<RecordingDevice> device;
  std::optional<Attention> attention;
  AttentionEnvelope envelope;
  PlannedAttention plan;
  Stream stream = nullptr;         // of plans and launches
  std::function<Status()> replay;  // when set, launches in place of run()

 private:
  Status make(GuardedBuffer& buffer, size_t bytes);

  // The batch's part of a buffer, and poison behind it.
  Status put(const GuardedBuffer& buffer, std::span<const std::byte> content, size_t& used);

  Status serve_or_fail(const Batch& batch, const BatchImage& image, Outcome& out);

  AttentionArgs args_;
  GuardedBuffer q_, k_, v_, o_, lse_, ids_, workspace_;
  size_t used_[6] = {};  // bytes of them that the batch before took, in this order
  std::unique_ptr<PlanStager> stager_;
};

/// The host executor with 6 multiprocessors, and its checks if `check`.
std::shared_ptr<Device> small_host(bool check, int32_t num_sms = 6);

/// Head dim 32, group 2, paged, causal, lse.
AttentionSpec small_spec();

}  // namespace lathe::testing
