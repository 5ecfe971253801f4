// Least and greatest elements of boxes, against a look at each element.
#include "lathe/api/extremes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <random>

#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

using expr::Elem;
using expr::Interval;

int64_t element(const Tensor& t, Elem elem, std::span<const int64_t> index) {
  int64_t offset = 0;
  for (size_t axis = 0; axis < index.size(); ++axis) offset += index[axis] * t.stride[axis];
  const auto* bytes = static_cast<const char*>(t.data);
  if (elem == Elem::i8) return static_cast<const int8_t*>(t.data)[offset];
  if (elem == Elem::u8) return static_cast<const uint8_t*>(t.data)[offset];
  if (elem == Elem::boolean) return bytes[offset] != 0 ? 1 : 0;
  int32_t x = 0;
  std::memcpy(&x, bytes + offset * 4, 4);
  return elem == Elem::u32 ? int64_t{static_cast<uint32_t>(x)} : x;
}

Interval dense(const Tensor& t, Elem elem, std::span<const int> extents, std::span<const Interval> box) {
  Interval out{std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()};
  std::array<int64_t, 3> index{};
  const auto visit = [&](auto&& self, size_t axis) -> void {
    if (axis == extents.size()) {
      const int64_t x = element(t, elem, std::span(index).first(extents.size()));
      out = {std::min(out.lo, x), std::max(out.hi, x)};
      return;
    }
    const auto inside = [&](int64_t i) { return std::clamp<int64_t>(i, 0, extents[axis] - 1); };
    for (index[axis] = inside(box[axis].lo); index[axis] <= inside(box[axis].hi); ++index[axis]) self(self, axis + 1);
  };
  visit(visit, 0);
  return out;
}

TEST(Extremes, EqualALookAtEachElement) {
  std::mt19937_64 rng(seed());
  std::vector<unsigned char> memory(1 << 20);
  for (unsigned char& byte : memory) byte = static_cast<unsigned char>(rng());
  const auto up_to = [&](int64_t most) { return static_cast<int64_t>(rng() % static_cast<uint64_t>(most + 1)); };
  int long_ranges = 0;
  for (int i = 0; i < 400; ++i) {
    const Elem elem = std::array{Elem::i32, Elem::u32, Elem::i8, Elem::u8, Elem::boolean}[rng() % 5];
    const size_t rank = 1 + rng() % 3;
    std::array<int, 3> extents{};
    for (size_t axis = 0; axis < rank; ++axis)
      extents[axis] = 1 + static_cast<int>(up_to(axis == i % rank ? 9000 / static_cast<int>(rank) : 5));
    Tensor t;
    t.data = memory.data();
    t.rank = static_cast<int>(rank);
    int64_t step = 1 + up_to(1);
    for (size_t axis = rank; axis-- > 0;) {
      t.shape[axis] = extents[axis], t.stride[axis] = rng() % 8 == 0 ? 0 : step;
      step *= extents[axis];
    }
    const std::span<const int> used = std::span(extents).first(rank);
    Extremes extremes(t, elem, used);
    for (int j = 0; j < 12; ++j) {
      std::array<Interval, 3> box{};
      for (size_t axis = 0; axis < rank; ++axis) {
        const int64_t lo = up_to(extents[axis] + 2) - 2;  // may leave the array
        box[axis] = {lo, lo + up_to(extents[axis])};
        long_ranges += box[axis].hi - box[axis].lo > 1000 ? 1 : 0;
      }
      const std::span<const Interval> asked = std::span(box).first(rank);
      ASSERT_EQ(extremes(asked), dense(t, elem, used, asked)) << "case " << i << "\nrepeat: " << repeat_command();
    }
  }
  EXPECT_GT(long_ranges, 500);
}

}  // namespace
}  // namespace lathe::testing
