#include "lathe/cache/entry_dir.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>

namespace lathe {
namespace {

constexpr std::string_view kHexDigits = "0123456789abcdef";
constexpr std::string_view kEntryEnding = ".lathe", kTempEnding = ".tmp", kBadEnding = ".bad";
constexpr size_t kNameDigits = 32;
constexpr size_t kTempBytes = 8;    // random ones in a temporary file's name
constexpr size_t kShardDigits = 2;  // 256 directories keep each one short
constexpr int kTempAttempts = 8;
constexpr int64_t kRefreshSeconds = 3600;

bool is_hex(std::string_view text, size_t digits) {
  return text.size() == digits && text.find_first_not_of(kHexDigits) == std::string_view::npos;
}

std::string file_name(const std::string& name, std::string_view ending = kEntryEnding) {
  return name + std::string(ending);
}

// A file is complete in its directory or absent from it: whatever the way out, the temporary name goes.
class TempFile {
 public:
  TempFile(Fs& fs, int dir, mode_t mode) : fs_(fs), dir_(dir) {
    for (int i = 0; i < kTempAttempts && !fd_; i++) {
      std::array<std::byte, kTempBytes> random{};
      if (fs.getrandom(random) != 0) return;
      std::string digits;
      for (std::byte b : random) digits += fmt::format("{:02x}", std::to_integer<unsigned>(b));
      name_ = file_name(digits, kTempEnding);
      // O_EXCL never opens what is already there, be it a symlink that somebody planted.
      fd_ = open_in(fs, dir, name_, O_WRONLY | O_CREAT | O_EXCL, mode);
      if (!fd_ && errno != EEXIST) return;
    }
    ours_ = static_cast<bool>(fd_);
  }
  TempFile(const TempFile&) = delete;
  ~TempFile() {
    int error = errno;
    if (ours_) fs_.unlinkat(dir_, name_.c_str());
    errno = error;
  }

  bool write(BytesView bytes, bool sync) {
    return fd_ && write_full(fs_, fd_.get(), bytes) && (!sync || fs_.fsync(fd_.get()) == 0) && fd_.close();
  }
  bool set_mode(mode_t mode) { return fd_ && fs_.fchmod(fd_.get(), mode) == 0; }
  bool stat(struct stat* out) { return fd_ && fs_.fstat(fd_.get(), out) == 0; }
  bool become(const std::string& name) {
    if (fs_.renameat(dir_, name_.c_str(), name.c_str()) != 0) return false;
    ours_ = false;
    return true;
  }

