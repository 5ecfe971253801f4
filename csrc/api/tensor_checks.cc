#include "tensor_checks.h"

#include <algorithm>
#include <limits>

namespace lathe {
namespace {

__extension__ using Wide = __int128;
constexpr Wide kExtentLimit = Wide{1} << 62;  // bytes

std::string text(int64_t n) {
  return std::to_string(n);
}

bool is_empty(const Tensor& t) {
  for (int i = 0; i < t.rank; ++i) {
    if (t.shape[i] == 0) return true;
  }
  return false;
}

bool check_shape(const Tensor& t, const TensorRule& rule, Problems& problems) {
  const int rank = static_cast<int>(rule.shape.size());
  if (t.rank != rank) {
    problems.add(rule.name, "has rank " + text(t.rank) + ", must have rank " + text(rank));
    return false;
  }
  bool good = true;
  int i = 0;
  for (int64_t wanted : rule.shape) {
    if (t.shape[i] < 0 || (wanted != kAnySize && t.shape[i] != wanted)) {
      problems.add(rule.name, "dimension " + text(i) + " is " + text(t.shape[i]) + ", must be " +
                                  (wanted == kAnySize ? std::string(">= 0") : text(wanted)));
      good = false;
    }
    ++i;
  }
  return good;
}

// Sees that last element and extent can be expressed, and that rows start where 16-byte accesses may.
bool check_strides(const Tensor& t, const TensorRule& rule, Problems& problems) {
  const int64_t row_step = static_cast<int64_t>(16 / rule.element_bytes);
  Wide dense = 1;
  Wide last = 0;
  for (int i = t.rank - 1; i >= 0; --i) {
    const int64_t stride = t.stride[i];
    const auto which = [&] { return "stride " + text(i) + " is " + text(stride); };
    if (t.shape[i] > 1) {
      if (i == t.rank - 1 && stride != 1) {
        problems.add(rule.name, which() + ", must be 1");
        return false;
      }
      if (rule.contiguous && stride != dense) {
        problems.add(rule.name, which() + ", must be " + text(static_cast<int64_t>(dense)) + " (contiguous)");
        return false;
      }
      if (!rule.contiguous && i < t.rank - 1 && (stride < 0 || stride % row_step != 0)) {
        problems.add(rule.name, which() + ", must be a multiple of " + text(row_step) + " elements (16 bytes), not negative");
        return false;
      }
      if (rule.written && stride == 0) {
        problems.add(rule.name, which() + ", must not be: all its rows would be written to one place");
        return false;
      }
    }
    // Neither factor pair can leave 128 bits, and both sums are held below 2^62 from one round to the next.
    last += static_cast<Wide>(t.shape[i] - 1) * stride;
    dense *= t.shape[i];
    if (last * static_cast<Wide>(rule.element_bytes) >= kExtentLimit || dense >= kExtentLimit) {
      problems.add(rule.name, which() + " with " + text(t.shape[i]) + " elements: the extent leaves 64 bits");
      return false;
    }
  }
  return true;
}

}  // namespace

bool check_tensor(const Tensor& t, const TensorRule& rule, Problems& problems) {
  if (!check_shape(t, rule, problems)) return false;
  if (is_empty(t)) return true;  // has no memory to speak of
  if (t.data == nullptr) {
    problems.add(rule.name, "is null");
    return false;
  }
  if (reinterpret_cast<uintptr_t>(t.data) % 16 != 0) {
    problems.add(rule.name, "is at an address that is " + text(static_cast<int64_t>(reinterpret_cast<uintptr_t>(t.data) % 16)) +
                                " past a multiple of 16, must be 16-byte aligned");
    return false;
  }
  return check_strides(t, rule, problems);
}

bool check_table(const std::string& name, const Tensor& t, size_t element_bytes, std::span<const TableAxis> axes,
                 Problems& problems) {
  const size_t before = problems.size();
  if (t.rank != static_cast<int>(axes.size())) {
    problems.add(name, "has " + text(t.rank) + " dimensions, must have " + std::to_string(axes.size()));
    return false;
  }
  Wide last = 0;
  for (size_t i = 0; i < axes.size(); ++i) {
    const int64_t least = std::max<int64_t>(axes[i].least, 1);
    if (t.shape[i] < least || t.shape[i] > std::numeric_limits<int32_t>::max())
      problems.add(name + ".shape[" + std::to_string(i) + "]",
                   "is " + text(t.shape[i]) + ", must be at least " + text(least) + " (" + axes[i].over + ") and below 2^31");
    if (t.stride[i] < 0) problems.add(name, "has the negative stride " + text(t.stride[i]));
    last += static_cast<Wide>(t.shape[i] - 1) * t.stride[i];
    if (last >= kExtentLimit) {
      problems.add(name, "reaches past 2^62 elements");
      return false;
    }
  }
  if (t.data == nullptr) problems.add(name, "is null");
  if (reinterpret_cast<uintptr_t>(t.data) % element_bytes != 0)
    problems.add(name, "must be aligned to its elements of " + std::to_string(element_bytes) + " bytes");
  return problems.size() == before;
}

size_t extent_bytes(const Tensor& t, size_t element_bytes) {
  if (t.rank == 0 || is_empty(t)) return 0;
  size_t last = 0;
  for (int i = 0; i < t.rank; ++i) last += static_cast<size_t>((t.shape[i] - 1) * t.stride[i]);
  return (last + 1) * element_bytes;
}

}  // namespace lathe
