#include "support.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <stdexcept>

#include "lathe/base/log.h"

// There in a coverage build alone, which would lose what a child did, as children leave without exit handlers.
extern "C" __attribute__((weak)) void __gcov_dump();

namespace lathe::testing {

Entry entry_for(const std::string& key, int version, size_t payload_bytes) {
  std::seed_seq seed(key.begin(), key.end());
  std::mt19937 random(seed);
  random.seed(random() + static_cast<unsigned>(version));
  Entry entry{key, "{\"version\":" + std::to_string(version) + "}", Bytes(payload_bytes)};
  for (std::byte& b : entry.payload) b = static_cast<std::byte>(random());
  return entry;
}

bool is_genuine(const Entry& entry) {
  int version = 0;
  if (std::sscanf(entry.metadata.c_str(), "{\"version\":%d}", &version) != 1) return false;
  return equal(entry, entry_for(entry.key, version, entry.payload.size()));
}

bool equal(const Entry& a, const Entry& b) {
  return a.key == b.key && a.metadata == b.metadata && a.payload == b.payload;
}

Bytes file_bytes(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + path.string());
  std::string text((std::istreambuf_iterator<char>(in)), {});
  BytesView view = std::as_bytes(std::span(text));
  return {view.begin(), view.end()};
}

void write_file(const std::filesystem::path& path, BytesView bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!out.flush()) throw std::runtime_error("cannot write " + path.string());
  out.close();
  // As the cache makes them: the umask of whoever runs the tests must not decide what is trusted.
  std::filesystem::permissions(path, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

void write_file(const std::filesystem::path& path, const std::string& text) {
  write_file(path, std::as_bytes(std::span(text)));
}

std::vector<std::string> temporaries_in(const std::filesystem::path& folder) {
  std::vector<std::string> out;
  if (!std::filesystem::exists(folder)) return out;
  for (const auto& item : std::filesystem::recursive_directory_iterator(folder)) {
    if (item.path().extension() == ".tmp") out.push_back(item.path().string());
  }
  return out;
}

pid_t start(const std::function<std::string()>& body, int uid) {
  std::fflush(nullptr);
  pid_t child = fork();
  if (child < 0) throw std::runtime_error("cannot fork");
  if (child > 0) return child;
  if (uid >= 0 && (setgid(static_cast<gid_t>(uid)) != 0 || setuid(static_cast<uid_t>(uid)) != 0)) {
    std::fprintf(stderr, "child: cannot become user %d\n", uid);
    _exit(2);
  }
  std::string complaint = body();
  if (!complaint.empty()) std::fprintf(stderr, "child: %s\n", complaint.c_str());
  if (__gcov_dump != nullptr) __gcov_dump();
  std::fflush(stdout);
  _exit(complaint.empty() ? 0 : 1);
}

int wait_for(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

bool in_child(const std::function<std::string()>& body, int uid) {
  return wait_for(start(body, uid)) == 0;
}

Warnings::Warnings() {
  set_log_callback([this](LogLevel level, std::string_view message) {
    std::lock_guard lock(mutex_);
    if (level <= LogLevel::warning) texts_.emplace_back(message);
  });
}

Warnings::~Warnings() {
  set_log_callback({});
}

std::vector<std::string> Warnings::all() const {
  std::lock_guard lock(mutex_);
  return texts_;
}

FaultyFs::~FaultyFs() {
  if (::testing::Test::HasFailure()) write_log();
}

bool FaultyFs::fails(const char* call, int fd, const char* name) {
  calls_++;
  const bool fault = fail_at != 0 && (persistent ? calls_ >= fail_at : calls_ == fail_at);
  if (!log_to.empty()) {
    const std::string done = !fault ? "" : kills ? " <- killed" : std::string(" <- failed: ") + strerrorname_np(error);
    log_.push_back(std::to_string(calls_) + " " + call + " " + path_of(fd, name) + done);
  }
  if (!fault) return false;
  if (kills) {
    write_log();
    raise(SIGKILL);
  }
  errno = error;
  return true;
}

std::string FaultyFs::path_of(int fd, const std::string& name) const {
  const auto at = paths_.find(fd);
  if (at == paths_.end() || name.starts_with("/")) return name;
  return name.empty() || name == "." ? at->second : at->second + "/" + name;
}

void FaultyFs::write_log() const {
  if (log_to.empty()) return;
  std::ofstream out(log_to / "faults.log");
  for (const std::string& line : log_) out << line << '\n';
}

bool FaultyFs::interrupted() {
  if (!interrupts) return false;
  was_interrupted_ = !was_interrupted_;
  errno = EINTR;
  return was_interrupted_;
}

int FaultyFs::openat(int dir, const char* name, int flags, mode_t mode) {
  EXPECT_EQ(flags & (O_CLOEXEC | O_NOFOLLOW), O_CLOEXEC | O_NOFOLLOW) << name;
  if (fails(__func__, dir, name) || interrupted()) return -1;
  int fd = real_fs().openat(dir, name, flags, mode);
  if (fd >= 0) open_++;
  if (fd >= 0 && !log_to.empty()) paths_[fd] = path_of(dir, name);
  return fd;
}

int FaultyFs::close(int fd) {
  open_--;
  real_fs().close(fd);
  return fails(__func__, fd) ? -1 : 0;
}

ssize_t FaultyFs::read(int fd, std::span<std::byte> into) {
  return fails(__func__, fd) || interrupted() ? -1 : real_fs().read(fd, into.first(std::min(into.size(), most)));
}

ssize_t FaultyFs::write(int fd, BytesView from) {
  return fails(__func__, fd) || interrupted() ? -1 : real_fs().write(fd, from.first(std::min(from.size(), most)));
}

int FaultyFs::fstatfs(int fd, struct statfs* out) {
  constexpr auto kNfs = 0x6969;
  if (fails(__func__, fd) || real_fs().fstatfs(fd, out) != 0) return -1;
  if (network) out->f_type = kNfs;
  return 0;
}

int FaultyFs::fsync(int fd) {
  syncs_++;
  return fails(__func__, fd) ? -1 : real_fs().fsync(fd);
}

int FaultyFs::try_lock(int fd, off_t at) {
  lock_calls_++;
  if (fails(__func__, fd)) return -1;
  if (!no_locks) return real_fs().try_lock(fd, at);
  errno = ENOLCK;
  return -1;
}

int FaultyFs::getrandom(std::span<std::byte> into) {
  if (fails(__func__, -1)) return -1;
  if (!fixed_random) return real_fs().getrandom(into);
  std::ranges::fill(into, std::byte{0});
  return 0;
}

}  // namespace lathe::testing
