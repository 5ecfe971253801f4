#include "lathe/runtime/simt/fibre.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace lathe::simt {
namespace {

// Pages are taken from the system only when touched; the sanitizers' red zones need more of them.
constexpr size_t kStackBytes = (LATHE_FIBRE_ASAN || LATHE_FIBRE_TSAN) ? size_t{256} << 10 : size_t{96} << 10;

// The threads of a block use the same few cache lines below the top of their stacks. Were all tops equal modulo the page size,
// these lines would compete for the same sets of the cache; so each stack starts a little lower than the one before.
constexpr size_t kColourBytes = 128;

#if LATHE_FIBRE_TSAN
// Making ThreadSanitizer's own state of a fibre takes a millisecond, so it is used again. But it keeps the frames that a fibre
// leaves without returning, and has room for some ten thousands.
constexpr unsigned kTsanUses = 500;
#endif

void entry(boost::context::detail::transfer_t transfer) {
  Fibre* self = detail::arrive(transfer);
  self->main(self);
  __builtin_unreachable();
}

}  // namespace

void make_fibre(Fibre& fibre, FibreMain main) {
  auto* low = static_cast<char*>(const_cast<void*>(fibre.stack_low));
  fibre.main = main;
#if LATHE_FIBRE_ASAN
  // Frames that were left without returning have poisoned it.
  __asan_unpoison_memory_region(low, fibre.stack_bytes);
  fibre.fake_stack = nullptr;
#endif
#if LATHE_FIBRE_TSAN
  if (++fibre.uses % kTsanUses == 0) retire_fibre(fibre);
  if (fibre.tsan == nullptr) fibre.tsan = __tsan_create_fiber(0);
#endif
  fibre.context = boost::context::detail::make_fcontext(low + fibre.stack_bytes, fibre.stack_bytes, entry);
}

void adopt_thread([[maybe_unused]] Fibre& fibre) {
#if LATHE_FIBRE_TSAN
  fibre.tsan = __tsan_get_current_fiber();
#endif
}

void retire_fibre([[maybe_unused]] Fibre& fibre) {
#if LATHE_FIBRE_TSAN
  if (fibre.tsan != nullptr) __tsan_destroy_fiber(fibre.tsan);
  fibre.tsan = nullptr;
#endif
}

Result<std::unique_ptr<StackSlab>> StackSlab::make() {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t pitch = page + kStackBytes;
  auto failed = [](const char* what) {
    return Status(Code::resource_exhausted, std::string(what) + " failed for the stacks of a warp: " + std::strerror(errno),
                  "host executor", "fewer resident blocks need fewer stacks");
  };
  void* memory = mmap(nullptr, kStacks * pitch, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return failed("mmap");
  std::unique_ptr<StackSlab> slab(new StackSlab(static_cast<char*>(memory), page));
  for (int i = 0; i < kStacks; ++i) {
    if (mprotect(slab->memory_ + i * pitch, page, PROT_NONE) != 0) return failed("mprotect");
  }
  return slab;
}

StackSlab::~StackSlab() {
#if LATHE_FIBRE_ASAN
  __asan_unpoison_memory_region(memory_, kStacks * (page_ + kStackBytes));
#endif
  munmap(memory_, kStacks * (page_ + kStackBytes));
}

void StackSlab::assign(Fibre& fibre, int index) const {
  fibre.stack_low = memory_ + static_cast<size_t>(index) * (page_ + kStackBytes) + page_;
  fibre.stack_bytes = kStackBytes - static_cast<size_t>(index) * kColourBytes;
}

}  // namespace lathe::simt
