#include "lathe/cache/trim.h"

#include <algorithm>
#include <cerrno>
#include <tuple>

namespace lathe {
namespace {

using Kind = EntryFile::Kind;

constexpr int64_t kTemporarySeconds = 3600;
constexpr int64_t kQuarantineSeconds = 24 * 3600;

auto by_age(const EntryFile& file) {
  return std::tuple(file.mtime.tv_sec, file.mtime.tv_nsec, file.name);
}

class Trimmer {
 public:
  Trimmer(const EntryDir& dir, const NewEntry& coming) : dir_(dir), files_(dir.files()), coming_(coming.bytes) {
    // What it replaces goes as it comes, and not before.
    std::erase_if(files_, [&](const EntryFile& file) { return file.kind == Kind::entry && file.name == coming.name; });
    for (const EntryFile& file : files_) {
      report_.bytes += file.bytes;
      report_.entries += file.kind == Kind::entry ? 1 : 0;
    }
  }

  TrimReport run(uint64_t max_bytes) {
    remove_litter();
    if (max_bytes != 0 && report_.bytes + coming_ > max_bytes) remove_down_to(max_bytes - max_bytes / 10);
    return report_;
  }

 private:
  // A live temporary file is seconds old. Its age is judged by a file made just now: this machine's clock may be years off.
  void remove_litter() {
    if (std::ranges::all_of(files_, [](const EntryFile& file) { return file.kind == Kind::entry; })) return;
    const std::optional<timespec> now = dir_.time_here();
    if (!now) return;
    std::erase_if(files_, [&](const EntryFile& file) {
      if (file.kind == Kind::entry) return false;
      const int64_t limit = file.kind == Kind::temporary ? kTemporarySeconds : kQuarantineSeconds;
      const bool old = now->tv_sec - file.mtime.tv_sec >= limit;
      if (old) remove(file);
      return old || file.kind == Kind::temporary;  // a younger one may be in use
    });
  }

  void remove_down_to(uint64_t target) {
    std::ranges::sort(files_, [](const EntryFile& a, const EntryFile& b) {
      const bool a_entry = a.kind == Kind::entry, b_entry = b.kind == Kind::entry;
      return a_entry != b_entry ? b_entry : by_age(a) < by_age(b);
    });
    for (const EntryFile& file : files_) {
      const bool last = coming_ == 0 && file.kind == Kind::entry && report_.entries == 1;
      if (report_.bytes + coming_ <= target || last) return;
      remove(file);
    }
  }

  void remove(const EntryFile& file) {
    // Gone already: another trimmer's work, and as good.
    if (!dir_.remove(file) && errno != ENOENT) return;
    report_.bytes -= file.bytes;
    report_.removed_bytes += file.bytes;
    if (file.kind == Kind::entry) {
      report_.entries--;
      report_.removed_entries++;
    } else {
      report_.removed_litter++;
    }
  }

  const EntryDir& dir_;
  std::vector<EntryFile> files_;
  const uint64_t coming_;
  TrimReport report_;
};

}  // namespace

TrimReport trim(const EntryDir& dir, uint64_t max_bytes, const NewEntry& coming) {
  return Trimmer(dir, coming).run(max_bytes);
}

}  // namespace lathe
