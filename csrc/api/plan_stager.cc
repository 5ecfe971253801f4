#include "lathe/api/plan_stager.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace lathe {

Result<std::unique_ptr<PlanStager>> PlanStager::create(std::shared_ptr<Device> device, size_t slot_bytes, size_t slots) {
  Problems problems;
  if (device == nullptr) problems.add("device", "is null");
  if (slot_bytes == 0) problems.add("slot_bytes", "is 0, must hold a plan");
  if (slots == 0) problems.add("slots", "is 0, must be at least 1");
  if (!problems.empty()) return problems.status();
  std::unique_ptr<PlanStager> stager(new PlanStager(std::move(device), slot_bytes));
  for (size_t i = 0; i < slots; ++i) {
    Result<Slot> slot = stager->make_slot();
    LATHE_TRY(slot);
    stager->idle_.push_back(*std::move(slot));
    ++stager->slots_;
  }
  return stager;
}

PlanStager::~PlanStager() {
  for (Slot& slot : idle_) {
    const Status done = slot.fence->wait();
    // A lost device reads nothing any more. Otherwise nobody can say when the copy ends, so its memory stays.
    if (!done.ok() && done.code() != Code::device_lost) new std::shared_ptr<std::byte>(std::move(slot.memory));
  }
}

size_t PlanStager::slots() const {
  std::lock_guard lock(mutex_);
  return slots_;
}

Result<PlanStager::Slot> PlanStager::make_slot() const {
  Result<std::shared_ptr<std::byte>> memory = device_->allocate_host(slot_bytes_);
  LATHE_TRY(memory);
  Result<std::unique_ptr<Fence>> fence = device_->make_fence();
  LATHE_TRY(fence);
  return Slot{*std::move(memory), *std::move(fence)};
}

Result<PlanStager::Slot> PlanStager::take_slot() {
  std::lock_guard lock(mutex_);
  for (auto slot = idle_.begin(); slot != idle_.end(); ++slot) {
    Result<bool> passed = slot->fence->passed();
    LATHE_TRY(passed);
    if (!*passed) continue;
    Slot taken = std::move(*slot);
    idle_.erase(slot);
    return taken;
  }
  Result<Slot> slot = make_slot();
  LATHE_TRY(slot);
  ++slots_;
  idle_.reserve(slots_);  // so that putting a slot back cannot fail
  return slot;
}

void PlanStager::put_back(Slot slot) {
  std::lock_guard lock(mutex_);
  idle_.push_back(std::move(slot));
}

Status PlanStager::copy(const Slot& slot, BytesView bytes, void* address, Stream stream) const {
  std::memcpy(slot.memory.get(), bytes.data(), bytes.size());
  LATHE_TRY(device_->copy_in(address, slot.memory.get(), bytes.size(), stream));
  Status marked = slot.fence->record(stream);
  // Nothing would tell when the slot is free again. Should waiting fail too, the device is lost and reads nothing.
  if (!marked.ok()) (void)device_->synchronize(stream);
  return marked;
}

Status PlanStager::stage(BytesView bytes, void* address, Stream stream) {
  if (bytes.size() > slot_bytes_) {
    return invalid_argument(
        "bytes", "of the plan are " + std::to_string(bytes.size()) + "; a slot of the stager has " + std::to_string(slot_bytes_));
  }
  if (address == nullptr) return invalid_argument("address", "is null");
  if (bytes.empty()) return {};
  Result<bool> capturing = device_->capturing(stream);
  LATHE_TRY(capturing);
  if (*capturing) {
    return invalid_argument("stream", "is being captured: a graph would replay what the slot holds by then",
                            "stage plans outside of the capture; what is captured is run() alone");
  }
  Result<Slot> slot = take_slot();
  LATHE_TRY(slot);
  Status copied = copy(*slot, bytes, address, stream);
  put_back(*std::move(slot));
  return copied;
}

}  // namespace lathe
