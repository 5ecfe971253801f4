#include "lathe/jit/process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <thread>
#include <utility>

namespace lathe {
namespace {

// A program that ignores SIGCHLD, or waits for any child, leaves nothing to learn.
constexpr const char* kTakenElsewhere = "ended (another part of this program took its exit status)";

std::string error_text(int error) {
  char buffer[256] = {};
  return strerror_r(error, buffer, sizeof buffer);  // the GNU form: returns the text
}

std::vector<std::string> environment(const std::string& tmpdir) {
  std::vector<std::string> env{"LC_ALL=C"};
  for (const char* name : {"PATH", "HOME", "TMPDIR"}) {
    if (!tmpdir.empty() && strcmp(name, "TMPDIR") == 0) continue;
    if (const char* value = secure_getenv(name)) env.push_back(std::string(name) + "=" + value);
  }
  if (!tmpdir.empty()) env.push_back("TMPDIR=" + tmpdir);
  return env;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> out;
  for (std::string& s : strings) out.push_back(s.data());
  out.push_back(nullptr);
  return out;
}

std::string how_it_ended(int status) {
  if (WIFSIGNALED(status)) {
    const char* text = sigdescr_np(WTERMSIG(status));
    return "died with signal " + std::to_string(WTERMSIG(status)) + " (" + (text != nullptr ? text : "unknown") + ")";
  }
  return "exited with " + std::to_string(WEXITSTATUS(status));
}

// posix_spawn's two objects, freed together.
struct SpawnSetup {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;

  SpawnSetup() {
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
  }
  ~SpawnSetup() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }
};

}  // namespace

OwnedFd& OwnedFd::operator=(OwnedFd&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

void OwnedFd::reset() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

int milliseconds_until(Clock::time_point deadline) {
  auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, INT_MAX));
}

Result<Process> Process::start(const ProcessSpec& spec, const std::string& tmpdir) {
  auto failed = [&](int error) { return Status(Code::unavailable, "cannot start " + spec.program + ": " + error_text(error)); };
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return failed(errno);
  OwnedFd ours(pair[0]), theirs(pair[1]);
  if (fcntl(ours.get(), F_SETFL, O_NONBLOCK) != 0) return failed(errno);

  SpawnSetup setup;
  posix_spawn_file_actions_adddup2(&setup.actions, theirs.get(), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&setup.actions, STDIN_FILENO, STDOUT_FILENO);
  if (!spec.keep_stderr) posix_spawn_file_actions_adddup2(&setup.actions, STDIN_FILENO, STDERR_FILENO);
  posix_spawn_file_actions_addclosefrom_np(&setup.actions, STDERR_FILENO + 1);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&setup.attributes, &none);
  posix_spawnattr_setsigdefault(&setup.attributes, &all);
  posix_spawnattr_setpgroup(&setup.attributes, 0);
  posix_spawnattr_setflags(&setup.attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);

  std::vector<std::string> argv{spec.program};
  argv.insert(argv.end(), spec.args.begin(), spec.args.end());
  std::vector<std::string> env = environment(tmpdir);
  pid_t pid = -1;
  int error =
      posix_spawn(&pid, spec.program.c_str(), &setup.actions, &setup.attributes, pointers(argv).data(), pointers(env).data());
  if (error != 0) return failed(error);
  return Process(pid, std::move(ours));
}

Process::~Process() {
  if (pid_ < 0) return;
  // It is still ours to reap, so its id cannot belong to anybody else yet.
  kill(-pid_, SIGKILL);
  kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

bool Process::running() {
  return !wait(Clock::now()).has_value();
}

std::optional<std::string> Process::wait(Clock::time_point deadline) {
  for (;;) {
    if (pid_ < 0) return "ended before";
    siginfo_t ended{};
    int rc = waitid(P_PID, static_cast<id_t>(pid_), &ended, WEXITED | WNOHANG | WNOWAIT);
    if (rc == 0 && ended.si_pid == pid_) {
      kill(-pid_, SIGKILL);  // what it may have left behind in its group; before the reaping, while the id is still its own
      int status = 0;
      pid_t got = waitpid(std::exchange(pid_, -1), &status, 0);
      if (got < 0) return kTakenElsewhere;
      succeeded_ = WIFEXITED(status) && WEXITSTATUS(status) == 0;
      return how_it_ended(status);
    }
    if (rc < 0 && errno == ECHILD) {
      pid_ = -1;
      return kTakenElsewhere;
    }
    if (Clock::now() >= deadline) return std::nullopt;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace lathe
