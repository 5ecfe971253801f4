#include "lathe/jit/nvrtc_library.h"

#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "lathe/jit/compile_log.h"
#include "lathe/jit/ptxas_log.h"

namespace lathe {
namespace {

// Declared by hand from NVRTC's documentation, so that building Lathe needs no CUDA header.
using Code_t = int;
using Program = void*;
constexpr Code_t kSuccess = 0, kOutOfMemory = 1, kCompilationFailed = 6;

constexpr int kFirstCapability = 80, kFirstWithA = 90, kFirstWithF = 100;

std::string dl_error() {
  const char* text = dlerror();
  return text == nullptr ? "unknown error" : text;
}

}  // namespace

struct NvrtcLibrary::Functions {
  Code_t (*version)(int*, int*);
  Code_t (*num_archs)(int*);
  Code_t (*archs)(int*);
  const char* (*error_string)(Code_t);
  Code_t (*create)(Program*, const char* source, const char* name, int, const char* const*, const char* const*);
  Code_t (*destroy)(Program*);
  Code_t (*compile)(Program, int, const char* const*);
  Code_t (*log_size)(Program, size_t*);
  Code_t (*log)(Program, char*);
  Code_t (*cubin_size)(Program, size_t*);
  Code_t (*cubin)(Program, char*);
  Code_t (*ptx_size)(Program, size_t*);
  Code_t (*ptx)(Program, char*);

  // The name of the first function that `library` lacks, or null.
  const char* load(void* library) {
    const std::pair<const char*, void*> wanted[] = {
        {"nvrtcVersion", &version},
        {"nvrtcGetNumSupportedArchs", &num_archs},
        {"nvrtcGetSupportedArchs", &archs},
        {"nvrtcGetErrorString", &error_string},
        {"nvrtcCreateProgram", &create},
        {"nvrtcDestroyProgram", &destroy},
        {"nvrtcCompileProgram", &compile},
        {"nvrtcGetProgramLogSize", &log_size},
        {"nvrtcGetProgramLog", &log},
        {"nvrtcGetCUBINSize", &cubin_size},
        {"nvrtcGetCUBIN", &cubin},
        {"nvrtcGetPTXSize", &ptx_size},
        {"nvrtcGetPTX", &ptx},
    };
    for (auto [name, slot] : wanted) {
      void* address = dlsym(library, name);
      if (address == nullptr) return name;
      *static_cast<void**>(slot) = address;
    }
    return nullptr;
  }
};

namespace {

// A program, destroyed on every path.
template <class Functions>
class OwnedProgram {
 public:
  OwnedProgram(const Functions& f, const CompileJob& job) : f_(f) {
    made_ = f.create(&program_, job.source.c_str(), (job.name + ".cu").c_str(), 0, nullptr, nullptr);
  }
  ~OwnedProgram() {
    if (made_ == kSuccess) f_.destroy(&program_);
  }
  Code_t made() const { return made_; }
  Code_t compile(const std::vector<std::string>& options) {
    std::vector<const char*> pointers;
    for (const std::string& o : options) pointers.push_back(o.c_str());
    return f_.compile(program_, static_cast<int>(pointers.size()), pointers.data());
  }
  std::string log() const {
    size_t size = 0;
    if (f_.log_size(program_, &size) != kSuccess || size <= 1) return {};
    std::string text(size, '\0');
    if (f_.log(program_, text.data()) != kSuccess) return {};
    text.resize(size - 1);  // its end is a zero byte
    return text;
  }
  size_t ptx_bytes() const {
    size_t size = 0;
    return f_.ptx_size(program_, &size) == kSuccess && size > 0 ? size - 1 : 0;
  }
  std::string ptx() const {
    std::string text(ptx_bytes() + 1, '\0');
    return f_.ptx(program_, text.data()) == kSuccess ? text : std::string();
  }
  Code_t cubin(Bytes& out) const {
    size_t size = 0;
    if (Code_t code = f_.cubin_size(program_, &size); code != kSuccess) return code;
    out.resize(size);
    return f_.cubin(program_, reinterpret_cast<char*>(out.data()));
  }

