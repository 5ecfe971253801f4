#include "lathe/spec/json_scan.h"

#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "lathe/spec/text.h"

namespace lathe {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxDepth = 16;

class Scanner : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(size_t) override { return open(); }
  bool start_array(size_t) override { return open(); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    if (keys_.back().insert(name).second) return true;
    problem_ = "the key " + fields::in_quotes(name) + " is given twice; allowed: once in its object";
    return false;
  }
  bool parse_error(size_t position, const std::string& token, const nlohmann::detail::exception&) override {
    problem_ = "not JSON at byte " + std::to_string(position) + ", near " + fields::in_quotes(token);
    return false;
  }

  const std::string& problem() const { return problem_; }

 private:
  bool open() {
    keys_.emplace_back();
    if (keys_.size() <= kMaxDepth) return true;
    problem_ = "objects and arrays lie deeper than " + std::to_string(kMaxDepth) + " levels";
    return false;
  }
  bool close() {
    keys_.pop_back();
    return true;
  }

  std::vector<std::set<std::string>> keys_;  // of the open objects and arrays
  std::string problem_;
};

}  // namespace

std::optional<std::string> json_problem(std::string_view text) {
  if (size_t nul = text.find('\0'); nul != text.npos) return "not JSON at byte " + std::to_string(nul + 1) + ": NUL";
  Scanner scanner;
  if (!Json::sax_parse(text.begin(), text.end(), &scanner)) return scanner.problem();
  return std::nullopt;
}

}  // namespace lathe
