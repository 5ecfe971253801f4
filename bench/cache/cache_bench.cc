// What the cache costs: a hit with all its checks, from the root and from a bundle; a store, with and without fsync; a store that
// looks at the size of a root with many entries. In a folder below TMPDIR, so on that file system.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "lathe/cache/disk_cache.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "lathe-cache-bench-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) std::abort();
    path_ = name;
  }
  ~Folder() { fs::remove_all(path_); }
  std::string operator/(const char* name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

Entry entry_of(size_t bytes, int number = 0) {
  return {"a key of some hundred bytes " + std::string(600, 'k') + std::to_string(number), std::string(400, ' '), Bytes(bytes)};
}

CacheOptions at(const std::string& root) {
  CacheOptions options;
  options.root = root;
  return options;
}

void hit(benchmark::State& state) {
  Folder folder;
  const Entry entry = entry_of(static_cast<size_t>(state.range(0)));
  DiskCache cache(at(folder / "root"));
  if (!cache.store(entry)) return state.SkipWithError("not stored");
  for (auto _ : state) benchmark::DoNotOptimize(cache.find(entry.key));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(hit)->Arg(10'000)->Arg(100'000)->Arg(1'000'000);

void hit_in_bundle(benchmark::State& state) {
  Folder folder;
  const Entry entry = entry_of(static_cast<size_t>(state.range(0)));
  DiskCache(at(folder / "bundle")).store(entry);
  if (!seal_bundle(real_fs(), folder / "bundle", Trust{geteuid()}).ok()) return state.SkipWithError("not sealed");
  CacheOptions options = at(folder / "root");
  options.bundles = {folder / "bundle"};
  DiskCache cache(options);
  for (auto _ : state) benchmark::DoNotOptimize(cache.find(entry.key));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(hit_in_bundle)->Arg(10'000)->Arg(100'000)->Arg(1'000'000);

void miss(benchmark::State& state) {
  Folder folder;
  DiskCache cache(at(folder / "root"));
  cache.store(entry_of(1000));
  const std::string key = entry_of(0, 1).key;
  for (auto _ : state) benchmark::DoNotOptimize(cache.find(key));
}
BENCHMARK(miss);

void store(benchmark::State& state) {
  Folder folder;
  CacheOptions options = at(folder / "root");
  options.sync = state.range(1) != 0 ? CacheSync::always : CacheSync::never;
  DiskCache cache(options);
  const Entry entry = entry_of(static_cast<size_t>(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(cache.store(entry));
}
BENCHMARK(store)->ArgNames({"bytes", "fsync"})->Args({100'000, 0})->Args({100'000, 1});

// A process's first store, which looks at the whole root.
void first_store(benchmark::State& state) {
  Folder folder;
  {
    DiskCache filler(at(folder / "root"));
    for (int i = 0; i < state.range(0); i++) filler.store(entry_of(100, i));
  }
  const Entry entry = entry_of(100);
  for (auto _ : state) benchmark::DoNotOptimize(DiskCache(at(folder / "root")).store(entry));
}
BENCHMARK(first_store)->Arg(100)->Arg(10'000)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace lathe
