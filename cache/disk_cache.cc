#include "lathe/cache/disk_cache.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>
#include <span>

#include "lathe/base/log.h"

namespace lathe {
namespace {

constexpr size_t kLongestIndexedKey = 64 * 1024;
// Where a look at the root's size is dear, or has nothing to find, the next is due when this cache has stored an eighth of what was
// free.
constexpr uint64_t kWriters = 8;
// How long a store waits for another process that trims, before it makes room for itself beside it.
constexpr std::chrono::milliseconds kTrimmerWait{100};

uint64_t mark_of(BytesView payload) {
  return digest_of(payload).lo | 1;  // never 0, which marks a free place
}

Fd duplicate_of(Fs& fs, int dir) {
  return open_in(fs, dir, ".", O_RDONLY | O_DIRECTORY);
}

}  // namespace

DiskCache::DiskCache(CacheOptions options, CacheSeams seams)
    : options_(std::move(options)),
      fs_(seams.fs),
      hash_bits_(seams.hash_bits),
      schema_(seams.schema),
      trust_{seams.fs.geteuid(), options_.shared} {
  open_bundles(options_.bundles);
  if (options_.mode == CacheMode::off) {
    why_off_ = "the cache mode is off";
    return;
  }
  const bool write = options_.mode == CacheMode::read_write;
  Status trouble;
  if (!options_.root.empty()) {
    path_ = options_.root;
  } else if (auto chosen = default_root(fs_)) {
    path_ = *chosen;
  } else {
    trouble = chosen.status();
  }
  if (trouble.ok()) {
    if (auto opened = open_root(fs_, path_, trust_, write)) {
      dir_ = EntryDir(fs_, trust_, std::move(*opened), schema_);
    } else {
      trouble = opened.status();
    }
  }
  if (!trouble.ok()) {
    why_off_ = fmt::format("{:?} {}", trouble.where(), trouble.message());
    warn("root", fmt::format("kernels are not cached on disk: {} ({})", why_off_, trouble.hint()));
  } else if (write && !dir_.writable()) {
    warn("root", "the cache is not writable: kernels are read from it, new ones are not kept");
  }
  if (writable()) open_lock_dir();
}

DiskCache::~DiskCache() {
  delete known_keys_.load();
}

void DiskCache::open_bundles(const std::vector<std::string>& paths) {
  // Never shared: what a group may write is not what was pinned.
  const Trust trust{trust_.us, /*shared=*/false};
  for (const std::string& path : paths) {
    if (auto bundle = Bundle::open(fs_, path, trust)) {
      bundles_.push_back(std::move(*bundle));
    } else {
      const Status& why = bundle.status();
      bundle_troubles_.push_back(why);
      warn_once("bundle/" + path, fmt::format("bundle {:?} is not used: {:?} {}", path, why.where(), why.message()));
    }
  }
}

// Locks must lie on this machine: those of a network file system may be missing, slow or lost.
void DiskCache::open_lock_dir() {
  network_ = on_network(fs_, dir_.root());
  sync_ = options_.sync == CacheSync::always || (options_.sync == CacheSync::automatic && network_);
  if (options_.lock_wait_ms <= 0) return;
  if (!network_) {
    lock_dir_ = duplicate_of(fs_, dir_.root());
  } else if (const char* runtime = secure_getenv("XDG_RUNTIME_DIR"); runtime != nullptr && runtime[0] == '/') {
    auto opened = open_root(fs_, std::string(runtime) + "/lathe", Trust{trust_.us, /*shared=*/false}, /*write=*/true);
    if (opened && opened->writable) lock_dir_ = std::move(opened->dir);
  }
}

std::optional<Entry> DiskCache::find(const std::string& key) {
  auto entry = look(key);
  (entry ? count_.hits : count_.misses)++;
  return entry;
}

std::optional<Entry> DiskCache::find_or_lock(const std::string& key, KeyLock& lock) {
  auto entry = look(key);
  if (!entry && lock_dir_) {
    const Digest digest = digest_of(std::as_bytes(std::span(key)));
    bool waited = false;
    lock = KeyLock::take(fs_, lock_dir_.get(), trust_, lock_byte(digest.hi, digest.lo),
                         std::chrono::milliseconds(options_.lock_wait_ms), &waited);
    if (waited) count_.waits++;
    // Whoever had the lock may have stored and gone before we asked for it, so this look is due without a wait too.
    entry = look(key);
    if (entry) lock = {};
  }
  (entry ? count_.hits : count_.misses)++;
  return entry;
}

std::optional<Entry> DiskCache::look(const std::string& key) {
  const std::string name = name_of(key);
  for (const Bundle& bundle : bundles_) {
    if (auto entry = accept(bundle.read(name), name, key, /*in_root=*/false)) return entry;
  }
  if (!on_disk()) return std::nullopt;
  const FileRead file = dir_.read(name);
  auto entry = accept(file, name, key, /*in_root=*/true);
  if (entry && writable()) dir_.refresh(file);
  return entry;
}

std::optional<Entry> DiskCache::accept(const FileRead& file, const std::string& name, const std::string& key, bool in_root) {
  if (file.outcome == FileRead::Outcome::absent) return std::nullopt;
  if (file.outcome == FileRead::Outcome::failed) {
    count_.errors++;
    warn("read", fmt::format("entry {} cannot be read: {}", name, file.why));
    return std::nullopt;
  }
  Result<Entry> entry = invalid_argument("entry", file.why);
  if (file.outcome == FileRead::Outcome::whole) {
    count_.bytes_read += file.bytes.size();
    entry = decode(file.bytes, schema_);
  }
  if (!entry) {
    count_.rejected++;
    warn("entry", fmt::format("entry {} is passed over: {}", name, entry.status().message()));
    if (in_root) set_aside(name);
    return std::nullopt;
  }
  if (entry->key != key) {
    count_.collisions++;
    return std::nullopt;
  }
  if (is_rejected(entry->payload)) return std::nullopt;
  return std::move(*entry);
}

std::optional<Entry> DiskCache::find_prefix(const std::string& prefix) {
  auto look_in = [&](const std::vector<KeyPlace>& places) -> std::optional<Entry> {
    // Of one place's matches the last has the greatest key, so the places are gone through backwards.
    for (size_t place = 0; place <= bundles_.size(); place++) {
      for (auto at = places.rbegin(); at != places.rend(); ++at) {
        if (at->bundle != place || !at->key.starts_with(prefix)) continue;
        const bool in_root = place == bundles_.size();
        const FileRead file = in_root ? dir_.read(at->name) : bundles_[place].read(at->name);
        if (auto entry = accept(file, at->name, at->key, in_root)) return entry;
      }
    }
    return std::nullopt;
  };
  std::optional<Entry> entry;
  if (const auto* known = known_keys_.load(std::memory_order_acquire)) entry = look_in(*known);
  if (!entry) {
    auto fresh = std::make_unique<const std::vector<KeyPlace>>(keys());
    entry = look_in(*fresh);
    const std::vector<KeyPlace>* none = nullptr;
    if (entry && known_keys_.compare_exchange_strong(none, fresh.get(), std::memory_order_acq_rel)) fresh.release();
  }
  (entry ? count_.hits : count_.misses)++;
  return entry;
}

std::vector<KeyPlace> DiskCache::keys(size_t most) const {
  std::vector<KeyPlace> out;
  const size_t start_bytes = kEntryHeaderBytes + kLongestIndexedKey;
  auto add = [&](const FileRead& start, const std::string& name, size_t place) {
    if (start.outcome != FileRead::Outcome::whole) return;
    if (auto key = key_in(start.bytes, schema_)) out.push_back({*std::move(key), name, place});
  };
  for (size_t i = 0; i < bundles_.size(); i++) {
    const std::span<const BundleItem> items = bundles_[i].items();
    for (const BundleItem& item : items.first(std::min(most, items.size()))) {
      add(bundles_[i].read_start(item.name, start_bytes), item.name, i);
    }
  }
  std::vector<Listing> listed = list();
  if (listed.size() > most) {
    std::ranges::nth_element(listed, listed.begin() + static_cast<std::ptrdiff_t>(most), std::ranges::greater{}, &Listing::mtime);
    listed.resize(most);
  }
  for (const Listing& item : listed) add(dir_.read_start(item.name, start_bytes), item.name, bundles_.size());
  std::ranges::sort(
      out, [](const KeyPlace& a, const KeyPlace& b) { return a.bundle != b.bundle ? a.bundle < b.bundle : a.key < b.key; });
  return out;
}

bool DiskCache::store(const Entry& entry) {
  if (!writable() || is_rejected(entry.payload)) return false;
  const std::string name = name_of(entry.key);
  if (!within_limits(entry)) {
    count_.errors++;
    warn("limits",
         fmt::format("entry {} is not kept: key {}, metadata {}, payload {} bytes; at most {}, {}, {}", name, entry.key.size(),
                     entry.metadata.size(), entry.payload.size(), kMaxKeyBytes, kMaxMetadataBytes, kMaxPayloadBytes));
    return false;
  }
  const Bytes file = encode(entry, schema_);
  const KeyLock room = make_room(name, file.size());  // until the file has its name: others would take the same room for theirs
  if (!dir_.publish(name, file, sync_)) {
    const int error = errno;
    count_.errors++;
    warn("write", fmt::format("entry {} is not kept: {}", name, errno_text(error)));
    return false;
  }
  count_.stores++;
  count_.bytes_written += file.size();
  return true;
}

KeyLock DiskCache::make_room(const std::string& name, uint64_t bytes) {
  if (unseen_.fetch_sub(static_cast<int64_t>(bytes)) > static_cast<int64_t>(bytes)) return {};
  bool busy = false;
  KeyLock lock = lock_trimmer(kTrimmerWait, busy);
  const uint64_t left = trim_now(options_.max_bytes, {name, bytes}).bytes + bytes;
  const uint64_t most = options_.max_bytes == 0 ? uint64_t{1} << 62 : options_.max_bytes;
  if (network_ || options_.max_bytes == 0) unseen_ = static_cast<int64_t>((most - std::min(most, left)) / kWriters);
  return lock;
}

std::optional<TrimReport> DiskCache::trim(uint64_t max_bytes, std::chrono::milliseconds wait) {
  if (!writable()) return std::nullopt;
  bool busy = false;
  const KeyLock lock = lock_trimmer(wait, busy);
  if (busy && !lock) return std::nullopt;
  return trim_now(max_bytes, {});
}

KeyLock DiskCache::lock_trimmer(std::chrono::milliseconds wait, bool& busy) {
  return lock_dir_ ? KeyLock::take(fs_, lock_dir_.get(), trust_, kTrimmerByte, wait, &busy) : KeyLock();
}

TrimReport DiskCache::trim_now(uint64_t max_bytes, const NewEntry& coming) {
  const TrimReport report = lathe::trim(dir_, max_bytes, coming);
  count_.evicted += report.removed_entries;
  return report;
}

void DiskCache::reject(const std::string& key, BytesView payload) {
  const uint64_t mark = mark_of(payload);
  for (std::atomic<uint64_t>& place : rejected_) {
    uint64_t found = 0;
    if (place.compare_exchange_strong(found, mark) || found == mark) break;
  }
  if (!writable()) return;
  // Another process may have put a better one in its place.
  const std::string name = name_of(key);
  const FileRead file = dir_.read(name);
  if (file.outcome != FileRead::Outcome::whole) return;
  const Result<Entry> entry = decode(file.bytes, schema_);
  if (entry && entry->key == key && std::ranges::equal(entry->payload, payload)) set_aside(name);
}

bool DiskCache::is_rejected(BytesView payload) const {
  if (rejected_[0].load() == 0) return false;
  const uint64_t mark = mark_of(payload);
  return std::ranges::any_of(rejected_, [&](const std::atomic<uint64_t>& place) { return place.load() == mark; });
}

void DiskCache::set_aside(const std::string& name) {
  if (writable() && dir_.quarantine(name)) count_.quarantined++;
}

std::vector<DiskCache::Listing> DiskCache::list() const {
  std::vector<Listing> out;
  if (!on_disk()) return out;
  for (const EntryFile& file : dir_.files()) {
    if (file.kind == EntryFile::Kind::entry) out.push_back({file.name, file.bytes, file.mtime.tv_sec});
  }
  std::ranges::sort(out, {}, &Listing::name);
  return out;
}

Result<Entry> DiskCache::read_file(const std::string& hex_name) const {
  if (!is_entry_name(hex_name)) {
    return invalid_argument("name", fmt::format("{:?} is not an entry's name: 32 lower-case hex digits", hex_name));
  }
  if (!on_disk()) return Status{Code::unavailable, why_off_, "cache"};
  const FileRead file = dir_.read(hex_name);
  if (file.outcome == FileRead::Outcome::whole) return decode(file.bytes, schema_);
  if (file.outcome == FileRead::Outcome::refused) return invalid_argument("entry " + hex_name, file.why);
  return Status{Code::unavailable, file.why, "entry " + hex_name};
}

std::string DiskCache::path_of(const std::string& key) const {
  return on_disk() ? path_ + "/" + dir_.path_of(name_of(key)) : std::string();
}

std::string DiskCache::name_of(const std::string& key) const {
  Digest digest = digest_of(std::as_bytes(std::span(key)));
  if (hash_bits_ <= 64) digest = {digest.hi >> (64 - hash_bits_) << (64 - hash_bits_), 0};
  return digest.hex();
}

CacheStats DiskCache::stats() const {
  const Counters& c = count_;
  return {c.hits,   c.misses, c.stores,  c.rejected,   c.quarantined,  c.collisions,
          c.errors, c.waits,  c.evicted, c.bytes_read, c.bytes_written};
}

void DiskCache::warn(const char* what, const std::string& message) const {
  // One of each kind for each root: a cache that fails must not flood the log of a server.
  warn_once(fmt::format("cache/{}/{}", what, path_), fmt::format("cache {:?}: {}", path_, message));
}

}  // namespace lathe
