#include "support.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>

#include "lathe/jit/nvrtc_find.h"

namespace lathe::testing {

ScopedEnv::ScopedEnv(const char* name, const char* value) : name_(name) {
  if (const char* before = getenv(name)) before_ = before;
  value == nullptr ? unsetenv(name) : setenv(name, value, 1);
}

ScopedEnv::~ScopedEnv() {
  before_ ? setenv(name_, before_->c_str(), 1) : unsetenv(name_);
}

TemplateStore store_of(std::initializer_list<std::pair<const std::string, std::string>> files) {
  return TemplateStore(std::map<std::string, std::string, std::less<>>(files.begin(), files.end()));
}

TemplateStore tiny_store() {
  return store_of({
      {"kernels/tiny/kernel.cu",
       "#include \"target.cuh\"\nconstexpr long long kNumber = <%number%>;\nKERNEL void tiny(int* out) {\n  *out = "
       "(int)kNumber;\n}\n"},
      {"device/host/target.cuh", "#pragma once\n#define KERNEL extern \"C\" __attribute__((visibility(\"default\")))\n"},
      {"device/sm_80/target.cuh", "#pragma once\n#define KERNEL extern \"C\" __global__\n"},
  });
}

KernelRequest tiny_request(const std::string& arch, int number) {
  KernelRequest r;
  r.family = r.entry = "tiny";
  r.description = "tiny kernel " + std::to_string(number);
  r.canonical = bytes_of("tiny " + std::to_string(number));
  r.data.emplace("number", number);
  r.arch = arch;
  r.block_threads = 32;
  r.shared_bytes = 1024;
  return r;
}

EngineOptions tiny_engine(std::shared_ptr<Compiler> compiler, const std::string& cache_root) {
  EngineOptions options;
  options.cache = CacheOptions{};
  options.cache.root = cache_root;
  options.cache.mode = cache_root.empty() ? CacheMode::off : CacheMode::read_write;
  options.compiler = std::move(compiler);
  options.templates = std::make_shared<TemplateStore>(tiny_store());
  return options;
}

Bytes bytes_of(const std::string& text) {
  auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

size_t open_descriptors() {
  auto entries = std::filesystem::directory_iterator("/proc/self/fd");
  return static_cast<size_t>(std::distance(begin(entries), end(entries)));
}

std::vector<int> children_of(int pid) {
  std::vector<int> children;
  for (const auto& task : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task")) {
    std::ifstream list(task.path() / "children");
    for (int child = 0; list >> child;) children.push_back(child);
  }
  return children;
}

bool have_nvrtc() {
  auto files = find_nvrtc({});
  if (files.ok()) {
    static const std::string words = nvrtc_compiler()->describe();
    static const int printed = std::printf("%s\n", words.c_str());
    return printed > 0;
  }
  const char* without = getenv("LATHE_TEST_NO_NVRTC");
  if (without == nullptr || std::string(without) != "1") {
    ADD_FAILURE() << files.status().to_string() << "\nset LATHE_TEST_NO_NVRTC=1 to pass over the tests that need it";
  }
  return false;
}

}  // namespace lathe::testing
