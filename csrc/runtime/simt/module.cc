#include "lathe/runtime/simt/module.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <link.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <sstream>
#include <vector>

namespace lathe::simt {
namespace {

Status bad_module(const std::string& why) {
  return {Code::launch_failed, "cannot load the kernel's shared object: " + why, "host executor"};
}

bool write_all(int file, BytesView bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(file, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return true;
}

// What `program` prints, or nothing when it cannot be run or fails.
std::string output_of(std::vector<std::string> arguments) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return {};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  std::vector<char*> argv;
  for (std::string& a : arguments) argv.push_back(a.data());
  argv.push_back(nullptr);
  pid_t child = 0;
  const int failed = posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  std::string out;
  char buffer[4096];
  for (ssize_t n; failed == 0 && ((n = read(ends[0], buffer, sizeof(buffer))) > 0 || (n < 0 && errno == EINTR));) {
    if (n > 0) out.append(buffer, static_cast<size_t>(n));
  }
  close(ends[0]);
  if (failed != 0) return {};
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? out : std::string();
}

// "/where/it/was/built/templates/kernels/x/kernel.cu:12 (discriminator 3)" -> "templates/kernels/x/kernel.cu:12".
std::string tidy(std::string place) {
  place = place.substr(0, place.find(" ("));
  const size_t root = place.rfind("templates/");
  return root == std::string::npos ? place : place.substr(root);
}

}  // namespace

Result<std::shared_ptr<const Module>> Module::load(BytesView binary, const std::string& entry, const abi::SimtApi& api) {
  const int file = memfd_create("lathe-kernel", MFD_CLOEXEC);
  if (file < 0) return bad_module(std::string("memfd_create: ") + std::strerror(errno));
  if (!write_all(file, binary)) {
    const int error = errno;
    close(file);
    return bad_module(std::string("writing it to memory: ") + std::strerror(error));
  }
  void* handle = dlopen(fmt::format("/proc/self/fd/{}", file).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* why = dlerror();
    close(file);
    return bad_module(why == nullptr ? "dlopen failed" : why);
  }
  std::shared_ptr<Module> module(new Module(file, handle));
  using Bind = unsigned (*)(const abi::SimtApi*);
  auto bind = reinterpret_cast<Bind>(dlsym(handle, "lathe_simt_bind"));
  if (bind == nullptr) return bad_module("it has no lathe_simt_bind, so it was not built for the host executor");
  if (bind(&api) != abi::kSimtVersion) {
    return bad_module(
        fmt::format("it was built for another interface; this library has version {} of {} bytes", api.version, api.size));
  }
  module->entry_ = reinterpret_cast<Entry>(dlsym(handle, entry.c_str()));
  if (module->entry_ == nullptr) return bad_module("it has no kernel named '" + entry + "'");
  link_map* map = nullptr;
  if (dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0) return bad_module("dlinfo failed");
  module->base_ = reinterpret_cast<const char*>(map->l_addr);
  return std::shared_ptr<const Module>(std::move(module));
}

Module::~Module() {
  dlclose(handle_);
  // The loader knows libraries by name, and the name holds the descriptor's number: while it keeps the library, the number stays
  // taken.
  const std::string name = fmt::format("/proc/self/fd/{}", file_);
  if (void* kept = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD); kept != nullptr) {
    dlclose(kept);
    return;
  }
  close(file_);
}

std::string Module::frames(uint32_t site) const {
  std::lock_guard lock(mutex_);
  auto [at, fresh] = frames_.try_emplace(site);
  if (fresh) {
    const std::string object = fmt::format("/proc/{}/fd/{}", getpid(), file_);
    // One byte back: the call itself, not what comes after it.
    std::string out = output_of({"addr2line", "-i", "-f", "-e", object, fmt::format("{:#x}", site - 1)});
    if (out.find("??:") == std::string::npos) at->second = std::move(out);
  }
  return at->second;
}

bool Module::same_place(uint32_t a, uint32_t b) const {
  auto lines_only = [](const std::string& frames) {
    std::istringstream in(frames);
    std::string out;
    for (std::string function, place; std::getline(in, function) && std::getline(in, place);) out += function + tidy(place) + "\n";
    return out;
  };
  const std::string first = frames(a);
  return !first.empty() && lines_only(first) == lines_only(frames(b));
}

std::string Module::place(uint32_t site) const {
  std::istringstream in(frames(site));
  std::string inner, kernel;
  for (std::string function, line; kernel.empty() && std::getline(in, function) && std::getline(in, line);) {
    line = tidy(line);
    if (line.find("device/host/") != std::string::npos) continue;  // the primitive itself
    if (line.find("templates/device/") == std::string::npos) {
      kernel = line;
    } else if (inner.empty()) {
      inner = line;
    }
  }
  if (kernel.empty() && inner.empty()) return fmt::format("code offset {:#x}", site);
  if (kernel.empty()) return inner;
  return inner.empty() ? kernel : fmt::format("{} (through {})", kernel, inner);
}

}  // namespace lathe::simt
