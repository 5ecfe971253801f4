// Finds a 100 KB entry in a cache as often as its argument says; for cost_test.cc to count the instructions of.
#include <cstdlib>

#include "lathe/cache/disk_cache.h"
#include "lathe/testing/temp_dir.h"

int main(int argc, char** argv) {
  const int finds = argc > 1 ? std::atoi(argv[1]) : 1;
  lathe::testing::TempDir dir;
  lathe::CacheOptions options;
  options.root = (dir / "root").string();
  lathe::DiskCache cache(options);
  lathe::Entry entry{"a key of some hundred bytes " + std::string(600, 'k'), "{}", lathe::Bytes(100'000)};
  if (!cache.store(entry)) return 1;
  for (int i = 0; i < finds; i++) {
    if (!cache.find(entry.key)) return 1;
  }
  return 0;
}
