// lathe-compile-worker: compiles what its owner sends, one job at a time, until the owner goes away.
//   lathe-compile-worker <nvrtc library> <nvrtc builtins, may be empty> <address space in bytes, 0: no limit> <process id of the
//   owner>
// Standard input is a socket to the owner (worker/message.h).
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "lathe/jit/nvrtc_library.h"
#include "lathe/jit/worker/message.h"

namespace {

using namespace lathe;

constexpr auto kNever = Clock::time_point::max() - std::chrono::hours(24);

void limit(int resource, rlim_t value) {
  rlimit both{value, value};
  setrlimit(static_cast<__rlimit_resource>(resource), &both);
}

// Keeps the socket to itself: descriptor 0 becomes empty and 1 becomes standard error, so that a library that prints or reads
// cannot disturb the talk.
int take_socket() {
  int socket = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (socket < 0 || null < 0) std::exit(2);
  dup2(null, STDIN_FILENO);
  if (dup2(STDERR_FILENO, STDOUT_FILENO) < 0) dup2(null, STDOUT_FILENO);
  return socket;
}

// Ends this process, in the middle of a compile too, once the owner is gone. The kernel's death signal would not do: it is sent
// when the thread that started the worker ends, not the process. The parent is looked at because a forked child of the owner may
// keep the socket open.
void watch_owner(int socket, pid_t owner) {
  constexpr int kLookEveryMs = 1000;
  for (;;) {
    pollfd p{socket, POLLRDHUP, 0};
    poll(&p, 1, kLookEveryMs);
    if ((p.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0 || getppid() != owner) _exit(0);
  }
}

Result<CompileOutput> answer(const NvrtcLibrary& nvrtc, WorkerAsk ask, const CompileJob& job) {
  if (ask == WorkerAsk::compile) return nvrtc.compile(job);
  CompileOutput out;
  out.log = nvrtc.version();
  return out;
}

// Ends without the exit handlers of NVRTC, which have nothing to save.
[[noreturn]] void leave(int code) {
  _exit(code);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "lathe-compile-worker is started by Lathe itself; it has no use on its own\n");
    return 2;
  }
  limit(RLIMIT_CORE, 0);
  if (auto bytes = std::strtoull(argv[3], nullptr, 10); bytes > 0) limit(RLIMIT_AS, bytes);
  const int socket = take_socket();
  std::thread(watch_owner, socket, static_cast<pid_t>(std::strtol(argv[4], nullptr, 10))).detach();

  auto nvrtc = NvrtcLibrary::open(NvrtcFiles{argv[1], argv[2], {}});
  WorkerHello hello;
  hello.status = nvrtc.status();
  if (nvrtc.ok()) hello.archs = (*nvrtc)->archs();
  if (send_frame(socket, encode(hello), kNever) != Transfer::done || !nvrtc.ok()) leave(1);

  for (Bytes frame;;) {
    if (receive_frame(socket, frame, kNever) != Transfer::done) leave(0);
    auto job = decode_job(frame);
    if (!job) leave(1);
    if (send_frame(socket, encode(answer(**nvrtc, job->first, job->second)), kNever) != Transfer::done) leave(0);
  }
}
