// What the tests of jit/ share: tiny template stores, requests for them, and a look at this process's descriptors and children.
#pragma once

#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lathe/jit/engine.h"

namespace lathe::testing {

// Sets an environment variable for one scope; null removes it.
class ScopedEnv {
 public:
  ScopedEnv(const char* name, const char* value);
  ~ScopedEnv();
  ScopedEnv(const ScopedEnv&) = delete;
  ScopedEnv& operator=(const ScopedEnv&) = delete;

 private:
  const char* name_;
  std::optional<std::string> before_;
};

TemplateStore store_of(std::initializer_list<std::pair<const std::string, std::string>> files);

// A store with one family, "tiny", that compiles for every target: kernel tiny(int*) stores the value "number" where it is told.
TemplateStore tiny_store();
KernelRequest tiny_request(const std::string& arch, int number = 7);
// An engine on tiny_store(); empty `cache_root`: no disk cache.
EngineOptions tiny_engine(std::shared_ptr<Compiler> compiler, const std::string& cache_root = {});

Bytes bytes_of(const std::string& text);
size_t open_descriptors();
std::vector<int> children_of(int pid);  // living or not yet reaped

// Whether NVRTC is here. Where it is not, the running test is failed, or skipped under LATHE_TEST_NO_NVRTC=1.
bool have_nvrtc();

}  // namespace lathe::testing
