// The throwing form of the API, for programs that prefer it: `auto attention = lathe::must(lathe::Attention::prepare(...));`
// It lives in this header so that the library itself never throws.
#pragma once

#include <stdexcept>
#include <utility>

#include "lathe/base/status.h"

namespace lathe {

class Error : public std::runtime_error {
 public:
  explicit Error(Status status) : std::runtime_error(status.to_string()), status_(std::move(status)) {}
  const Status& status() const { return status_; }

 private:
  Status status_;
};

inline void must(Status status) {
  if (!status.ok()) throw Error(std::move(status));
}

template <class T>
T must(Result<T> result) {
  if (!result.ok()) throw Error(result.status());
  return *std::move(result);
}

}  // namespace lathe
