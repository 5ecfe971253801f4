// lathe cache: what lies in the kernel cache.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <ctime>
#include <nlohmann/json.hpp>

#include "cache_view.h"
#include "commands.h"
#include "input.h"
#include "lathe/jit/compile_key.h"
#include "lathe/spec/text.h"
#include "table.h"

namespace lathe::cli {
namespace {

std::string date_of(int64_t seconds) {
  const auto when = static_cast<time_t>(seconds);
  struct tm parts {};
  char text[32] = "?";
  if (localtime_r(&when, &parts) != nullptr) std::strftime(text, sizeof text, "%Y-%m-%d %H:%M", &parts);
  return text;
}

// A text of the metadata, which is anybody's; "?" when there is none.
std::string fact(const nlohmann::json& metadata, const char* name) {
  const auto at = metadata.is_object() ? metadata.find(name) : metadata.end();
  return metadata.is_object() && at != metadata.end() && at->is_string() ? fields::shown(at->get<std::string>(), 160) : "?";
}

std::string entries(uint64_t n) {
  return n == 1 ? "1 entry" : with_commas(n) + " entries";
}

int list() {
  const auto view = look_at_cache();
  const DiskCache& cache = *view;
  if (!cache.on_disk()) return fail(cache_is_off(cache));
  std::vector<std::vector<std::string>> rows{{"name", "bytes", "written", "arch", "kernel"}};
  uint64_t bytes = 0;
  for (const DiskCache::Listing& entry : cache.list()) {
    bytes += entry.bytes;
    std::vector<std::string> row{entry.name, std::to_string(entry.bytes), date_of(entry.mtime)};
    const Result<Entry> read = cache.read_file(entry.name);
    if (read.ok()) {
      const auto metadata = nlohmann::json::parse(read->metadata, nullptr, /*allow_exceptions=*/false);
      row.push_back(fact(metadata, "arch"));
      row.push_back((metadata.is_object() && metadata.contains("unsafe_cuda") ? "[unsafe_cuda] " : "") +
                    fact(metadata, "description"));
    } else {
      row.push_back("?");
      row.push_back("not usable: " + read.status().message());
    }
    rows.push_back(std::move(row));
  }
  const size_t count = rows.size() - 1;
  if (count != 0) fmt::print("{}", table(rows, 0));
  fmt::print("{}, {} in {}\n", entries(count), in_bytes(bytes), cache.root());
  return 0;
}

int inspect(const std::string& name) {
  const auto view = look_at_cache();
  const DiskCache& cache = *view;
  if (!cache.on_disk()) return fail(cache_is_off(cache));
  const Result<Entry> entry = cache.read_file(name);
  if (!entry.ok()) return fail(entry.status()), 1;
  const auto metadata = nlohmann::json::parse(entry->metadata, nullptr, /*allow_exceptions=*/false);
  const std::string facts = metadata.is_discarded() ? fields::shown(entry->metadata, 1000) : metadata.dump(2);
  fmt::print("key, {} bytes:\n{}\n\nmetadata:\n{}\n\npayload: {} bytes, digest {}\n", entry->key.size(), key_text(entry->key),
             facts, entry->payload.size(), digest_of(entry->payload).hex());
  return 0;
}

// Every entry of the root and of the bundles in use, read whole.
int verify() {
  const auto view = look_at_cache();
  const DiskCache& cache = *view;
  if (!cache.on_disk() && cache.bundles().empty()) return fail(cache_is_off(cache));
  uint64_t good = 0, bytes = 0, bad = 0;
  auto look = [&](const std::string& place, const std::string& name, uint64_t size, const Status& status) {
    if (status.ok()) {
      good++;
      bytes += size;
    } else {
      bad++;
      fmt::print("{} in {}: {}\n", name, place, status.message());
    }
  };
  for (const DiskCache::Listing& entry : cache.list())
    look(cache.root(), entry.name, entry.bytes, cache.read_file(entry.name).status());
  for (const Bundle& bundle : cache.bundles()) {
    for (const BundleItem& item : bundle.items()) look(bundle.path(), item.name, item.bytes, bundle.entry(item.name).status());
  }
  for (const Status& trouble : cache.bundle_troubles()) {
    bad++;
    fmt::print("{}\n", trouble.to_string());
  }
  fmt::print("{} sound, {}; {} not\n", with_commas(good), in_bytes(bytes), with_commas(bad));
  return bad == 0 ? 0 : 1;
}

int trim(const std::string& size) {
  CacheOptions options = CacheOptions::from_environment();
  if (!size.empty()) {
    const std::optional<uint64_t> bytes = parse_bytes(size);
    if (!bytes) return fail(invalid_argument("--to", fields::in_quotes(size) + " is not a number of bytes, such as 300M or 2G"));
    options.max_bytes = *bytes;
  }
  // Only looked at: a cache that is not there is not made for it.
  if (const auto view = look_at_cache(); !view->on_disk()) return fail(cache_is_off(*view));
  DiskCache cache(options);
  if (!cache.writable()) return fail({Code::unavailable, "may not be written", "kernel cache " + cache.root()});
  const std::optional<TrimReport> report = cache.trim(options.max_bytes, std::chrono::seconds(5));
  if (!report)
    return fail({Code::unavailable, "other processes store into it or trim it all the time", "kernel cache " + cache.root()});
  fmt::print("removed {} and {}, {}; left {}, {}, in {}\n", entries(report->removed_entries),
             plural(report->removed_litter, "abandoned file"), in_bytes(report->removed_bytes), entries(report->entries),
             in_bytes(report->bytes), cache.root());
  return 0;
}

}  // namespace

void add_cache(CLI::App& app, int& exit_code) {
  CLI::App* cache = app.add_subcommand("cache", "Look into the kernel cache, and move kernels in and out.");
  cache->require_subcommand(1);
  cache->add_subcommand("ls", "List the entries.")->callback([&exit_code] { exit_code = list(); });
  auto name = std::make_shared<std::string>();
  CLI::App* job = cache->add_subcommand("inspect", "Print one entry's key and facts; exit code 1 when it is not sound.");
  job->add_option("name", *name, "as lathe cache ls shows it: 32 hex digits")->required();
  job->callback([name, &exit_code] { exit_code = inspect(*name); });
  job = cache->add_subcommand("verify", "Read every entry, bundles' too; exit code 1 when one is not sound.");
  job->callback([&exit_code] { exit_code = verify(); });
  auto size = std::make_shared<std::string>();
  job = cache->add_subcommand("trim", "Remove abandoned files, and the entries longest not used beyond a size.");
  job->add_option("--to", *size, "bytes, or with K, M, G; LATHE_CACHE_SIZE when left out");
  job->callback([size, &exit_code] { exit_code = trim(*size); });
  add_cache_why(*cache, exit_code);
  add_cache_bundles(*cache, exit_code);
}

}  // namespace lathe::cli
