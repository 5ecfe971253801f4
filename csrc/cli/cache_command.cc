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

Status cache_is_off(const DiskCache& cache) {
  return {Code::unavailable, cache.why_off(), "kernel cache" + (cache.root().empty() ? "" : " " + cache.root())};
}

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
      row.push_back(fact(metadata, "description"));
    } else {
      row.push_back("?");
      row.push_back("not usable: " + read.status().message());
    }
    rows.push_back(std::move(row));
  }
  const size_t count = rows.size() - 1;
  if (count != 0) fmt::print("{}", table(rows, 0));
  fmt::print("{}, {} in {}\n", count == 1 ? "1 entry" : with_commas(count) + " entries", in_bytes(bytes), cache.root());
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

}  // namespace

void add_cache(CLI::App& app, int& exit_code) {
  CLI::App* cache = app.add_subcommand("cache", "Look into the kernel cache.");
  cache->require_subcommand(1);
  cache->add_subcommand("ls", "List the entries.")->callback([&exit_code] { exit_code = list(); });
  auto name = std::make_shared<std::string>();
  CLI::App* job = cache->add_subcommand("inspect", "Print one entry's key and facts; exit code 1 when it is not sound.");
  job->add_option("name", *name, "as lathe cache ls shows it: 32 hex digits")->required();
  job->callback([name, &exit_code] { exit_code = inspect(*name); });
}

}  // namespace lathe::cli
