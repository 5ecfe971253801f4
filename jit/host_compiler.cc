#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <mutex>
#include <optional>
#include <sstream>
#include <system_error>

#include "lathe/base/knobs.h"
#include "lathe/jit/compile_log.h"
#include "lathe/jit/compiler.h"
#include "lathe/jit/per_process.h"
#include "lathe/jit/process.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

// A kernel takes seconds of a core. On a machine loaded 15 times over, two minutes of the clock were not enough for one of them; a
// compiler that hangs is ended all the same.
constexpr auto kCompileLimit = std::chrono::seconds(600);
constexpr auto kAskLimit = std::chrono::seconds(20);
constexpr size_t kMaxLogBytes = size_t{1} << 20;
constexpr off_t kMaxBinaryBytes = off_t{256} << 20;

// What every kernel is compiled with, in order; part of the compile key. Arithmetic must agree with the device's (no contraction),
// the device headers are all there is (-nostdinc), and a kernel carries the sanitizers of the library that runs it.
std::vector<std::string> options() {
  std::vector<std::string> list{"-std=c++17",
                                "-O1",
                                "-g1",  // a fault names the template's line
                                "-fno-strict-aliasing",
                                "-ffp-contract=off",
                                "-fno-exceptions",
                                "-fno-rtti",
                                "-shared",
                                "-fPIC",
                                "-fvisibility=hidden",
                                "-nostdinc",
                                "-nostdinc++",
                                "-w",
                                "-Wl,--build-id=none"};
  std::istringstream sanitizers(LATHE_SANITIZE);
  for (std::string flag; sanitizers >> flag;) list.push_back(flag);
  return list;
}

// The path of `name`: itself when it has a slash, else by PATH. Empty when it is no program.
std::string find_program(const std::string& name) {
  auto is_program = [](const std::string& path) {
    std::error_code error;
    return fs::is_regular_file(path, error) && access(path.c_str(), X_OK) == 0;
  };
  if (name.find('/') != std::string::npos) return is_program(name) ? name : "";
  const char* path = secure_getenv("PATH");
  std::istringstream folders(path == nullptr ? "/usr/bin:/bin" : path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    // An empty or relative entry means wherever the program happens to run: not a place to take a compiler from.
    if (folder.starts_with('/') && is_program(folder + "/" + name)) return folder + "/" + name;
  }
  return "";
}

Result<std::string> find_compiler() {
  constexpr const char* kHint = "install g++ (apt-get install g++) or set LATHE_CXX to a C++ compiler";
  if (auto given = knob("LATHE_CXX")) {
    if (std::string found = find_program(*given); !found.empty()) return found;
    return Status(Code::unavailable, "'" + *given + "' is not a program; it must be one compiler, without options", "LATHE_CXX",
                  kHint);
  }
  for (const char* name : {"c++", "g++", "clang++"}) {
    if (std::string found = find_program(name); !found.empty()) return found;
  }
  return Status(Code::unavailable, "none of c++, g++, clang++ is in PATH", "C++ compiler of the host target", kHint);
}

// A folder only this user can enter; removed with all that is in it.
class PrivateFolder {
 public:
  PrivateFolder() {
    std::error_code error;
    std::string name = (fs::temp_directory_path(error) / "lathe-XXXXXX").string();
    if (error || mkdtemp(name.data()) == nullptr) {
      why_ = "cannot make a temporary folder " + name + ": " +
             (error ? error : std::error_code(errno, std::generic_category())).message();
    } else {
      path_ = name;
    }
  }
  ~PrivateFolder() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  PrivateFolder(const PrivateFolder&) = delete;
  PrivateFolder& operator=(const PrivateFolder&) = delete;
  Status status() const { return path_.empty() ? Status(Code::unavailable, why_, "TMPDIR") : Status(); }
  const std::string& path() const { return path_; }

 private:
  std::string path_, why_;
};

// Gives `input` to a process and takes all it says until it closes its end. False when the deadline came first.
bool converse(int socket, std::string_view input, std::string& output, Clock::time_point deadline) {
  if (input.empty()) shutdown(socket, SHUT_WR);
  for (;;) {
    pollfd p{socket, static_cast<short>(POLLIN | (input.empty() ? 0 : POLLOUT)), 0};
    int ready = poll(&p, 1, milliseconds_until(deadline));
    if (ready == 0 && Clock::now() >= deadline) return false;
    if (ready <= 0) continue;
    if (!input.empty() && (p.revents & POLLOUT) != 0) {
      ssize_t n = send(socket, input.data(), input.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n > 0) input.remove_prefix(static_cast<size_t>(n));
      bool gone = n < 0 && errno != EAGAIN && errno != EINTR;
      if (gone) input = {};  // it reads no more; what it says is still wanted
      if (input.empty()) shutdown(socket, SHUT_WR);
    }
    if ((p.revents & (POLLIN | POLLHUP | POLLERR)) == 0) continue;
    char buffer[16384];
    ssize_t n = recv(socket, buffer, sizeof buffer, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) return true;
    if (n > 0 && output.size() < kMaxLogBytes) output.append(buffer, static_cast<size_t>(n));
  }
}

