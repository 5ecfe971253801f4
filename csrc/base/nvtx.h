// Ranges for Nsight Systems: what Lathe does, and on what shapes, on the time line of the thread that does it. Off unless
// LATHE_NVTX asks for them; then NVTX's library is opened at first use: libnvtx3interop as the loader finds it, which it does where
// PyTorch for CUDA is loaded, or the file that is named (the CUDA toolkit's lib folder has it).
#pragma once

#include <string>
#include <utility>

namespace lathe {

/// Whether LATHE_NVTX, read once, asks for ranges, and its library could be opened (one warning where not).
bool nvtx_on();

/// A range of the current thread, from construction to destruction. Ranges nest; they are ended on the thread that began them.
class NvtxRange {
 public:
  /// `text()` gives the range its name, a std::string; it is called only where ranges are on.
  template <class Text>
  explicit NvtxRange(Text&& text) : open_(nvtx_on()) {
    if (open_) push(std::forward<Text>(text)());
  }
  ~NvtxRange() {
    if (open_) pop();
  }
  NvtxRange(const NvtxRange&) = delete;
  NvtxRange& operator=(const NvtxRange&) = delete;

 private:
  static void push(const std::string& name);
  static void pop();

  const bool open_;
};

}  // namespace lathe
