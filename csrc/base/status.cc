#include "lathe/base/status.h"

namespace lathe {

const char* name_of(Code code) {
  switch (code) {
    case Code::ok:
      return "ok";
    case Code::invalid_argument:
      return "invalid_argument";
    case Code::unsupported:
      return "unsupported";
    case Code::unavailable:
      return "unavailable";
    case Code::compile_failed:
      return "compile_failed";
    case Code::launch_failed:
      return "launch_failed";
    case Code::device_lost:
      return "device_lost";
    case Code::resource_exhausted:
      return "resource_exhausted";
    case Code::internal:
      return "internal";
  }
  return "internal";
}

std::string Status::to_string() const {
  if (ok()) return "ok";
  std::string text = name_of(code_);
  if (!where_.empty()) text += ": " + where_;
  text += ": " + message_;
  if (!hint_.empty()) text += " (" + hint_ + ")";
  return text;
}

Status Problems::status() const {
  if (list_.empty()) return {};
  if (list_.size() == 1) return invalid_argument(list_[0].where, list_[0].message);
  std::string text = std::to_string(list_.size()) + " problems";
  for (const Problem& p : list_) text += "\n  " + p.where + ": " + p.message;
  return {Code::invalid_argument, std::move(text)};
}

}  // namespace lathe