 private:
  Fs& fs_;
  int dir_;
  std::string name_;
  Fd fd_;
  bool ours_ = false;
};

FileRead system_error(int error) {
  FileRead out;
  // ESTALE: a network file system's way to say that the file is gone.
  out.outcome = error == ENOENT || error == ESTALE ? FileRead::Outcome::absent : FileRead::Outcome::failed;
  out.why = errno_text(error);
  return out;
}

// What a file in the shard is, by its name alone.
std::optional<EntryFile> known_file(const std::string& shard, const std::string& file) {
  EntryFile out;
  out.shard = shard;
  out.name = file.substr(0, file.find('.'));
  const std::string_view ending = std::string_view(file).substr(out.name.size());
  if (ending == kTempEnding && is_hex(out.name, 2 * kTempBytes)) {
    out.kind = EntryFile::Kind::temporary;
  } else if (!is_hex(out.name, kNameDigits) || !out.name.starts_with(shard)) {
    return std::nullopt;
  } else if (ending == kBadEnding) {
    out.kind = EntryFile::Kind::quarantined;
  } else if (ending != kEntryEnding) {
    return std::nullopt;
  }
  return out;
}

std::string_view ending_of(EntryFile::Kind kind) {
  switch (kind) {
    case EntryFile::Kind::temporary:
      return kTempEnding;
    case EntryFile::Kind::quarantined:
      return kBadEnding;
    case EntryFile::Kind::entry:
      break;
  }
  return kEntryEnding;
}

}  // namespace

bool is_entry_name(std::string_view name) {
  return is_hex(name, kNameDigits);
}

bool publish_file(Fs& fs, int dir, const std::string& name, BytesView bytes, const Trust& trust, bool sync) {
  TempFile temp(fs, dir, 0600);
  // fchmod, as the umask would take the group's right away again.
  if (trust.shared && !temp.set_mode(0640)) return false;
  return temp.write(bytes, sync) && temp.become(name);
}

FileRead FileRead::refuse(std::string why) {
  FileRead out;
  out.outcome = Outcome::refused;
  out.why = std::move(why);
  return out;
}

FileRead EntryDir::read(const std::string& name) const {
  return read_most(name, kMaxEntryBytes);
}

FileRead EntryDir::read_start(const std::string& name, size_t most) const {
  return read_most(name, most);
}

FileRead EntryDir::read_most(const std::string& name, uint64_t most) const {
  Fd shard = open_shard(name, /*create=*/false);
  if (!shard) return system_error(errno);
  FileRead out;
  // O_NONBLOCK: a FIFO in the entry's place must not hold us up. It means nothing for a regular file.
  out.fd = open_in(*fs_, shard.get(), file_name(name), O_RDONLY | O_NONBLOCK);
  if (!out.fd) return errno == ELOOP ? FileRead::refuse("it is a symbolic link") : system_error(errno);
  struct stat found {};
  if (fs_->fstat(out.fd.get(), &found) != 0) return system_error(errno);
  if (!S_ISREG(found.st_mode)) return FileRead::refuse("it is not a regular file");
  if (auto why = trust_.objection_below(found)) return FileRead::refuse("it " + *why);
  const auto size = static_cast<uint64_t>(found.st_size);
  if (size > kMaxEntryBytes)
    return FileRead::refuse(fmt::format("it has {} bytes, more than any entry ({})", size, kMaxEntryBytes));

  out.bytes.resize(std::min(size, most));
  const ssize_t got = read_full(*fs_, out.fd.get(), out.bytes);
  if (got < 0) return system_error(errno);
  out.bytes.resize(static_cast<size_t>(got));
  out.mtime = found.st_mtim.tv_sec;
  out.outcome = FileRead::Outcome::whole;
  return out;
}

void EntryDir::refresh(const FileRead& file) const {
  const int64_t age = fs_->now() - file.mtime;
  // A time in the future comes of a clock that is wrong, here or there: what it says cannot be relied on.
  if (age >= 0 && age < kRefreshSeconds) return;
  fs_->touch(file.fd.get());
}

bool EntryDir::publish(const std::string& name, BytesView bytes, bool sync) const {
  Fd shard = open_shard(name, /*create=*/true);
  return shard && publish_file(*fs_, shard.get(), file_name(name), bytes, trust_, sync);
}

bool EntryDir::quarantine(const std::string& name) const {
  Fd shard = open_shard(name, /*create=*/false);
  return shard && fs_->renameat(shard.get(), file_name(name).c_str(), file_name(name, kBadEnding).c_str()) == 0;
}

bool EntryDir::remove(const EntryFile& file) const {
  Fd shard = open_shard(file.shard, /*create=*/false);
  return shard && fs_->unlinkat(shard.get(), file_name(file.name, ending_of(file.kind)).c_str()) == 0;
}

std::vector<EntryFile> EntryDir::files(bool* complete) const {
  std::vector<EntryFile> out;
  bool all = true;
  Fd schema = open_schema(/*create=*/false);
  std::vector<std::string> shards;
  if (!schema) {
    all = errno == ENOENT;  // nothing was ever stored
  } else if (fs_->names_in(schema.get(), &shards) != 0) {
    all = false;
  }
  for (const std::string& shard : shards) {
    if (is_hex(shard, kShardDigits)) all &= add_files(schema.get(), shard, out);
  }
  if (complete != nullptr) *complete = all;
  return out;
}

// False when something could not be read; what went away meanwhile is no such thing.
bool EntryDir::add_files(int schema, const std::string& shard_name, std::vector<EntryFile>& out) const {
  Fd shard = open_below(*fs_, schema, shard_name, trust_, /*create=*/false);
  std::vector<std::string> names;
  if (!shard || fs_->names_in(shard.get(), &names) != 0) return false;
  bool all = true;
  for (const std::string& name : names) {
    std::optional<EntryFile> file = known_file(shard_name, name);
    struct stat found {};
    if (!file) continue;
    if (fs_->lstatat(shard.get(), name.c_str(), &found) != 0) {
      all &= errno == ENOENT;
      continue;
    }
    if (!S_ISREG(found.st_mode)) continue;
    file->bytes = static_cast<uint64_t>(found.st_size);
    file->mtime = found.st_mtim;
    out.push_back(*std::move(file));
  }
  return all;
}

std::optional<timespec> EntryDir::time_here() const {
  // In a shard: there, what a kill leaves of it is found as litter.
  Fd shard = open_shard("00", /*create=*/true);
  if (!shard) return std::nullopt;
  TempFile temp(*fs_, shard.get(), 0600);
  struct stat found {};
  if (!temp.stat(&found)) return std::nullopt;
  return found.st_mtim;
}

std::string EntryDir::path_of(const std::string& name) const {
  return fmt::format("v{}/{}/{}", schema_, name.substr(0, kShardDigits), file_name(name));
}

Fd EntryDir::open_schema(bool create) const {
  if (!root_.dir) {
    errno = ENOENT;
    return {};
  }
  return open_below(*fs_, root_.dir.get(), fmt::format("v{}", schema_), trust_, create);
}

Fd EntryDir::open_shard(const std::string& name, bool create) const {
  Fd schema = open_schema(create);
  return schema ? open_below(*fs_, schema.get(), name.substr(0, kShardDigits), trust_, create) : Fd();
}

}  // namespace lathe
