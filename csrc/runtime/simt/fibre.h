// Fibres: stacks that one OS thread switches between. The context switch is Boost.Context's; stacks, pooling and the sanitizers'
// hooks are ours.
#pragma once

#include <boost/context/detail/fcontext.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "lathe/base/status.h"

#if defined(__SANITIZE_ADDRESS__)
#define LATHE_FIBRE_ASAN 1
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define LATHE_FIBRE_ASAN 0
#endif
#if defined(__SANITIZE_THREAD__)
#define LATHE_FIBRE_TSAN 1
#include <sanitizer/tsan_interface.h>
#else
#define LATHE_FIBRE_TSAN 0
#endif

namespace lathe::simt {

struct Fibre;

/// What a fibre runs. It never returns: it ends by switching away for good.
using FibreMain = void (*)(Fibre* self);

/// One stack with what runs on it, or an OS thread's own stack (adopt_thread).
struct Fibre {
  boost::context::detail::fcontext_t context = nullptr;  // where it goes on; unspecified while it runs
  const void* stack_low = nullptr;
  size_t stack_bytes = 0;
  FibreMain main = nullptr;
#if LATHE_FIBRE_ASAN
  void* fake_stack = nullptr;
#endif
#if LATHE_FIBRE_TSAN
  void* tsan = nullptr;
  unsigned uses = 0;
#endif
};

namespace detail {

// Lies on the stack that is left, and is read on the one that is entered.
struct Crossing {
  Fibre* from;
  Fibre* to;
};

/// Bookkeeping on the side that was switched to; returns whose side that is.
inline Fibre* arrive(boost::context::detail::transfer_t transfer) {
  const Crossing crossing = *static_cast<Crossing*>(transfer.data);
  crossing.from->context = transfer.fctx;
#if LATHE_FIBRE_ASAN
  __sanitizer_finish_switch_fiber(crossing.to->fake_stack, &crossing.from->stack_low, &crossing.from->stack_bytes);
#endif
  return crossing.to;
}

}  // namespace detail

/// Leaves `from`, which is running, and goes on with `to`; returns when somebody switches back to `from`.
inline void switch_fibre(Fibre* from, Fibre* to) {
  detail::Crossing crossing{from, to};
#if LATHE_FIBRE_ASAN
  __sanitizer_start_switch_fiber(&from->fake_stack, to->stack_low, to->stack_bytes);
#endif
#if LATHE_FIBRE_TSAN
  __tsan_switch_to_fiber(to->tsan, 0);
#endif
  detail::arrive(boost::context::detail::jump_fcontext(to->context, &crossing));
}

/// Makes `fibre` ready to run `main` from its start. It must not be running; whatever it had not finished is dropped.
void make_fibre(Fibre& fibre, FibreMain main);

/// Makes `fibre` stand for the calling OS thread's own stack.
void adopt_thread(Fibre& fibre);

/// The stacks of one warp: 32, each with a guard page below it. Movable, not copyable; unmapped when destroyed.
class StackSlab {
 public:
  static constexpr int kStacks = 32;
  /// `resource_exhausted` when the system gives no more memory mappings.
  static Result<std::unique_ptr<StackSlab>> make();
  ~StackSlab();
  StackSlab(const StackSlab&) = delete;
  StackSlab& operator=(const StackSlab&) = delete;

  /// Gives `fibre` stack `index`.
  void assign(Fibre& fibre, int index) const;

 private:
  StackSlab(char* memory, size_t page) : memory_(memory), page_(page) {}
  char* memory_;
  size_t page_;
};

/// Frees what the sanitizers keep for `fibre`. Before its stack goes away.
void retire_fibre(Fibre& fibre);

}  // namespace lathe::simt
