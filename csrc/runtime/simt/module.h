// A kernel's shared object, loaded from verified bytes that never become a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "lathe/abi/simt.h"
#include "lathe/base/bytes.h"
#include "lathe/base/status.h"

namespace lathe::simt {

/// Immutable apart from a memo; thread-safe. Unloaded when destroyed.
class Module {
 public:
  using Entry = void (*)(const void* params);

  /// Loads `binary`, binds it to `api` and finds `entry`. Fails with `launch_failed`, naming what is wrong with it.
  static Result<std::shared_ptr<const Module>> load(BytesView binary, const std::string& entry, const abi::SimtApi& api);
  ~Module();
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  Entry entry() const { return entry_; }
  /// What sites are relative to.
  const char* base() const { return base_; }

  /// "templates/kernels/x/kernel.cu:12 (through templates/device/tile.cuh:33)": the kernel's line of the call that returns to
  /// `site`, and the inner line it was inlined from. "code offset 0x123" when that cannot be found out. Starts a process: only for
  /// reports.
  std::string place(uint32_t site) const;
  /// Whether two sites are one call that the compiler has copied.
  bool same_place(uint32_t a, uint32_t b) const;

 private:
  Module(int file, void* handle) : file_(file), handle_(handle) {}
  /// Every inlined frame of `site`, innermost first, as "function\nfile:line\n" pairs; empty when unknown.
  std::string frames(uint32_t site) const;

  int file_;
  void* handle_;
  Entry entry_ = nullptr;
  const char* base_ = nullptr;
  mutable std::mutex mutex_;
  mutable std::map<uint32_t, std::string> frames_;
};

}  // namespace lathe::simt
