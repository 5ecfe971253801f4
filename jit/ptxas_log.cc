#include "lathe/jit/ptxas_log.h"

#include <algorithm>
#include <charconv>

namespace lathe {
namespace {

// The whole number that stands right before `unit` on `line`, or 0.
int number_before(std::string_view line, std::string_view unit) {
  size_t end = line.find(unit);
  if (end == std::string_view::npos) return 0;
  size_t begin = end;
  while (begin > 0 && line[begin - 1] >= '0' && line[begin - 1] <= '9') --begin;
  int number = 0;
  std::from_chars(line.data() + begin, line.data() + end, number);
  return number;
}

}  // namespace

PtxasFacts parse_ptxas_log(std::string_view log) {
  PtxasFacts facts;
  while (!log.empty()) {
    size_t end = std::min(log.find('\n'), log.size());
    std::string_view line = log.substr(0, end);
    log.remove_prefix(std::min(end + 1, log.size()));
    facts.registers = std::max(facts.registers, number_before(line, " registers"));
    facts.spill_bytes += number_before(line, " bytes spill stores") + number_before(line, " bytes spill loads");
  }
  return facts;
}

}  // namespace lathe
