// lathe cache why: why a spec's kernel is not in the cache.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cache_view.h"
#include "commands.h"
#include "input.h"
#include "key_report.h"
#include "lathe/jit/compile_key.h"
#include "lathe/jit/nearest_key.h"
#include "lathe/spec/text.h"
#include "spec_arg.h"
#include "table.h"

namespace lathe::cli {
namespace {

std::string place_of(const DiskCache& cache, const KeyPlace& place) {
  return place.bundle < cache.bundles().size() ? cache.bundles()[place.bundle].path() : cache.root();
}

// The kernel as its entry describes it; the words are anybody's.
std::string description_of(const DiskCache& cache, const KeyPlace& place) {
  const bool bundled = place.bundle < cache.bundles().size();
  const Result<Entry> entry = bundled ? cache.bundles()[place.bundle].entry(place.name) : cache.read_file(place.name);
  if (!entry.ok()) return "not usable: " + entry.status().message();
  const auto metadata = nlohmann::json::parse(entry->metadata, nullptr, /*allow_exceptions=*/false);
  const auto at = metadata.is_object() ? metadata.find("description") : metadata.end();
  return metadata.is_object() && at != metadata.end() && at->is_string() ? fields::shown(at->get<std::string>(), 160) : "?";
}

int explain_hit(const DiskCache& cache, const NearestKey& found) {
  fmt::print("it is there: {} in {}\n  {}\n", found.place.name, place_of(cache, found.place), description_of(cache, found.place));
  return 0;
}

void explain_miss(const DiskCache& cache, const std::string& asked, const std::string& key,
                  const std::optional<NearestKey>& nearest) {
  fmt::print("it is not there: {}\n  {}\n", digest_of(std::as_bytes(std::span(key))).hex(), asked);
  const std::filesystem::path aside = std::filesystem::path(cache.path_of(key)).replace_extension(".bad");
  std::error_code error;
  if (cache.on_disk() && std::filesystem::exists(aside, error)) {
    fmt::print("an entry of its name was found damaged, or was refused by a driver, and set aside as\n  {}\n", aside.string());
  }
  if (!nearest) {
    fmt::print("nothing of this family is in the cache or a bundle\n");
    return;
  }
  fmt::print("nearest: {} in {}\n  {}\nwhat differs:\n", nearest->place.name, place_of(cache, nearest->place),
             description_of(cache, nearest->place));
  fmt::print("{}", differences_text({nearest->differences, nearest->spec_differences}, "asked for", "kept"));
}

int why(const std::string& spec_argument, const std::string& arch) {
  const Result<AnySpec> spec = read_spec(spec_argument, arch);
  if (!spec.ok()) return fail(spec.status());
  const Result<KernelRequest> request = request_of(*spec);
  if (!request.ok()) return fail(request.status());
  const auto cache = look_at_cache();
  EngineOptions options;
  options.cache.mode = CacheMode::off;  // only asked for the key
  options.cache.bundles = {};
  const Engine engine(options);
  Result<std::string> key = engine.key(*request);
  // Without a compiler, any compiler's kernel serves (docs/bundle-format.md).
  const bool any_compiler = key.status().code() == Code::unavailable;
  if (any_compiler) {
    const Result<std::string> source = engine.source(*request);
    if (!source.ok()) return fail(source.status());
    fmt::print("asked for by any compiler, as there is none here: {}\n", key.status().message());
    key = compile_key_prefix(*request, *source);
  }
  if (!key.ok()) return fail(key.status());
  if (!cache->on_disk()) fmt::print("the cache is not in use: {}\n", cache->why_off());
  for (const Status& trouble : cache->bundle_troubles()) fmt::print("a bundle is not in use: {}\n", trouble.to_string());
  const std::optional<NearestKey> nearest = nearest_key(*cache, *key);
  const auto matters = [&](const KeyDifference& d) { return !any_compiler || d.field != "compiler"; };
  if (nearest && std::ranges::none_of(nearest->differences, matters)) return explain_hit(*cache, *nearest);
  explain_miss(*cache, text_of(*spec), *key, nearest);
  return 0;
}

}  // namespace

void add_cache_why(CLI::App& cache, int& exit_code) {
  auto spec = std::make_shared<std::string>(), arch = std::make_shared<std::string>();
  CLI::App* job = cache.add_subcommand("why", "Why a spec's kernel is not there: what differs in the nearest key.");
  job->add_option("spec,--spec", *spec, "the operation (docs/spec.md)")->required();
  job->add_option("--arch", *arch, "in place of the spec's own");
  job->callback([spec, arch, &exit_code] { exit_code = why(*spec, *arch); });
}

}  // namespace lathe::cli
