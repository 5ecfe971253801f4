#include "input.h"

#include <sys/stat.h>

#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>

#include "lathe/spec/text.h"

namespace lathe::cli {
namespace {

Status too_long(const std::string& option, size_t max_bytes) {
  return invalid_argument(option, "is longer than " + std::to_string(max_bytes) + " bytes, the most that is read");
}

// Reads one byte more than allowed, to tell a text that fits from one that goes on.
Result<std::string> read_stream(std::istream& in, const std::string& option, size_t max_bytes) {
  std::string text;
  char buffer[65536];
  while (text.size() <= max_bytes && (in.read(buffer, sizeof buffer), in.gcount() > 0)) {
    text.append(buffer, static_cast<size_t>(in.gcount()));
  }
  if (in.bad()) return invalid_argument(option, "could not be read");
  if (text.size() > max_bytes) return too_long(option, max_bytes);
  return text;
}

}  // namespace

Result<std::string> read_file(const std::string& option, const std::string& path, size_t max_bytes) {
  const std::string name = fields::in_quotes(path, 256);
  struct stat found {};
  if (stat(path.c_str(), &found) != 0) return invalid_argument(option, "there is no file " + name);
  if (!S_ISREG(found.st_mode)) return invalid_argument(option, name + " is not a regular file");
  std::ifstream in(path, std::ios::binary);
  if (!in) return invalid_argument(option, name + " could not be opened");
  return read_stream(in, option, max_bytes);
}

Result<std::string> read_text(const std::string& option, const std::string& argument, size_t max_bytes) {
  if (argument == "-") return read_stream(std::cin, option, max_bytes);
  if (!argument.starts_with('{')) return read_file(option, argument, max_bytes);
  if (argument.size() > max_bytes) return too_long(option, max_bytes);
  return argument;
}

int fail(const Status& status) {
  std::fprintf(stderr, "lathe: %s\n", status.to_string().c_str());
  return status.code() == Code::invalid_argument || status.code() == Code::unsupported ? 2 : 1;
}

}  // namespace lathe::cli
