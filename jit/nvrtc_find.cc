#include "lathe/jit/nvrtc_find.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <optional>
#include <system_error>

#include "lathe/base/knobs.h"
#include "lathe/jit/elf_build_id.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

// Newest first.
constexpr std::array kLibraryNames{"libnvrtc.so.13", "libnvrtc.so.12"};

std::vector<fs::path> children(const fs::path& folder, std::string_view prefix) {
  std::vector<fs::path> out;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->path().filename().string().starts_with(prefix)) out.push_back(it->path());
  }
  auto newer = [](const fs::path& a, const fs::path& b) { return strverscmp(a.c_str(), b.c_str()) > 0; };
  std::sort(out.begin(), out.end(), newer);
  return out;
}

std::string environment(const char* name) {
  const char* value = secure_getenv(name);
  return value == nullptr ? "" : value;
}

void add_toolkit(const fs::path& root, std::vector<fs::path>& folders) {
  folders.push_back(root / "lib64");
  for (const fs::path& target : children(root / "targets", "")) folders.push_back(target / "lib");
}

void add_site_packages(const fs::path& lib, std::vector<fs::path>& folders) {
  for (const fs::path& python : children(lib, "python3")) {
    folders.push_back(python / "site-packages/nvidia/cu13/lib");
    folders.push_back(python / "site-packages/nvidia/cuda_nvrtc/lib");
  }
}

std::vector<fs::path> search_folders() {
  std::vector<fs::path> folders;
  if (!knob_on("LATHE_IGNORE_TOOLKIT")) {
    for (const char* name : {"CUDA_HOME", "CUDA_PATH"}) {
      if (std::string root = environment(name); !root.empty()) add_toolkit(root, folders);
    }
    add_toolkit("/usr/local/cuda", folders);
    for (const fs::path& root : children("/usr/local", "cuda-")) add_toolkit(root, folders);
    for (const char* folder : {"/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64"}) folders.push_back(folder);
  }
  if (fs::path own = own_folder(); !own.empty()) {
    folders.push_back(own.parent_path() / "nvidia/cu13/lib");                // Lathe and the wheel in one site-packages
    folders.push_back(own.parent_path().parent_path() / "nvidia/cu13/lib");  // likewise, from lathe/lib
    // From build/bin and build/<preset>/bin up to the folder that holds .venv.
    for (fs::path above = own.parent_path(); above.has_relative_path(); above = above.parent_path()) {
      add_site_packages(above / ".venv/lib", folders);
    }
  }
  if (std::string venv = environment("VIRTUAL_ENV"); !venv.empty()) add_site_packages(fs::path(venv) / "lib", folders);
  return folders;
}

// "13.0" of "libnvrtc-builtins.so.13.0"; nothing for names with another count of numbers.
std::optional<std::string> builtins_version(const std::string& name) {
  constexpr std::string_view kPrefix = "libnvrtc-builtins.so.";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  std::string version = name.substr(kPrefix.size());
  bool digits = std::all_of(version.begin(), version.end(), [](char c) { return (c >= '0' && c <= '9') || c == '.'; });
  if (!digits || std::count(version.begin(), version.end(), '.') != 1) return std::nullopt;
  return version;
}

NvrtcFiles with_builtins(const fs::path& library) {
  NvrtcFiles files{library.string(), {}, {}};
  std::error_code error;
  fs::path real = fs::canonical(library, error);
  fs::path folder = (error ? library : real).parent_path();
  for (const fs::path& candidate : children(folder, "libnvrtc-builtins.so.")) {
    auto version = builtins_version(candidate.filename().string());
    if (!version) continue;
    files.builtins = candidate.string();
    files.version = *version;
    break;
  }
  return files;
}

}  // namespace

std::string own_folder() {
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&own_folder), &info) == 0 || info.dli_fname == nullptr) return {};
  std::error_code error;
  // A program's own name may be relative to a folder since left; the link in /proc is not.
  fs::path program = fs::read_symlink("/proc/self/exe", error);
  fs::path file = fs::canonical(info.dli_fname, error);
  if (error) file = program;
  return file.parent_path().string();
}

Result<NvrtcFiles> find_nvrtc(const std::string& library) {
  std::string given = !library.empty() ? library : knob("LATHE_NVRTC").value_or("");
  std::error_code error;
  if (!given.empty()) {
    if (fs::is_regular_file(given, error)) return with_builtins(fs::absolute(given, error));
    return Status(Code::unavailable, "'" + given + "' is not a file", "LATHE_NVRTC",
                  "give the path of libnvrtc.so.13, or unset it");
  }
  std::string searched;
  for (const fs::path& folder : search_folders()) {
    for (const char* name : kLibraryNames) {
      if (fs::is_regular_file(folder / name, error)) return with_builtins(folder / name);
    }
    if (fs::is_directory(folder, error)) searched += "\n  " + folder.string();
  }
  return Status(Code::unavailable,
                "no libnvrtc.so.13 or libnvrtc.so.12 in an installed CUDA toolkit or a Python environment; folders looked at:" +
                    (searched.empty() ? std::string(" none exists") : searched),
                "NVRTC", "install a CUDA toolkit or the Python package nvidia-cuda-nvrtc, or set LATHE_NVRTC to the library");
}

Result<std::string> nvrtc_build(const NvrtcFiles& files) {
  auto library = build_of_file(files.library);
  LATHE_TRY(library);
  std::string text = "nvrtc " + (files.version.empty() ? "of unknown version" : files.version) + ", library " + *library;
  if (files.builtins.empty()) return text;
  auto builtins = build_of_file(files.builtins);
  LATHE_TRY(builtins);
  return text + ", builtins " + *builtins;
}

std::string find_compile_worker(const std::string& program) {
  auto if_program = [](const std::string& path) { return access(path.c_str(), X_OK) == 0 ? path : ""; };
  if (!program.empty()) return if_program(program);
  if (auto path = knob("LATHE_WORKER")) return if_program(*path);
  const std::string own = own_folder();
  for (const char* beside : {"/", "/../bin/", "/../libexec/"}) {
    if (std::string path = if_program(own + beside + "lathe-compile-worker"); !path.empty()) return path;
  }
  return "";
}

}  // namespace lathe
