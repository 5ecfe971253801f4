// A library to preload: it counts a program's calls to the file system and fails, or kills the program at, one of them. Only files
// below FAULT_ROOT count, so that neither the loader nor the C library is disturbed. For programs of one thread.
//
//   FAULT_ROOT   an absolute path
//   FAULT_LOG    a file that gets one line for each counted call: number, call, path, and "<- " with what was done to it
//   FAULT_AT     the number, from 1, of the call that fails
//   FAULT_ERRNO  the errno it fails with
//   FAULT_MODE   once | always (so do all later calls)
//   FAULT_KILL   "before CALL PATTERN N" or "after ...": the program dies at the Nth call of this name whose path matches (fnmatch)
//   FAULT_MOST   bytes that one read or write moves at most
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr int kMostFds = 1024;
constexpr size_t kPath = 512;

// What preloading sets up before the program's first call; plain data, as constructors of objects may not have run by then.
struct {
  char root[kPath];
  long fail_at;
  int error;
  bool always;
  bool kill_after;  // else before
  char kill_call[32], kill_pattern[kPath];
  long kill_at;  // 0: never
  size_t most;
  int log;
  long calls, matches;
  char paths[kMostFds][kPath];  // of the descriptors below the root; empty: another's
} shim;

void load_rule() {
  auto text = [](const char* name) {
    const char* value = getenv(name);
    return value == nullptr ? "" : value;
  };
  snprintf(shim.root, sizeof shim.root, "%s", text("FAULT_ROOT"));
  shim.fail_at = atol(text("FAULT_AT"));
  shim.error = atoi(text("FAULT_ERRNO"));
  shim.always = strcmp(text("FAULT_MODE"), "always") == 0;
  const long most = atol(text("FAULT_MOST"));
  shim.most = most > 0 ? static_cast<size_t>(most) : SIZE_MAX;
  char when[8] = {};
  if (sscanf(text("FAULT_KILL"), "%7s %31s %511s %ld", when, shim.kill_call, shim.kill_pattern, &shim.kill_at) != 4) {
    shim.kill_at = 0;
  }
  shim.kill_after = strcmp(when, "after") == 0;
  shim.log = static_cast<int>(syscall(SYS_openat, AT_FDCWD, text("FAULT_LOG"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
}

__attribute__((constructor)) void start() {
  load_rule();
}

template <class F>
F real(const char* name) {
  return reinterpret_cast<F>(dlsym(RTLD_NEXT, name));
}

bool below_root(const char* path) {
  const size_t n = strlen(shim.root);
  return n > 0 && strncmp(path, shim.root, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

const char* path_of(int fd) {
  return fd >= 0 && fd < kMostFds ? shim.paths[fd] : "";
}

void remember(int fd, const char* path) {
  if (fd >= 0 && fd < kMostFds) snprintf(shim.paths[fd], kPath, "%s", path);
}

// One call on a path. It counts when the path lies below the root.
class Call {
 public:
  Call(const char* name, const char* path) : name_(name), path_(path), counts_(below_root(path)) {
    if (!counts_) return;
    number_ = ++shim.calls;
    matches_ = shim.kill_at > 0 && strcmp(name, shim.kill_call) == 0 && fnmatch(shim.kill_pattern, path, 0) == 0 &&
               ++shim.matches == shim.kill_at;
    if (matches_ && !shim.kill_after) die();
    fails_ = shim.fail_at > 0 && (shim.always ? number_ >= shim.fail_at : number_ == shim.fail_at);
    write_log(fails_ ? "<- failed" : "");
  }
  Call(const Call&) = delete;
  ~Call() {
    if (fails_) errno = shim.error;
    if (matches_ && shim.kill_after) die();
  }

  bool counts() const { return counts_; }
  bool fails() const { return fails_; }

 private:
  [[noreturn]] void die() {
    write_log("<- killed");
    raise(SIGKILL);
    _exit(1);
  }
  void write_log(const char* done) {
    const int error = errno;
    char line[kPath + 96];
    const int n = snprintf(line, sizeof line, "%ld %s %s %s\n", number_, name_, path_, done);
    syscall(SYS_write, shim.log, line, static_cast<size_t>(n));
    errno = error;
  }

  const char* name_;
  const char* path_;
  bool counts_, fails_ = false, matches_ = false;
  long number_ = 0;
};

// The path that `name` in `dir` means.
struct Path {
  Path(int dir, const char* name) {
    if (name[0] == '/' || dir == AT_FDCWD) {
      snprintf(text, sizeof text, "%s", name);
    } else if (path_of(dir)[0] != '\0') {
      const int n = snprintf(text, sizeof text, "%s", path_of(dir));
      if (strcmp(name, ".") != 0) snprintf(text + n, sizeof text - static_cast<size_t>(n), "/%s", name);
    }
  }
  char text[2 * kPath] = {};
};

template <class F, class... Args>
auto on_path(const char* name, const char* path, Args... args) {
  Call call(name, path);
  return call.fails() ? -1 : real<F>(name)(args...);
}

}  // namespace

extern "C" {

int openat(int dir, const char* name, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  const Path path(dir, name);
  Call call("openat", path.text);
  if (call.fails()) return -1;
  const int fd = real<int (*)(int, const char*, int, ...)>("openat")(dir, name, flags, mode);
  remember(fd, call.counts() ? path.text : "");
  return fd;
}

int open(const char* name, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  return openat(AT_FDCWD, name, flags, mode);
}

int close(int fd) {
  char path[kPath];
  snprintf(path, sizeof path, "%s", path_of(fd));
  Call call("close", path);
  remember(fd, "");
  const int result = real<int (*)(int)>("close")(fd);  // a close that fails has closed all the same, as on Linux
  return call.fails() ? -1 : result;
}

ssize_t read(int fd, void* into, size_t size) {
  Call call("read", path_of(fd));
  if (call.fails()) return -1;
  return real<ssize_t (*)(int, void*, size_t)>("read")(fd, into, call.counts() && size > shim.most ? shim.most : size);
}

ssize_t write(int fd, const void* from, size_t size) {
  Call call("write", path_of(fd));
  if (call.fails()) return -1;
  return real<ssize_t (*)(int, const void*, size_t)>("write")(fd, from, call.counts() && size > shim.most ? shim.most : size);
}

int fsync(int fd) {
  return on_path<int (*)(int)>("fsync", path_of(fd), fd);
}

int fchmod(int fd, mode_t mode) {
  return on_path<int (*)(int, mode_t)>("fchmod", path_of(fd), fd, mode);
}

int futimens(int fd, const timespec times[2]) {
  return on_path<int (*)(int, const timespec*)>("futimens", path_of(fd), fd, times);
}

int fstat(int fd, struct stat* out) {
  return on_path<int (*)(int, struct stat*)>("fstat", path_of(fd), fd, out);
}

int fstatfs(int fd, struct statfs* out) {
  return on_path<int (*)(int, struct statfs*)>("fstatfs", path_of(fd), fd, out);
}

int fstatat(int dir, const char* name, struct stat* out, int flags) {
  return on_path<int (*)(int, const char*, struct stat*, int)>("fstatat", Path(dir, name).text, dir, name, out, flags);
}

int faccessat(int dir, const char* name, int wanted, int flags) {
  return on_path<int (*)(int, const char*, int, int)>("faccessat", Path(dir, name).text, dir, name, wanted, flags);
}

int mkdirat(int dir, const char* name, mode_t mode) {
  return on_path<int (*)(int, const char*, mode_t)>("mkdirat", Path(dir, name).text, dir, name, mode);
}

int mkdir(const char* name, mode_t mode) {
  return on_path<int (*)(const char*, mode_t)>("mkdir", name, name, mode);
}

int renameat(int dir, const char* name, int to_dir, const char* to) {
  return on_path<int (*)(int, const char*, int, const char*)>("renameat", Path(dir, name).text, dir, name, to_dir, to);
}

int rename(const char* name, const char* to) {
  return on_path<int (*)(const char*, const char*)>("rename", name, name, to);
}

int unlinkat(int dir, const char* name, int flags) {
  return on_path<int (*)(int, const char*, int)>("unlinkat", Path(dir, name).text, dir, name, flags);
}

int unlink(const char* name) {
  return on_path<int (*)(const char*)>("unlink", name, name);
}

// Locks alone are counted: the rest of fcntl does not reach the file system.
int fcntl(int fd, int what, ...) {
  va_list rest;
  va_start(rest, what);
  void* argument = va_arg(rest, void*);
  va_end(rest);
  using Real = int (*)(int, int, ...);
  if (what != F_OFD_SETLK) return real<Real>("fcntl")(fd, what, argument);
  const bool unlocks = static_cast<struct flock*>(argument)->l_type == F_UNLCK;
  Call call(unlocks ? "unlock" : "lock", path_of(fd));
  return call.fails() ? -1 : real<Real>("fcntl")(fd, what, argument);
}

DIR* fdopendir(int fd) {
  Call call("fdopendir", path_of(fd));
  return call.fails() ? nullptr : real<DIR* (*)(int)>("fdopendir")(fd);
}

dirent* readdir(DIR* stream) {
  Call call("readdir", path_of(dirfd(stream)));
  return call.fails() ? nullptr : real<dirent* (*)(DIR*)>("readdir")(stream);
}

int closedir(DIR* stream) {
  remember(dirfd(stream), "");
  return real<int (*)(DIR*)>("closedir")(stream);
}

}  // extern "C"