 private:
  const Functions& f_;
  Program program_ = nullptr;
  Code_t made_;
};

}  // namespace

std::vector<std::string> nvrtc_options() {
  return {"--std=c++17", "-default-device", "--minimal", "--no-cache", "--fmad=false", "--ptxas-options=-v"};
}

Status check_arch(const std::string& arch, const std::vector<std::string>& archs) {
  if (std::find(archs.begin(), archs.end(), arch) != archs.end()) return {};
  std::string list;
  for (const std::string& a : archs) list += (list.empty() ? "" : ", ") + a;
  return {Code::unsupported, "the loaded NVRTC cannot compile for '" + arch + "'; it can for " + list, "arch"};
}

NvrtcLibrary::NvrtcLibrary() : nvrtc_(std::make_unique<Functions>()) {}
NvrtcLibrary::~NvrtcLibrary() = default;

Result<std::unique_ptr<NvrtcLibrary>> NvrtcLibrary::open(const NvrtcFiles& files) {
  auto refused = [&](const std::string& why) {
    return Status(Code::unavailable, why, files.library, "is this an NVRTC 12 or 13?");
  };
  // NVRTC opens its builtins by bare name at the first compile, which fails outside the loader's search path; a library that is
  // already open under that name is found. When this fails, NVRTC's own message says what is missing.
  if (!files.builtins.empty()) dlopen(files.builtins.c_str(), RTLD_NOW | RTLD_LOCAL);
  void* library = dlopen(files.library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return refused("cannot be opened: " + dl_error());
  std::unique_ptr<NvrtcLibrary> self(new NvrtcLibrary);
  if (const char* missing = self->nvrtc_->load(library)) return refused(std::string("has no function ") + missing);

  int count = 0;
  std::vector<int> capabilities;
  bool asked = self->nvrtc_->version(&self->major_, &self->minor_) == kSuccess && self->nvrtc_->num_archs(&count) == kSuccess;
  if (asked) capabilities.resize(static_cast<size_t>(std::clamp(count, 0, 1024)));
  if (!asked || self->nvrtc_->archs(capabilities.data()) != kSuccess) return refused("does not tell its version and archs");
  bool has_families = std::pair(self->major_, self->minor_) >= std::pair(12, 9);
  for (int cc : capabilities) {
    if (cc < kFirstCapability) continue;
    std::string name = "sm_" + std::to_string(cc);
    self->archs_.push_back(name);
    if (cc >= kFirstWithA) self->archs_.push_back(name + "a");
    if (cc >= kFirstWithF && has_families) self->archs_.push_back(name + "f");
  }
  return self;
}

std::string NvrtcLibrary::version() const {
  std::string plain = std::to_string(major_) + "." + std::to_string(minor_);
  if (archs_.empty()) return plain;
  OwnedProgram program(*nvrtc_, CompileJob{"__global__ void nothing() {}", "version", archs_[0]});
  if (program.made() != kSuccess || program.compile({"--gpu-architecture=" + archs_[0]}) != kSuccess) return plain;
  std::string ptx = program.ptx();
  size_t begin = ptx.find(" V" + plain + ".");
  if (begin == std::string::npos) return plain;
  begin += 2;
  return ptx.substr(begin, ptx.find_first_not_of("0123456789.", begin) - begin);
}

Result<CompileOutput> NvrtcLibrary::compile(const CompileJob& job) const {
  LATHE_TRY(check_arch(job.arch, archs_));
  std::vector<std::string> options{"--gpu-architecture=" + job.arch};
  for (std::string& o : nvrtc_options()) options.push_back(std::move(o));

  auto start = std::chrono::steady_clock::now();
  OwnedProgram program(*nvrtc_, job);
  auto failed = [&](Code_t code, const char* step, const std::string& log) -> Status {
    if (code == kCompilationFailed) return compile_error("NVRTC", job, log);
    std::string text = "NVRTC reported '" + std::string(nvrtc_->error_string(code)) + "' (" + std::to_string(code) + ") while it " +
                       step + " " + job.name + " for " + job.arch + log_tail(log);
    return {code == kOutOfMemory ? Code::resource_exhausted : Code::compile_failed, std::move(text)};
  };
  if (program.made() != kSuccess) return failed(program.made(), "took in", {});
  CompileOutput out;
  Code_t code = program.compile(options);
  out.log = program.log();
  if (code != kSuccess) return failed(code, "compiled", out.log);
  code = program.cubin(out.binary);
  if (code != kSuccess) return failed(code, "handed back", out.log);
  out.milliseconds = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  PtxasFacts facts = parse_ptxas_log(out.log);
  out.registers = facts.registers;
  out.spill_bytes = facts.spill_bytes;
  out.ptx_bytes = static_cast<int64_t>(program.ptx_bytes());
  return out;
}

}  // namespace lathe
