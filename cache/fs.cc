#include "lathe/cache/fs.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <system_error>
#include <utility>

namespace lathe {
namespace {

// A lock of the open file, not of the process: threads exclude each other too, and closing another descriptor does not drop it.
int set_lock(int fd, off_t at, short type) {
  struct flock byte {};
  byte.l_type = type;
  byte.l_whence = SEEK_SET;
  byte.l_start = at;
  byte.l_len = 1;
  return ::fcntl(fd, F_OFD_SETLK, &byte);
}

class RealFs final : public Fs {
 public:
  int openat(int dir, const char* name, int flags, mode_t mode) override { return ::openat(dir, name, flags, mode); }
  int close(int fd) override { return ::close(fd); }
  ssize_t read(int fd, std::span<std::byte> into) override { return ::read(fd, into.data(), into.size()); }
  ssize_t write(int fd, BytesView from) override { return ::write(fd, from.data(), from.size()); }
  int fstat(int fd, struct stat* out) override { return ::fstat(fd, out); }
  int lstatat(int dir, const char* name, struct stat* out) override { return ::fstatat(dir, name, out, AT_SYMLINK_NOFOLLOW); }
  int fstatfs(int fd, struct statfs* out) override { return ::fstatfs(fd, out); }
  int fchmod(int fd, mode_t mode) override { return ::fchmod(fd, mode); }
  int fsync(int fd) override { return ::fsync(fd); }
  int touch(int fd) override { return ::futimens(fd, nullptr); }
  int try_lock(int fd, off_t at) override { return set_lock(fd, at, F_WRLCK); }
  int unlock(int fd, off_t at) override { return set_lock(fd, at, F_UNLCK); }
  int faccessat(int dir, const char* name, int wanted) override { return ::faccessat(dir, name, wanted, AT_EACCESS); }
  int mkdirat(int dir, const char* name, mode_t mode) override { return ::mkdirat(dir, name, mode); }
  int renameat(int dir, const char* from, const char* to) override { return ::renameat(dir, from, dir, to); }
  int unlinkat(int dir, const char* name) override { return ::unlinkat(dir, name, 0); }
  int names_in(int dir, std::vector<std::string>* out) override;
  int getrandom(std::span<std::byte> into) override;
  int64_t now() override { return ::time(nullptr); }
  uid_t getuid() override { return ::getuid(); }
  uid_t geteuid() override { return ::geteuid(); }
};

int RealFs::names_in(int dir, std::vector<std::string>* out) {
  // A second open, not a dup: a duplicate would share its read position with every other user of `dir`.
  int fd = ::openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return -1;
  DIR* stream = ::fdopendir(fd);
  if (stream == nullptr) {
    ::close(fd);
    return -1;
  }
  errno = 0;
  while (const dirent* item = ::readdir(stream)) {
    if (std::strcmp(item->d_name, ".") != 0 && std::strcmp(item->d_name, "..") != 0) out->emplace_back(item->d_name);
    errno = 0;
  }
  int error = errno;
  ::closedir(stream);
  errno = error;
  return error == 0 ? 0 : -1;
}

int RealFs::getrandom(std::span<std::byte> into) {
  // Up to 256 bytes come whole or not at all, once the system's pool is ready.
  ssize_t got = ::getrandom(into.data(), into.size(), 0);
  if (got == static_cast<ssize_t>(into.size())) return 0;
  if (got >= 0) errno = EIO;
  return -1;
}

// A signal storm must not become an endless loop, so that a caller always gets an answer.
constexpr int kAttempts = 100;

template <class Call>
auto retried(Call call) {
  auto result = call();
  for (int i = 1; i < kAttempts && result < 0 && errno == EINTR; i++) result = call();
  return result;
}

}  // namespace

Fs& real_fs() {
  static RealFs fs;
  return fs;
}

Fd& Fd::operator=(Fd&& other) noexcept {
  if (this != &other) {
    close();
    fs_ = other.fs_;
    fd_ = other.release();
  }
  return *this;
}

Fd::~Fd() {
  int error = errno;
  close();
  errno = error;
}

int Fd::release() {
  return std::exchange(fd_, -1);
}

bool Fd::close() {
  // Never tried again: Linux frees the descriptor whatever close returns.
  return fd_ < 0 || fs_->close(release()) == 0;
}

Fd open_in(Fs& fs, int dir, const std::string& name, int flags, mode_t mode) {
  return {fs, retried([&] { return fs.openat(dir, name.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, mode); })};
}

ssize_t read_full(Fs& fs, int fd, std::span<std::byte> into) {
  size_t done = 0;
  while (done < into.size()) {
    ssize_t got = retried([&] { return fs.read(fd, into.subspan(done)); });
    if (got < 0) return -1;
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  return static_cast<ssize_t>(done);
}

bool write_full(Fs& fs, int fd, BytesView bytes) {
  while (!bytes.empty()) {
    ssize_t put = retried([&] { return fs.write(fd, bytes); });
    if (put == 0) errno = EIO;  // a file that takes nothing would be asked for ever
    if (put <= 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(put));
  }
  return true;
}

bool on_network(Fs& fs, int fd) {
  // By statfs(2) and the headers of the file systems that have no constant in <linux/magic.h>.
  constexpr std::array<uint32_t, 15> kNetwork{
      0x6969,      // NFS
      0x517b,      // SMB
      0xff534d42,  // CIFS
      0xfe534d42,  // SMB2
      0x564c,      // NCP
      0x73757245,  // Coda
      0x5346414f,  // AFS
      0x6b414653,  // kAFS
      0x01021997,  // 9P
      0x65735546,  // FUSE
      0x00c36400,  // Ceph
      0x0bd00bd0,  // Lustre
      0x47504653,  // GPFS
      0x19830326,  // BeeGFS
      0x01161970,  // GFS2
  };
  struct statfs found {};
  if (fs.fstatfs(fd, &found) != 0) return true;
  return std::ranges::find(kNetwork, static_cast<uint32_t>(found.f_type)) != kNetwork.end();
}

std::string errno_text(int error) {
  return std::generic_category().message(error);
}

}  // namespace lathe
