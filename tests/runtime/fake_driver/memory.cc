// The driver's entry points that allocate, copy and fill.
#include <algorithm>
#include <cstring>

#include "lathe/fake_driver/entry.h"

namespace fake = lathe::testing::fake;
namespace cuda = lathe::cuda;
using fake::Kind;
using fake::ours;
using fake::State;

namespace {

constexpr int kNotPermitted = 800;

void* address_of(cuda::DevicePtr device) {
  return reinterpret_cast<void*>(device);
}

}  // namespace

extern "C" {

int cuMemAlloc_v2(cuda::DevicePtr* address, size_t bytes) {
  FAKE_BEGIN(cuMemAlloc_v2, Kind::heavy)
  *address = fake::allocate_block(bytes);
  if (*address == 0) return cuda::kOutOfMemory;
  s.allocations[*address] = bytes;
  return cuda::kSuccess;
}

int cuMemFree_v2(cuda::DevicePtr address) {
  FAKE_BEGIN(cuMemFree_v2, Kind::heavy)
  if (s.allocations.count(address) == 0) return cuda::kInvalidValue;
  s.finish_all();
  s.allocations.erase(address);
  fake::free_block(address);
  return cuda::kSuccess;
}

int cuMemHostAlloc(void** address, size_t bytes, unsigned) {
  FAKE_BEGIN(cuMemHostAlloc, Kind::create)
  const cuda::DevicePtr block = fake::allocate_block(bytes);
  if (block == 0) return cuda::kOutOfMemory;
  s.host_allocations[block] = bytes;
  *address = address_of(block);
  return cuda::kSuccess;
}

// Stricter than the real one, which may wait for the device: what a copy still reads is lost, and noted.
int cuMemFreeHost(void* address) {
  FAKE_BEGIN(cuMemFreeHost, Kind::heavy)
  const auto block = reinterpret_cast<cuda::DevicePtr>(address);
  const auto found = s.host_allocations.find(block);
  if (found == s.host_allocations.end()) return cuda::kInvalidValue;
  auto* begin = static_cast<std::byte*>(address);
  const auto reads = [&](const fake::Work& work) { return work.reads >= begin && work.reads < begin + found->second; };
  if (std::any_of(s.pending.begin(), s.pending.end(), reads)) {
    s.violations.push_back("cuMemFreeHost: memory that a queued copy still reads");
    std::fill_n(begin, found->second, std::byte{0xEE});
    s.finish_all();
  }
  s.host_allocations.erase(found);
  fake::free_block(block);
  return cuda::kSuccess;
}

// From page-locked memory the bytes are taken when the copy is performed, from any other when it is queued, which waits.
int cuMemcpyHtoDAsync_v2(cuda::DevicePtr device, const void* host, size_t bytes, CUstream_st* stream) {
  FAKE_BEGIN(cuMemcpyHtoDAsync_v2, Kind::copy)
  if (!fake::in_bounds(s.allocations, device, bytes) || !ours(stream)) return cuda::kInvalidValue;
  const auto* from = static_cast<const std::byte*>(host);
  if (fake::in_bounds(s.host_allocations, reinterpret_cast<cuda::DevicePtr>(host), bytes)) {
    s.queue({.reads = from, .finish = [device, from, bytes](State&) { std::memcpy(address_of(device), from, bytes); }});
    return cuda::kSuccess;
  }
  if (s.no_waits) {
    s.forbidden.push_back("cuMemcpyHtoDAsync_v2 from memory that is not page-locked");
    return kNotPermitted;
  }
  s.queue({.finish = [device, content = std::vector<std::byte>(from, from + bytes)](State&) {
    std::memcpy(address_of(device), content.data(), content.size());
  }});
  return cuda::kSuccess;
}

int cuMemcpyDtoHAsync_v2(void* host, cuda::DevicePtr device, size_t bytes, CUstream_st* stream) {
  FAKE_BEGIN(cuMemcpyDtoHAsync_v2, Kind::heavy)
  if (!fake::in_bounds(s.allocations, device, bytes) || !ours(stream)) return cuda::kInvalidValue;
  s.queue({.finish = [device, host, bytes](State&) { std::memcpy(host, address_of(device), bytes); }});
  return cuda::kSuccess;
}

int cuMemsetD8Async(cuda::DevicePtr device, unsigned char value, size_t bytes, CUstream_st* stream) {
  FAKE_BEGIN(cuMemsetD8Async, Kind::copy)
  if (!fake::in_bounds(s.allocations, device, bytes) || !ours(stream)) return cuda::kInvalidValue;
  s.queue({.finish = [device, value, bytes](State&) { std::memset(address_of(device), value, bytes); }});
  return cuda::kSuccess;
}

}  // extern "C"
