// A library with NVRTC's interface that does what the source tells it: fail, crash, hang, chatter, eat memory.
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

namespace {

struct Program {
  std::string source, log, cubin;
};

bool says(const Program& p, const char* word) {
  return p.source.find(word) != std::string::npos;
}

int give_size(const std::string& text, size_t* size) {
  *size = text.size() + 1;
  return 0;
}

}  // namespace

extern "C" {

int nvrtcVersion(int* major, int* minor) {
  *major = 13, *minor = 0;
  return 0;
}
int nvrtcGetNumSupportedArchs(int* count) {
  *count = 4;
  return 0;
}
int nvrtcGetSupportedArchs(int* archs) {
  int all[] = {75, 80, 90, 100};
  std::memcpy(archs, all, sizeof all);
  return 0;
}
const char* nvrtcGetErrorString(int code) {
  return code == 1 ? "FAKE_OUT_OF_MEMORY" : "FAKE_ERROR";
}
int nvrtcCreateProgram(void** program, const char* source, const char*, int, const char* const*, const char* const*) {
  if (std::strstr(source, "FAIL_CREATE") != nullptr) return 2;
  *program = new Program{source, {}, {}};
  return 0;
}
int nvrtcDestroyProgram(void** program) {
  delete static_cast<Program*>(*program);
  return 0;
}
int nvrtcCompileProgram(void* program, int count, const char* const* options) {
  auto& p = *static_cast<Program*>(program);
  if (says(p, "CRASH")) {
    signal(SIGSEGV, SIG_DFL);  // a sanitizer's handler would turn the crash into an exit
    raise(SIGSEGV);
  }
  if (says(p, "ABORT")) std::abort();
  if (says(p, "LEAVE")) _exit(3);
  if (says(p, "HANG")) {
    for (;;) pause();
  }
  if (says(p, "SLOW")) usleep(200'000);
  if (size_t at = p.source.find("WAIT_WHILE "); at != std::string::npos) {  // the file that is named up to the line's end is there
    at += std::strlen("WAIT_WHILE ");
    const std::string path = p.source.substr(at, p.source.find('\n', at) - at);
    while (access(path.c_str(), F_OK) == 0) usleep(1000);
  }
  if (says(p, "CHATTER")) {
    std::printf("words on standard output\n");
    std::fflush(stdout);
    char byte = 0;
    p.log = read(0, &byte, 1) == 0 ? "standard input is empty" : "standard input is not empty";
  }
  if (says(p, "EAT")) {
    for (;;) {
      auto* block = static_cast<char*>(std::malloc(size_t{64} << 20));
      if (block == nullptr) return 1;
      std::memset(block, 1, 4096);
    }
  }
  if (says(p, "FAIL_COMPILE")) {
    p.log = "templates/x.cu(3): error: fake";
    return 6;
  }
  if (says(p, "FAIL_INTERNAL")) return 11;
  if (says(p, "LONG_LOG")) p.log.assign(1 << 20, 'l');
  if (says(p, "PTXAS"))
    p.log = "ptxas info : 8 bytes stack frame, 16 bytes spill stores, 24 bytes spill loads\nptxas info : Used 99 registers";
  p.cubin = "cubin of " + p.source;
  for (int i = 0; i < count; ++i) p.cubin += std::string(" ") + options[i];
  return 0;
}
int nvrtcGetProgramLogSize(void* program, size_t* size) {
  return give_size(static_cast<Program*>(program)->log, size);
}
int nvrtcGetProgramLog(void* program, char* out) {
  std::strcpy(out, static_cast<Program*>(program)->log.c_str());
  return 0;
}
int nvrtcGetCUBINSize(void* program, size_t* size) {
  auto& p = *static_cast<Program*>(program);
  if (says(p, "FAIL_CUBIN")) return 4;
  *size = p.cubin.size();
  return 0;
}
int nvrtcGetCUBIN(void* program, char* out) {
  auto& cubin = static_cast<Program*>(program)->cubin;
  std::memcpy(out, cubin.data(), cubin.size());
  return 0;
}
int nvrtcGetPTXSize(void*, size_t* size) {
  return give_size("ptx", size);
}
int nvrtcGetPTX(void*, char* out) {
  std::strcpy(out, "ptx");
  return 0;
}
}
