#include "lathe/cache/bundle.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <span>

namespace lathe {
namespace {

constexpr uint32_t kManifestVersion = 1;
constexpr size_t kDigestDigits = 64;

std::string first_line() {
  return fmt::format("lathe bundle {} of entries {}", kManifestVersion, kCacheSchema);
}

Status bad_line(size_t line, std::string why) {
  return invalid_argument(fmt::format("manifest, line {}", line), std::move(why));
}

// "<64 digits> <bytes> <32 digits>"
std::optional<BundleItem> item_in(std::string_view line) {
  const size_t first = line.find(' ');
  const size_t second = first == std::string_view::npos ? first : line.find(' ', first + 1);
  if (second == std::string_view::npos) return std::nullopt;
  BundleItem item;
  const std::optional<Sha256> digest = Sha256::from_hex(line.substr(0, first));
  const std::string_view number = line.substr(first + 1, second - first - 1);
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), item.bytes);
  item.name = line.substr(second + 1);
  const bool plain = error == std::errc() && number == std::to_string(item.bytes);
  if (!digest || !plain || end != number.data() + number.size() || !is_entry_name(item.name)) return std::nullopt;
  item.digest = *digest;
  return item;
}

Result<Bytes> read_manifest(Fs& fs, int dir, const Trust& trust, const std::string& path) {
  auto unreadable = [&](std::string why) { return Status{Code::unavailable, std::move(why), path + "/" + kManifestName}; };
  Fd file = open_in(fs, dir, kManifestName, O_RDONLY | O_NONBLOCK);
  if (!file) return unreadable(errno == ELOOP ? "is a symbolic link" : errno_text(errno));
  struct stat found {};
  if (fs.fstat(file.get(), &found) != 0) return unreadable(errno_text(errno));
  if (!S_ISREG(found.st_mode)) return unreadable("is not a regular file");
  if (auto why = trust.objection_below(found)) return unreadable(*why);
  const auto size = static_cast<uint64_t>(found.st_size);
  if (size > kMaxManifestBytes) return unreadable(fmt::format("has {} bytes; at most {} are read", size, kMaxManifestBytes));
  Bytes text(size);
  const ssize_t got = read_full(fs, file.get(), text);
  if (got < 0) return unreadable(errno_text(errno));
  text.resize(static_cast<size_t>(got));
  return text;
}

// A sound entry under the name that its key gives.
Result<Entry> sound_entry(const std::string& name, const FileRead& file) {
  const std::string where = "entry " + name;
  if (file.outcome == FileRead::Outcome::refused) return invalid_argument(where, file.why);
  if (file.outcome != FileRead::Outcome::whole) return Status{Code::unavailable, file.why, where};
  Result<Entry> entry = decode(file.bytes);
  if (!entry) return invalid_argument(where, entry.status().message());
  if (digest_of(std::as_bytes(std::span(entry->key))).hex() != name) {
    return invalid_argument(where, "it holds another entry, whose key does not give this name");
  }
  return entry;
}

}  // namespace

std::string manifest_text(const std::vector<BundleItem>& items) {
  std::string text = first_line() + "\n";
  for (const BundleItem& item : items) text += fmt::format("{} {} {}\n", item.digest.hex(), item.bytes, item.name);
  return text;
}

Result<std::vector<BundleItem>> parse_manifest(std::string_view text) {
  if (text.empty()) return bad_line(1, "is missing");
  std::vector<BundleItem> items;
  uint64_t total = 0;
  for (size_t number = 1; !text.empty(); number++) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) return bad_line(number, "does not end: the manifest is cut off");
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    if (number == 1) {
      if (line != first_line()) return bad_line(number, fmt::format("is not {:?}, which this library reads", first_line()));
      continue;
    }
    std::optional<BundleItem> item = item_in(line);
    if (!item) {
      return bad_line(number, fmt::format("is not \"<{} hex digits of SHA-256> <bytes> <an entry's name>\"", kDigestDigits));
    }
    if (!items.empty() && items.back().name >= item->name) return bad_line(number, "is not in order of names");
    if (item->bytes > kMaxEntryBytes) {
      return bad_line(number, fmt::format("has an entry of {} bytes; at most {} are allowed", item->bytes, kMaxEntryBytes));
    }
    total += item->bytes;
    if (total > kMaxBundleBytes) {
      return bad_line(number, fmt::format("brings the bundle to {} bytes; at most {} are allowed", total, kMaxBundleBytes));
    }
    items.push_back(*std::move(item));
  }
  return items;
}

