// fault_server <folder> <seed>: one life of a program that uses Lathe, on a cache in <folder>/root and a bundle in <folder>/bundle.
// Whatever the file system does, it gets every kernel that it asks for: then it exits with 0, else with 1 and a complaint.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>

#include "lathe/base/log.h"
#include "lathe/cache/bundle_transfer.h"
#include "lathe/jit/engine.h"
#include "lathe/jit_test_support/support.h"
#include "lathe/jit_testing/fake_compiler.h"

namespace {

using namespace lathe;
using testing::FakeCompiler;

int complaints = 0;

void complain(const std::string& text) {
  std::printf("%s\n", text.c_str());
  complaints++;
}

// An engine's answers for `kernels` requests.
void serve(const EngineOptions& options, int kernels) {
  Engine engine(options);
  for (int number = 0; number < kernels; number++) {
    const KernelRequest request = testing::tiny_request("sm_80", number);
    const auto artifact = engine.build(request);
    if (!artifact.ok()) {
      complain("kernel " + std::to_string(number) + ": " + artifact.status().to_string());
    } else if ((*artifact)->binary != FakeCompiler::binary_of({*engine.source(request), request.family, request.arch})) {
      complain("kernel " + std::to_string(number) + " has wrong bytes");
    }
  }
}

void fail_a_compile(EngineOptions options) {
  auto compiler = std::make_shared<FakeCompiler>();
  compiler->fail_with({Code::compile_failed, "the fake compiler's log"});
  options.compiler = compiler;
  Engine engine(options);
  const Status status = engine.build(testing::tiny_request("sm_80", 1000)).status();
  const std::string text = status.to_string();
  const bool whole = text.find("tiny kernel 1000") != std::string::npos && text.find("fake compiler's log") != std::string::npos;
  if (status.code() != Code::compile_failed || !whole) complain("a failed compile says " + text);
}

// What only maintains the cache may fail, and say so.
void maintain(const std::string& root, const std::string& bundle, uint64_t size) {
  CacheOptions options;
  options.root = root;
  DiskCache cache(options);
  (void)export_bundle(cache, {}, bundle);
  cache.trim(size);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const std::string root = std::string(argv[1]) + "/root", bundle = std::string(argv[1]) + "/bundle";
  std::mt19937_64 random(std::strtoull(argv[2], nullptr, 10));
  set_log_callback([](LogLevel, std::string_view) {});  // a warning is right; what it says is for other tests
  EngineOptions options = testing::tiny_engine(std::make_shared<FakeCompiler>(), root);
  options.cache.sync = random() % 2 == 0 ? CacheSync::always : CacheSync::never;
  if (random() % 2 == 0) options.cache.max_bytes = 2000;  // a store makes room by what others stored
  const int kernels = 2 + static_cast<int>(random() % 2);
  serve(options, kernels);      // some are there, one is damaged, the rest are compiled
  serve(options, kernels + 1);  // a second life: from the disk
  fail_a_compile(options);
  maintain(root, bundle, 1000 + random() % 3000);
  options.cache.bundles = {bundle};
  serve(options, kernels);
  return complaints == 0 ? 0 : 1;
}
