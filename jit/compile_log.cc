#include "lathe/jit/compile_log.h"

namespace lathe {

std::string log_tail(std::string_view log) {
  constexpr size_t kTail = 4000;
  while (!log.empty() && (log.back() == '\n' || log.back() == '\0')) log.remove_suffix(1);
  if (log.empty()) return {};
  if (log.size() > kTail) {
    log.remove_prefix(log.size() - kTail);
    size_t line = log.find('\n');
    if (line != std::string_view::npos) log.remove_prefix(line + 1);
    return "\n...\n" + std::string(log);
  }
  return "\n" + std::string(log);
}

Status compile_error(const std::string& tool, const CompileJob& job, std::string_view log) {
  return {Code::compile_failed, tool + " could not compile " + job.name + " for " + job.arch + log_tail(log)};
}

}  // namespace lathe
