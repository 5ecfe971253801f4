#include "lathe/cache/disk_cache.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>
#include <string_view>

#include "lathe/base/knobs.h"
#include "lathe/base/log.h"

namespace lathe {
namespace {

constexpr std::string_view kSuffix = ".lathe";
constexpr size_t kNameDigits = 32;
constexpr size_t kShardDigits = 2;  // 256 directories keep each one short
constexpr int kTempAttempts = 8;

std::string schema_directory() {
  return fmt::format("v{}", kCacheSchema);
}

std::string file_name(const std::string& name) {
  return name + std::string(kSuffix);
}

bool is_hex(std::string_view text, size_t digits) {
  return text.size() == digits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// A file is complete in its directory or absent from it: whatever the way out, the temporary name goes.
class TempFile {
 public:
  TempFile(Fs& fs, int dir, mode_t mode) : fs_(fs), dir_(dir) {
    for (int i = 0; i < kTempAttempts && !fd_; i++) {
      std::array<std::byte, 8> random{};
      if (fs.getrandom(random) != 0) return;
      name_ = fmt::format("{:02x}.tmp", fmt::join(std::span(reinterpret_cast<const uint8_t*>(random.data()), random.size()), ""));
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

  bool write(BytesView bytes) { return fd_ && write_full(fs_, fd_.get(), bytes) && fd_.close(); }
  bool set_mode(mode_t mode) { return fd_ && fs_.fchmod(fd_.get(), mode) == 0; }
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

}  // namespace

CacheOptions CacheOptions::from_environment() {
  CacheOptions options;
  options.shared = knob_on("LATHE_CACHE_SHARED");
  std::string mode = knob("LATHE_CACHE_MODE").value_or("rw");
  if (mode == "ro") {
    options.mode = CacheMode::read_only;
  } else if (mode != "rw") {
    // Whoever set it meant to forbid something.
    options.mode = CacheMode::off;
    if (mode != "off") warn_once("LATHE_CACHE_MODE", fmt::format("LATHE_CACHE_MODE={:?} is not rw, ro or off: taken as off", mode));
  }
  return options;
}

DiskCache::DiskCache(CacheOptions options, CacheSeams seams)
    : fs_(seams.fs), hash_bits_(seams.hash_bits), trust_{seams.fs.geteuid(), options.shared} {
  if (options.mode == CacheMode::off) {
    why_off_ = "the cache mode is off";
    return;
  }
  const bool write = options.mode == CacheMode::read_write;
  Status trouble;
  if (!options.root.empty()) {
    path_ = options.root;
  } else if (auto chosen = default_root(fs_)) {
    path_ = *chosen;
  } else {
    trouble = chosen.status();
  }
  if (trouble.ok()) {
    if (auto opened = open_root(fs_, path_, trust_, write)) {
      root_ = std::move(*opened);
    } else {
      trouble = opened.status();
    }
  }
  if (!trouble.ok()) {
    why_off_ = fmt::format("{:?} {}", trouble.where(), trouble.message());
    warn("root", fmt::format("kernels are not cached on disk: {} ({})", why_off_, trouble.hint()));
  } else if (write && !root_.writable) {
    warn("root", "the cache is not writable: kernels are read from it, new ones are not kept");
  }
}

struct DiskCache::Read {
  enum class Outcome : uint8_t { whole, absent, untrusted, failed };
  Outcome outcome = Outcome::failed;
  Bytes bytes;
  std::string why;  // for untrusted and failed

  static Read system_error(int error) { return {error == ENOENT ? Outcome::absent : Outcome::failed, {}, errno_text(error)}; }
  static Read refused(std::string why) { return {Outcome::untrusted, {}, std::move(why)}; }
};

std::optional<Entry> DiskCache::find(const std::string& key) {
  if (!on_disk()) {
    count_.misses++;
    return std::nullopt;
  }
  const std::string name = name_of(key);
  Read file = read(name);
  Result<Entry> entry = Status{Code::unavailable, file.why};
  if (file.outcome == Read::Outcome::whole) {
    count_.bytes_read += file.bytes.size();
    entry = decode(file.bytes);
  }
  if (entry && entry->key == key) {
    count_.hits++;
    return std::move(*entry);
  }

  count_.misses++;
  if (entry) {
    count_.collisions++;
  } else if (file.outcome == Read::Outcome::failed) {
    count_.errors++;
    warn("read", fmt::format("entry {} cannot be read: {}", name, file.why));
  } else if (file.outcome != Read::Outcome::absent) {
    count_.rejected++;
    warn("entry", fmt::format("entry {} is passed over: {}", name, entry.status().message()));
  }
  return std::nullopt;
}

bool DiskCache::store(const Entry& entry) {
  if (!writable()) return false;
  const std::string name = name_of(entry.key);
  if (!within_limits(entry)) {
    count_.errors++;
    warn("limits",
         fmt::format("entry {} is not kept: key {}, metadata {}, payload {} bytes; at most {}, {}, {}", name, entry.key.size(),
                     entry.metadata.size(), entry.payload.size(), kMaxKeyBytes, kMaxMetadataBytes, kMaxPayloadBytes));
    return false;
  }
  Bytes file = encode(entry);
  if (!publish(name, file)) {
    const int error = errno;
    count_.errors++;
    warn("write", fmt::format("entry {} is not kept: {}", name, errno_text(error)));
    return false;
  }
  count_.stores++;
  count_.bytes_written += file.size();
  return true;
}

bool DiskCache::publish(const std::string& name, BytesView file) const {
  Fd shard = open_shard(name, /*create=*/true);
  if (!shard) return false;
  TempFile temp(fs_, shard.get(), 0600);
  // fchmod, as the umask would take the group's right away again.
  if (trust_.shared && !temp.set_mode(0640)) return false;
  return temp.write(file) && temp.become(file_name(name));
}

DiskCache::Read DiskCache::read(const std::string& name) const {
  Fd shard = open_shard(name, /*create=*/false);
  if (!shard) return Read::system_error(errno);
  // O_NONBLOCK: a FIFO in the entry's place must not hold us up. It means nothing for a regular file.
  Fd fd = open_in(fs_, shard.get(), file_name(name), O_RDONLY | O_NONBLOCK);
  if (!fd) return Read::system_error(errno);
  struct stat found {};
  if (fs_.fstat(fd.get(), &found) != 0) return Read::system_error(errno);
  if (!S_ISREG(found.st_mode)) return Read::refused("it is not a regular file");
  if (auto why = trust_.objection_below(found)) return Read::refused("it " + *why);
  const auto size = static_cast<uint64_t>(found.st_size);
  if (size > kMaxEntryBytes) return Read::refused(fmt::format("it has {} bytes, more than any entry ({})", size, kMaxEntryBytes));

  Read out{Read::Outcome::whole, Bytes(size), {}};
  const ssize_t got = read_full(fs_, fd.get(), out.bytes);
  if (got < 0) return Read::system_error(errno);
  out.bytes.resize(static_cast<size_t>(got));
  return out;
}

Fd DiskCache::open_shard(const std::string& name, bool create) const {
  Fd schema = open_below(fs_, root_.dir.get(), schema_directory(), trust_, create);
  return schema ? open_below(fs_, schema.get(), name.substr(0, kShardDigits), trust_, create) : Fd();
}

std::vector<DiskCache::Listing> DiskCache::list() const {
  std::vector<Listing> out;
  if (!on_disk()) return out;
  Fd schema = open_below(fs_, root_.dir.get(), schema_directory(), trust_, /*create=*/false);
  std::vector<std::string> shards;
  if (!schema || fs_.names_in(schema.get(), &shards) != 0) return out;
  for (const std::string& shard_name : shards) {
    if (!is_hex(shard_name, kShardDigits)) continue;
    Fd shard = open_below(fs_, schema.get(), shard_name, trust_, /*create=*/false);
    std::vector<std::string> files;
    if (!shard || fs_.names_in(shard.get(), &files) != 0) continue;
    for (const std::string& file : files) {
      std::string name = file.substr(0, kNameDigits);
      if (!is_hex(name, kNameDigits) || file != file_name(name) || !name.starts_with(shard_name)) continue;
      struct stat found {};
      if (fs_.lstatat(shard.get(), file.c_str(), &found) != 0 || !S_ISREG(found.st_mode)) continue;
      out.push_back({name, static_cast<uint64_t>(found.st_size), found.st_mtim.tv_sec});
    }
  }
  std::ranges::sort(out, {}, &Listing::name);
  return out;
}

Result<Entry> DiskCache::read_file(const std::string& hex_name) const {
  if (!is_hex(hex_name, kNameDigits)) {
    return invalid_argument("name", fmt::format("{:?} is not an entry's name: {} lower-case hex digits", hex_name, kNameDigits));
  }
  if (!on_disk()) return Status{Code::unavailable, why_off_, "cache"};
  Read file = read(hex_name);
  if (file.outcome == Read::Outcome::whole) return decode(file.bytes);
  if (file.outcome == Read::Outcome::untrusted) return invalid_argument("entry " + hex_name, file.why);
  return Status{Code::unavailable, file.why, "entry " + hex_name};
}

std::string DiskCache::path_of(const std::string& key) const {
  if (!on_disk()) return {};
  const std::string name = name_of(key);
  return fmt::format("{}/{}/{}/{}", path_, schema_directory(), name.substr(0, kShardDigits), file_name(name));
}

std::string DiskCache::name_of(const std::string& key) const {
  Digest digest = digest_of(std::as_bytes(std::span(key)));
  if (hash_bits_ <= 64) digest = {digest.hi >> (64 - hash_bits_) << (64 - hash_bits_), 0};
  return digest.hex();
}

CacheStats DiskCache::stats() const {
  const Counters& c = count_;
  return {c.hits, c.misses, c.stores, c.rejected, c.collisions, c.errors, c.bytes_read, c.bytes_written};
}

void DiskCache::warn(const char* what, const std::string& message) const {
  // One of each kind for each root: a cache that fails must not flood the log of a server.
  warn_once(fmt::format("cache/{}/{}", what, path_), fmt::format("cache {:?}: {}", path_, message));
}

}  // namespace lathe