struct Ended {
  std::string output;
  std::string how;  // "exited with 0"
  bool succeeded = false;
};

// Runs a program to its end; resource_exhausted at the limit, and then it is ended with all it started.
Result<Ended> run(ProcessSpec spec, std::string_view input, Clock::duration limit, const std::string& tmpdir) {
  auto process = Process::start(spec, tmpdir);
  LATHE_TRY(process);
  auto deadline = Clock::now() + limit;
  Ended ended;
  std::optional<std::string> how;
  if (converse(process->socket(), input, ended.output, deadline)) how = process->wait(deadline);
  if (!how) {
    auto seconds = std::chrono::duration_cast<std::chrono::seconds>(limit).count();
    return Status(Code::resource_exhausted, "did not finish within " + std::to_string(seconds) + " s and was ended", spec.program);
  }
  ended.how = *std::move(how);
  ended.succeeded = process->succeeded();
  return ended;
}

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

Result<Bytes> read_binary(const std::string& path) {
  auto failed = [] { return Status(Code::compile_failed, "the C++ compiler left no output that can be read"); };
  OwnedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  struct stat info {};
  if (fd.get() < 0 || fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode) || info.st_size <= 0 ||
      info.st_size > kMaxBinaryBytes) {
    return failed();
  }
  Bytes bytes(static_cast<size_t>(info.st_size));
  for (size_t at = 0; at < bytes.size();) {
    ssize_t n = read(fd.get(), bytes.data() + at, bytes.size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return failed();
    at += static_cast<size_t>(n);
  }
  return bytes;
}

// The compiler as one process found it.
struct Found {
  std::mutex mutex;
  std::string program, version;  // guarded by mutex; empty until found
};

class HostCompiler : public Compiler {
 public:
  Result<std::string> identity(const std::string& arch) override {
    LATHE_TRY(check(arch));
    std::string program, version;
    LATHE_TRY(find(program, version));
    std::string text = version + ", options";
    for (const std::string& option : options()) text += " " + option;
    return text;
  }

  Result<CompileOutput> compile(const CompileJob& job) override {
    LATHE_TRY(check(job.arch));
    std::string program, version;
    LATHE_TRY(find(program, version));
    PrivateFolder folder;
    LATHE_TRY(folder.status());
    const std::string binary = folder.path() + "/kernel.so";
    ProcessSpec spec{program, options()};
    spec.args.insert(spec.args.end(), {"-o", binary, "-x", "c++", "-"});

    auto start = Clock::now();
    auto ended = run(spec, job.source, kCompileLimit, folder.path());
    LATHE_TRY(ended);
    if (!ended->succeeded) {
      return compile_error("the C++ compiler (" + program + ", " + ended->how + ")", job, ended->output);
    }
    CompileOutput out;
    out.milliseconds = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
    auto bytes = read_binary(binary);
    LATHE_TRY(bytes);
    out.binary = *std::move(bytes);
    out.log = std::move(ended->output);
    return out;
  }

  std::vector<std::string> archs() override {
    std::string program, version;
    if (!find(program, version).ok()) return {};
    return {"host"};
  }

  std::string describe() override {
    std::string program, version;
    Status status = find(program, version);
    return status.ok() ? version + " (" + program + ")" : "no C++ compiler: " + status.message();
  }

 private:
  static Status check(const std::string& arch) {
    if (arch == "host") return {};
    return {Code::unsupported, "the C++ compiler compiles for 'host', not for '" + arch + "'", "arch"};
  }

  Status find(std::string& program, std::string& version) {
    Found& found = found_.get();
    std::lock_guard lock(found.mutex);
    if (found.program.empty()) {
      auto path = find_compiler();
      LATHE_TRY(path);
      auto about = run({*path, {"--version"}}, {}, kAskLimit, {});
      LATHE_TRY(about);
      auto machine = run({*path, {"-dumpmachine"}}, {}, kAskLimit, {});
      LATHE_TRY(machine);
      if (!about->succeeded || !machine->succeeded || about->output.empty()) {
        return {Code::unavailable, "does not say its version and target; is it a C++ compiler?", *path};
      }
      found.program = *path;
      found.version = first_line(about->output) + ", " + first_line(machine->output);
    }
    program = found.program;
    version = found.version;
    return {};
  }

  PerProcess<Found> found_{[] { return std::make_unique<Found>(); }};
};

}  // namespace

std::shared_ptr<Compiler> host_compiler() {
  return std::make_shared<HostCompiler>();
}

}  // namespace lathe
