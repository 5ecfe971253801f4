#include "lathe/cache/bundle_transfer.h"

#include <unistd.h>

namespace lathe {
namespace {

Status not_kept(const DiskCache& cache) {
  const std::string why = cache.on_disk() ? "an entry could not be written (the log says why)" : cache.why_off();
  return {Code::unavailable, why, "cache " + cache.root()};
}

}  // namespace

Result<SealReport> export_bundle(const DiskCache& from, const std::vector<std::string>& names, const std::string& path) {
  std::vector<std::string> wanted = names;
  if (wanted.empty()) {
    for (const DiskCache::Listing& item : from.list()) wanted.push_back(item.name);
  }
  for (const std::string& name : wanted) LATHE_TRY(from.read_file(name));
  CacheOptions options;
  options.root = path;
  options.max_bytes = 0;
  options.lock_wait_ms = 0;
  DiskCache bundle(options);
  if (!bundle.writable()) return not_kept(bundle);
  for (const std::string& name : wanted) {
    // Read again, and verified again, rather than kept: they may be gigabytes.
    Result<Entry> entry = from.read_file(name);
    LATHE_TRY(entry);
    if (!bundle.store(*entry)) return not_kept(bundle);
  }
  return seal_bundle(real_fs(), path, Trust{geteuid()});
}

Result<ImportReport> import_bundle(const Bundle& bundle, DiskCache& into) {
  if (!into.writable()) return not_kept(into);
  for (const BundleItem& item : bundle.items()) LATHE_TRY(bundle.entry(item.name));
  ImportReport report;
  for (const BundleItem& item : bundle.items()) {
    Result<Entry> entry = bundle.entry(item.name);
    LATHE_TRY(entry);
    if (!into.store(*entry)) return not_kept(into);
    report.entries++;
    report.bytes += item.bytes;
  }
  return report;
}

}  // namespace lathe
