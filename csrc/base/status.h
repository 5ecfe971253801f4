// Status and Result: how every fallible call below csrc/api reports. Nothing here throws.
//
// Three grades (docs/errors.md): a caller's mistake (invalid_argument, unsupported), a lost kernel (compile_failed, launch_failed,
// device_lost, resource_exhausted, unavailable), and cache trouble, which is never a Status: it is a miss and a counter.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace lathe {

enum class Code : uint8_t {
  ok,
  invalid_argument,    // the caller's mistake; the message names the argument, its value and what is allowed
  unsupported,         // valid, but not offered by this build or arch
  unavailable,         // a part is missing: no NVRTC, no driver, no host compiler
  compile_failed,      // the message names the spec, the end of the log, and where the source lies
  launch_failed,       // the kernel could not be loaded or launched, or the host executor reported a fault in it
  device_lost,         // sticky: the first error is kept and repeated
  resource_exhausted,  // time or memory limit of a compile
  internal,            // a bug in Lathe
};

/// The name of `code` in lower case, e.g. "invalid_argument".
const char* name_of(Code code);

/// Outcome of a call. Value type; an OK status allocates nothing.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message, std::string where = {}, std::string hint = {})
      : code_(code), message_(std::move(message)), where_(std::move(where)), hint_(std::move(hint)) {}

  bool ok() const { return code_ == Code::ok; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }  ///< what went wrong, with values; may hold several lines
  const std::string& where() const { return where_; }      ///< the argument, file or kernel it is about
  const std::string& hint() const { return hint_; }        ///< what to do about it; may be empty
  std::string to_string() const;                           ///< "invalid_argument: where: message (hint)"

 private:
  Code code_ = Code::ok;
  std::string message_, where_, hint_;
};

inline Status invalid_argument(std::string where, std::string message, std::string hint = {}) {
  return {Code::invalid_argument, std::move(message), std::move(where), std::move(hint)};
}

/// A value or the Status that explains its absence.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}          // NOLINT(google-explicit-constructor)
  Result(Status status) : status_(std::move(status)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return value_.has_value(); }
  explicit operator bool() const { return ok(); }
  const Status& status() const { return status_; }
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return *std::move(value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  std::optional<T> value_;
  Status status_;
};

/// Gathers every problem of one input, so that a caller sees all of them at once.
class Problems {
 public:
  void add(std::string where, std::string message) { list_.push_back({std::move(where), std::move(message)}); }
  bool empty() const { return list_.empty(); }
  size_t size() const { return list_.size(); }
  /// OK when empty, else one invalid_argument whose message has one "where: message" line per problem.
  Status status() const;

  struct Problem {
    std::string where, message;
  };
  const std::vector<Problem>& list() const { return list_; }

 private:
  std::vector<Problem> list_;
};

}  // namespace lathe

/// Returns early with the Status of `expr` (a Status or a Result) unless it is ok.
#define LATHE_TRY(expr)                                                                           \
  do {                                                                                            \
    if (auto lathe_status_ = ::lathe::status_of(expr); !lathe_status_.ok()) return lathe_status_; \
  } while (false)

namespace lathe {
inline Status status_of(Status s) {
  return s;
}
template <class T>
Status status_of(const Result<T>& r) {
  return r.status();
}
}  // namespace lathe
