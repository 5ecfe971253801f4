#include "lathe/cache/root.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>

#include "lathe/base/knobs.h"

namespace lathe {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY;
constexpr mode_t kPrivateDirectory = 0700;
constexpr mode_t kGroupBits = 0070;

Status unusable(const std::string& path, std::string why) {
  return {Code::unavailable, std::move(why), path, "set LATHE_CACHE_DIR to a directory of your own, or LATHE_CACHE_MODE=off"};
}

std::optional<std::string> home_from_user_database(uid_t uid) {
  std::array<char, 16384> buffer{};
  passwd record{};
  passwd* found = nullptr;
  if (getpwuid_r(uid, &record, buffer.data(), buffer.size(), &found) != 0 || found == nullptr || found->pw_dir == nullptr) {
    return std::nullopt;
  }
  return found->pw_dir;
}

bool is_absolute(const char* path) {
  return path != nullptr && path[0] == '/';
}

std::optional<std::string> objection(const struct stat& found, const Trust& trust, bool any_owner) {
  if (!any_owner && found.st_uid != trust.us && found.st_uid != 0) {
    return fmt::format("belongs to user {}, not to user {} or the superuser", found.st_uid, trust.us);
  }
  if ((found.st_mode & S_IWOTH) != 0) return fmt::format("has mode {:04o}: every user may write it", found.st_mode & 07777);
  if ((found.st_mode & S_IWGRP) != 0 && !trust.shared) {
    return fmt::format("has mode {:04o}: its group may write it, which only a cache with LATHE_CACHE_SHARED=1 allows; chmod g-w",
                       found.st_mode & 07777);
  }
  return std::nullopt;
}

// Slashes and "." at the end are dropped: with them the last component would be followed even if it is a symlink.
std::string without_empty_components(const std::string& path) {
  std::string out;
  size_t at = 0;
  while (at < path.size()) {
    size_t end = std::min(path.find('/', at), path.size());
    std::string part = path.substr(at, end - at);
    if (!part.empty() && part != ".") out += "/" + part;
    at = end + 1;
  }
  return out.empty() ? "/" : out;
}

// The umask may have taken the group's rights away; the group id stays what the parent directory gives.
bool open_to_group(Fs& fs, int dir) {
  struct stat found {};
  return fs.fstat(dir, &found) == 0 && fs.fchmod(dir, (found.st_mode & 07777) | kGroupBits) == 0;
}

Fd make_and_open(Fs& fs, int dir, const std::string& name, bool shared) {
  bool made = fs.mkdirat(dir, name.c_str(), kPrivateDirectory) == 0;
  if (!made && errno != EEXIST) return {};
  Fd fd = open_in(fs, dir, name, kDirectory);
  if (fd && made && shared && !open_to_group(fs, fd.get())) return {};
  return fd;
}

Fd make_with_parents(Fs& fs, const std::string& path, bool shared) {
  for (size_t slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1)) {
    // A failure here shows again, with a better reason, at the last component.
    fs.mkdirat(AT_FDCWD, path.substr(0, slash).c_str(), kPrivateDirectory);
  }
  return make_and_open(fs, AT_FDCWD, path, shared);
}

std::string why_not_opened(Fs& fs, const std::string& path, int error) {
  struct stat found {};
  if (fs.lstatat(AT_FDCWD, path.c_str(), &found) == 0) {
    if (S_ISLNK(found.st_mode)) return "is a symbolic link";
    if (!S_ISDIR(found.st_mode)) return "is not a directory";
  }
  return errno_text(error);
}

}  // namespace

Result<std::string> default_root(Fs& fs) {
  if (fs.getuid() != fs.geteuid()) return unusable("cache", "the process runs with another user's privileges");
  if (auto chosen = knob("LATHE_CACHE_DIR")) return *chosen;
  // A relative XDG_CACHE_HOME is to be ignored by its specification; a relative HOME would follow the working directory about.
  if (const char* base = secure_getenv("XDG_CACHE_HOME"); is_absolute(base)) return std::string(base) + "/lathe";
  if (const char* home = secure_getenv("HOME"); is_absolute(home)) return std::string(home) + "/.cache/lathe";
  if (auto home = home_from_user_database(fs.geteuid()); home && is_absolute(home->c_str())) return *home + "/.cache/lathe";
  return unusable("cache", "no home directory: XDG_CACHE_HOME and HOME are unset, and the user database has none");
}

std::optional<std::string> Trust::objection_to_root(const struct stat& found) const {
  return objection(found, *this, /*any_owner=*/false);
}

std::optional<std::string> Trust::objection_below(const struct stat& found) const {
  return objection(found, *this, /*any_owner=*/shared);
}

Result<Root> open_root(Fs& fs, const std::string& given, const Trust& trust, bool write) {
  if (given.find('\0') != std::string::npos) return unusable("cache", "the path holds a NUL byte");
  if (!is_absolute(given.c_str())) return unusable(given, "is not an absolute path");
  const std::string path = without_empty_components(given);

  Root root;
  root.dir = open_in(fs, AT_FDCWD, path, kDirectory);
  if (!root.dir && errno == ENOENT && write) root.dir = make_with_parents(fs, path, trust.shared);
  if (!root.dir) return unusable(path, why_not_opened(fs, path, errno));

  struct stat found {};
  if (fs.fstat(root.dir.get(), &found) != 0) return unusable(path, errno_text(errno));
  if (auto why = trust.objection_to_root(found)) return unusable(path, *why);
  // The superuser's root is for reading, even where a capability would let us write.
  bool ours = found.st_uid == trust.us || trust.shared;
  root.writable = write && ours && fs.faccessat(root.dir.get(), ".", W_OK | X_OK) == 0;
  return root;
}

Fd open_below(Fs& fs, int dir, const std::string& name, const Trust& trust, bool create) {
  Fd fd = create ? make_and_open(fs, dir, name, trust.shared) : open_in(fs, dir, name, kDirectory);
  if (!fd) return {};
  struct stat found {};
  if (fs.fstat(fd.get(), &found) != 0) return {};
  if (trust.objection_below(found)) {
    fd.close();
    errno = EPERM;
    return {};
  }
  return fd;
}

}  // namespace lathe
