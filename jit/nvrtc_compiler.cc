#include <mutex>
#include <optional>

#include "lathe/base/knobs.h"
#include "lathe/base/log.h"
#include "lathe/jit/compiler.h"
#include "lathe/jit/nvrtc_find.h"
#include "lathe/jit/nvrtc_library.h"
#include "lathe/jit/per_process.h"
#include "lathe/jit/worker/pool.h"

namespace lathe {
namespace {

// A sanitizer reserves terabytes of addresses, so a worker built with one cannot run under a limit.
constexpr bool kLimitMemory = LATHE_SANITIZED == 0;

// NVRTC as found by one process: which files, which build, and the way to run it, either in workers or loaded here.
class Toolchain {
 public:
  explicit Toolchain(const NvrtcOptions& options) : options_(options) {}

  Result<NvrtcFiles> files() {
    std::lock_guard lock(mutex_);
    return files_locked();
  }

  Result<std::string> build() {
    std::lock_guard lock(mutex_);
    if (build_) return *build_;
    auto files = files_locked();
    LATHE_TRY(files);
    auto build = nvrtc_build(*files);
    LATHE_TRY(build);
    return build_.emplace(*std::move(build));
  }

  // Where to compile: a pool of workers or, when that is null, the library in this process. Both live as long as this object.
  struct Place {
    WorkerPool* pool = nullptr;
    const NvrtcLibrary* library = nullptr;
  };
  Result<Place> place() {
    std::lock_guard lock(mutex_);
    if (pool_ != nullptr || library_ != nullptr) return Place{pool_.get(), library_.get()};
    auto files = files_locked();
    LATHE_TRY(files);
    std::string worker = options_.in_process ? "" : find_compile_worker(options_.worker);
    if (!worker.empty()) {
      pool_ = std::make_unique<WorkerPool>(WorkerOptions{std::move(worker), *files, options_.workers, options_.timeout_ms,
                                                         kLimitMemory ? options_.memory_bytes : 0, options_.room_bytes});
      return Place{pool_.get(), nullptr};
    }
    if (!options_.in_process) {
      warn_once("compile worker",
                "lathe-compile-worker was not found beside the library: NVRTC runs inside this process, where its crash "
                "is a crash of the program (set LATHE_WORKER to the program, or LATHE_COMPILE=inprocess to accept this)");
    }
    auto library = NvrtcLibrary::open(*files);
    LATHE_TRY(library);
    library_ = *std::move(library);
    return Place{nullptr, library_.get()};
  }

 private:
  // Found once; a failure is not kept, so that an NVRTC installed later is found.
  Result<NvrtcFiles> files_locked() {
    if (files_) return *files_;
    auto found = find_nvrtc(options_.library);
    LATHE_TRY(found);
    return files_.emplace(*std::move(found));
  }

  const NvrtcOptions options_;
  std::mutex mutex_;
  std::optional<NvrtcFiles> files_;
  std::optional<std::string> build_;
  std::unique_ptr<WorkerPool> pool_;
  std::unique_ptr<NvrtcLibrary> library_;
};

class NvrtcCompiler : public Compiler {
 public:
  explicit NvrtcCompiler(NvrtcOptions options)
      : options_(std::move(options)), toolchain_([this] { return std::make_unique<Toolchain>(options_); }) {}

  Result<std::string> identity(const std::string& arch) override {
    auto build = toolchain_.get().build();
    LATHE_TRY(build);
    std::string text = *build + ", options --gpu-architecture=" + arch;
    for (const std::string& option : nvrtc_options()) text += " " + option;
    return text;
  }

  Result<CompileOutput> compile(const CompileJob& job) override {
    auto place = toolchain_.get().place();
    LATHE_TRY(place);
    return place->pool != nullptr ? place->pool->compile(job) : place->library->compile(job);
  }

  std::vector<std::string> archs() override {
    auto place = toolchain_.get().place();
    if (!place.ok()) return {};
    if (place->pool == nullptr) return place->library->archs();
    auto archs = place->pool->archs();
    return archs.ok() ? *archs : std::vector<std::string>{};
  }

  std::string describe() override {
    auto files = toolchain_.get().files();
    if (!files.ok()) return "no NVRTC: " + files.status().message();
    auto place = toolchain_.get().place();
    if (!place.ok()) return "NVRTC cannot be used: " + place.status().to_string();
    auto version = place->pool != nullptr ? place->pool->version() : Result<std::string>(place->library->version());
    if (!version.ok()) return "NVRTC cannot be used: " + version.status().to_string();
    return "NVRTC " + *version + " (" + files->library + "), " +
           (place->pool != nullptr ? "up to " + std::to_string(options_.workers) + " worker processes" : "inside this process");
  }

 private:
  const NvrtcOptions options_;
  PerProcess<Toolchain> toolchain_;
};

NvrtcOptions with_knobs(NvrtcOptions options) {
  auto mode = knob("LATHE_COMPILE");
  if (mode == "inprocess") options.in_process = true;
  if (mode && mode != "inprocess" && mode != "worker") {
    warn_once("LATHE_COMPILE", "LATHE_COMPILE=" + *mode + " is neither worker nor inprocess: ignored");
  }
  return options;
}

}  // namespace

std::shared_ptr<Compiler> nvrtc_compiler(NvrtcOptions options) {
  return std::make_shared<NvrtcCompiler>(with_knobs(std::move(options)));
}

}  // namespace lathe
