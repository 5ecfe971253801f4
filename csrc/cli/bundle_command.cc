// lathe cache export, lathe cache import: kernels as a folder that can be copied anywhere.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include "cache_view.h"
#include "commands.h"
#include "input.h"
#include "lathe/cache/bundle_transfer.h"
#include "lathe/spec/text.h"
#include "table.h"

namespace lathe::cli {
namespace {

struct BundleOptions {
  std::string path, sha256;
  std::vector<std::string> names;
};

int write_out(const BundleOptions& options) {
  const auto view = look_at_cache();
  if (!view->on_disk()) return fail(cache_is_off(*view));
  const std::string path = absolute_path(options.path);
  const Result<SealReport> report = export_bundle(*view, options.names, path);
  if (!report.ok()) return fail(report.status());
  for (const std::string& file : report->left_out) fmt::print(stderr, "lathe: not in the manifest: {}\n", file);
  fmt::print("{}, {}, in {}\nmanifest SHA-256 {}\n", plural(report->entries, "kernel"), in_bytes(report->bytes), path,
             report->digest.hex());
  return 0;
}

int read_in(const BundleOptions& options) {
  const std::string path = absolute_path(options.path);
  const Result<Bundle> bundle = Bundle::open(real_fs(), path, Trust{geteuid()});
  if (!bundle.ok()) return fail(bundle.status());
  if (!options.sha256.empty() && options.sha256 != bundle->digest().hex()) {
    return fail(invalid_argument("--sha256", fields::in_quotes(options.sha256, 80) +
                                                 " is not the digest of the manifest, which is " + bundle->digest().hex()));
  }
  DiskCache cache(CacheOptions::from_environment());
  const Result<ImportReport> report = import_bundle(*bundle, cache);
  if (!report.ok()) return fail(report.status());
  fmt::print("{}, {}, into {}\n", plural(report->entries, "kernel"), in_bytes(report->bytes), cache.root());
  return 0;
}

}  // namespace

void add_cache_bundles(CLI::App& cache, int& exit_code) {
  auto options = std::make_shared<BundleOptions>();
  CLI::App* job = cache.add_subcommand("export", "Copy entries into a bundle (docs/bundle-format.md).");
  job->add_option("bundle", options->path, "a folder; made, or added to")->required();
  job->add_option("names", options->names, "as lathe cache ls shows them; all when left out");
  job->callback([options, &exit_code] { exit_code = write_out(*options); });

  job = cache.add_subcommand("import", "Copy a bundle's entries into the cache, all or none.");
  job->add_option("bundle", options->path, "a folder with a manifest")->required();
  job->add_option("--sha256", options->sha256, "what the digest of its manifest must be");
  job->callback([options, &exit_code] { exit_code = read_in(*options); });
}

}  // namespace lathe::cli