Result<Bundle> Bundle::open(Fs& fs, const std::string& path, const Trust& trust) {
  Result<Root> root = open_root(fs, path, trust, /*write=*/false);
  if (!root) return Status{root.status().code(), root.status().message(), root.status().where()};  // its hint is for caches
  Result<Bytes> manifest = read_manifest(fs, root->dir.get(), trust, path);
  LATHE_TRY(manifest);
  const std::string_view text(reinterpret_cast<const char*>(manifest->data()), manifest->size());
  Result<std::vector<BundleItem>> items = parse_manifest(text);
  if (!items) return invalid_argument(path + ": " + items.status().where(), items.status().message());
  Bundle bundle;
  bundle.path_ = path;
  bundle.dir_ = EntryDir(fs, trust, std::move(*root));
  bundle.items_ = *std::move(items);
  bundle.digest_ = sha256_of(*manifest);
  return bundle;
}

const BundleItem* Bundle::find(const std::string& name) const {
  const auto at = std::ranges::lower_bound(items_, name, {}, &BundleItem::name);
  return at != items_.end() && at->name == name ? &*at : nullptr;
}

FileRead Bundle::read(const std::string& name) const {
  const BundleItem* item = find(name);
  if (item == nullptr) {
    FileRead absent;
    absent.outcome = FileRead::Outcome::absent;
    absent.why = "it is not in the manifest";
    return absent;
  }
  FileRead file = dir_.read(name);
  if (file.outcome == FileRead::Outcome::absent) return FileRead::refuse("it is in the manifest, and missing");
  if (file.outcome != FileRead::Outcome::whole) return file;
  if (file.bytes.size() != item->bytes) {
    return FileRead::refuse(fmt::format("it has {} bytes, the manifest says {}", file.bytes.size(), item->bytes));
  }
  if (sha256_of(file.bytes) != item->digest) return FileRead::refuse("its SHA-256 is not that of the manifest");
  return file;
}

Result<Entry> Bundle::entry(const std::string& name) const {
  return sound_entry(name, read(name));
}

FileRead Bundle::read_start(const std::string& name, size_t most) const {
  return find(name) == nullptr ? FileRead::refuse("it is not in the manifest") : dir_.read_start(name, most);
}

Result<SealReport> seal_bundle(Fs& fs, const std::string& path, const Trust& trust) {
  Result<Root> root = open_root(fs, path, trust, /*write=*/true);
  LATHE_TRY(root);
  if (!root->writable) return Status{Code::unavailable, "may not be written", path};
  const EntryDir dir(fs, trust, std::move(*root));
  SealReport report;
  std::vector<BundleItem> items;
  bool complete = false;
  const std::vector<EntryFile> files = dir.files(&complete);
  // A manifest that lacks what could not be listed would pass for the whole.
  if (!complete) return Status{Code::unavailable, "its entries could not all be listed", path};
  for (const EntryFile& file : files) {
    if (file.kind != EntryFile::Kind::entry) continue;
    const FileRead read = dir.read(file.name);
    if (Result<Entry> entry = sound_entry(file.name, read); !entry) {
      report.left_out.push_back(file.name + ": " + entry.status().message());
      continue;
    }
    items.push_back({file.name, read.bytes.size(), sha256_of(read.bytes)});
    report.bytes += read.bytes.size();
  }
  std::ranges::sort(items, {}, &BundleItem::name);
  report.entries = items.size();
  const std::string text = manifest_text(items);
  if (text.size() > kMaxManifestBytes || report.bytes > kMaxBundleBytes) {
    return invalid_argument(path, fmt::format("{} entries of {} bytes are more than a bundle holds", items.size(), report.bytes));
  }
  const BytesView bytes = std::as_bytes(std::span(text));
  report.digest = sha256_of(bytes);
  if (!publish_file(fs, dir.root(), kManifestName, bytes, trust, on_network(fs, dir.root()))) {
    return Status{Code::unavailable, errno_text(errno), path + "/" + kManifestName};
  }
  return report;
}

}  // namespace lathe
