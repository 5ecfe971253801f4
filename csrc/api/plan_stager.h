// Staging of plans: from the host's memory to a device without ever waiting for it.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "lathe/base/bytes.h"
#include "lathe/base/status.h"
#include "lathe/runtime/device.h"

namespace lathe {

/// A ring of page-locked slots. A copy from such memory is queued at once and reads it later, when the stream gets there; a fence
/// on the same stream tells when that has happened. stage() takes the slot that was used longest ago among those whose fence has
/// passed. Fences are asked, never waited for: when all slots are busy the ring grows by one, so a device that is N steps behind
/// its host comes to N + 1 slots.
///
/// Thread-safe; one stager may serve many streams and workspaces of its device. Slots are never given back before the end: freeing
/// page-locked memory may wait for the device. Growing allocates, which on a GPU takes up to a millisecond; enough slots from the
/// start avoid it.
class PlanStager {
 public:
  /// `slots` (at least 1) slots of `slot_bytes`. For plans of an envelope those are its layout.plan.
  static Result<std::unique_ptr<PlanStager>> create(std::shared_ptr<Device> device, size_t slot_bytes, size_t slots = 2);
  /// The one place that waits: for the copies that still read a slot. No stage() may be under way.
  ~PlanStager();
  PlanStager(const PlanStager&) = delete;
  PlanStager& operator=(const PlanStager&) = delete;

  /// Queues one copy of `bytes` to `address`, memory of the device, on `stream`. `bytes` may be overwritten when this returns.
  /// Refuses more bytes than a slot has, a null address, and a stream that is being captured: a graph would replay whatever the
  /// slot holds by then. Must not be called while the calling thread captures any stream. After an error nothing was queued, or
  /// what was queued is done.
  Status stage(BytesView bytes, void* address, Stream stream);

  const std::shared_ptr<Device>& device() const { return device_; }
  size_t slot_bytes() const { return slot_bytes_; }
  size_t slots() const;

 private:
  struct Slot {
    std::shared_ptr<std::byte> memory;
    std::unique_ptr<Fence> fence;
  };

  PlanStager(std::shared_ptr<Device> device, size_t slot_bytes) : device_(std::move(device)), slot_bytes_(slot_bytes) {}
  Result<Slot> make_slot() const;
  Result<Slot> take_slot();
  void put_back(Slot slot);
  Status copy(const Slot& slot, BytesView bytes, void* address, Stream stream) const;

  const std::shared_ptr<Device> device_;
  const size_t slot_bytes_;
  mutable std::mutex mutex_;  // of all below
  std::vector<Slot> idle_;    // used longest ago first; those of calls under way are not in it
  size_t slots_ = 0;
};

}  // namespace lathe
