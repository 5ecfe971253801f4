// What operators mean at the edges of their types.
#include "lathe/spec/expr/interpret.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lathe/spec/expr/parse.h"

namespace lathe::expr {
namespace {

constexpr int32_t kLeast = std::numeric_limits<int32_t>::min(), kMost = std::numeric_limits<int32_t>::max();

int32_t of_i32(Op op, int32_t a, int32_t b = 0) {
  const std::array args{Value::of(a), Value::of(b)};
  return apply(op, Type::i32, args).i;
}
uint32_t of_u32(Op op, uint32_t a, uint32_t b = 0) {
  const std::array args{Value::of(static_cast<int32_t>(a)), Value::of(static_cast<int32_t>(b))};
  return static_cast<uint32_t>(apply(op, Type::u32, args).i);
}
Value of_f32(Op op, double a, double b = 0) {
  const std::array args{Value::of(a), Value::of(b)};
  return apply(op, Type::f32, args);
}

TEST(Interpret, IntegersWrap) {
  EXPECT_EQ(of_i32(Op::add, kMost, 1), kLeast);
  EXPECT_EQ(of_i32(Op::sub, kLeast, 1), kMost);
  EXPECT_EQ(of_i32(Op::mul, 1 << 30, 4), 0);
  EXPECT_EQ(of_i32(Op::neg, kLeast), kLeast);
  EXPECT_EQ(of_i32(Op::abs, kLeast), kLeast);
  EXPECT_EQ(of_u32(Op::sub, 0, 1), 0xffffffffu);
}

TEST(Interpret, DivisionRoundsDown) {
  EXPECT_EQ(of_i32(Op::floor_div, 7, 2), 3);
  EXPECT_EQ(of_i32(Op::floor_div, -7, 2), -4);
  EXPECT_EQ(of_i32(Op::floor_div, 7, -2), -4);
  EXPECT_EQ(of_i32(Op::floor_div, -7, -2), 3);
  EXPECT_EQ(of_i32(Op::floor_div, -8, 2), -4);
  EXPECT_EQ(of_i32(Op::floor_div, kLeast, -1), kLeast);
  EXPECT_EQ(of_i32(Op::floor_div, 5, 0), 0);
  EXPECT_EQ(of_i32(Op::mod, 7, 3), 1);
  EXPECT_EQ(of_i32(Op::mod, -7, 3), 2);
  EXPECT_EQ(of_i32(Op::mod, 7, -3), -2);
  EXPECT_EQ(of_i32(Op::mod, -7, -3), -1);
  EXPECT_EQ(of_i32(Op::mod, kLeast, -1), 0);
  EXPECT_EQ(of_i32(Op::mod, 5, 0), 0);
  EXPECT_EQ(of_u32(Op::floor_div, 0xfffffffeu, 2), 0x7fffffffu);
  EXPECT_EQ(of_u32(Op::mod, 0xffffffffu, 16), 15u);
  EXPECT_EQ(of_u32(Op::floor_div, 5, 0), 0u);
  EXPECT_EQ(of_u32(Op::mod, 5, 0), 0u);
}

TEST(Interpret, ShiftsByAnyCount) {
  EXPECT_EQ(of_i32(Op::shl, 3, 30), kLeast + (1 << 30));
  EXPECT_EQ(of_i32(Op::shl, 3, 32), 0);
  EXPECT_EQ(of_i32(Op::shl, 3, -1), 0);
  EXPECT_EQ(of_i32(Op::shr, -8, 1), -4);
  EXPECT_EQ(of_i32(Op::shr, -8, 32), -1);
  EXPECT_EQ(of_i32(Op::shr, 8, -1), 0);
  EXPECT_EQ(of_i32(Op::shr, -8, -1), -1);
  EXPECT_EQ(of_u32(Op::shr, 0x80000000u, 31), 1u);
  EXPECT_EQ(of_u32(Op::shr, 0x80000000u, 32), 0u);
  EXPECT_EQ(of_u32(Op::shl, 1, 0xffffffffu), 0u);
}

TEST(Interpret, U32IsUnsigned) {
  EXPECT_EQ(of_u32(Op::less, 1, 0x80000000u), 1u);
  EXPECT_EQ(of_i32(Op::less, 1, kLeast), 0);
  EXPECT_EQ(of_u32(Op::max, 1, 0x80000000u), 0x80000000u);
  EXPECT_EQ(of_u32(Op::popc, 0xf000000fu), 8u);
  EXPECT_EQ(of_u32(Op::bit, 0x80000000u, 31), 1u);
  EXPECT_EQ(of_u32(Op::bit, 0x80000000u, static_cast<uint32_t>(-1)), 1u) << "the low five bits of the index";
  EXPECT_EQ(of_u32(Op::bit, 1, 1), 0u);
}

TEST(Interpret, ConversionsSaturate) {
  constexpr double kInf = std::numeric_limits<double>::infinity(), kNan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(of_f32(Op::to_i32, -2.9).i, -2);
  EXPECT_EQ(of_f32(Op::to_i32, 3e9).i, kMost);
  EXPECT_EQ(of_f32(Op::to_i32, -kInf).i, kLeast);
  EXPECT_EQ(of_f32(Op::to_i32, kNan).i, 0);
  const std::array big{Value::of(16'777'217)};
  EXPECT_EQ(apply(Op::to_f32, Type::i32, big).f, 16'777'216.0) << "rounded to f32, to even";
  const std::array most{Value::of(-1)};
  EXPECT_EQ(apply(Op::to_f32, Type::u32, most).f, 4'294'967'296.0);
  EXPECT_EQ(apply(Op::to_i32, Type::boolean, std::array{Value::of(1)}).i, 1);
}

TEST(Interpret, FloatsKeepTheRulesOfNaNAndZero) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(of_f32(Op::max, kNan, 3).f, 3);
  EXPECT_EQ(of_f32(Op::min, 3, kNan).f, 3);
  EXPECT_TRUE(std::isnan(of_f32(Op::min, kNan, kNan).f));
  EXPECT_FALSE(std::signbit(of_f32(Op::max, -0.0, 0.0).f));
  EXPECT_FALSE(std::signbit(of_f32(Op::max, 0.0, -0.0).f));
  EXPECT_TRUE(std::signbit(of_f32(Op::min, 0.0, -0.0).f));
  EXPECT_EQ(of_f32(Op::less, kNan, 3).i, 0);
  EXPECT_EQ(of_f32(Op::less_equal, 3, kNan).i, 0);
  EXPECT_EQ(of_f32(Op::equal, kNan, kNan).i, 0);
  EXPECT_EQ(of_f32(Op::is_inf, -HUGE_VAL).i, 1);
  EXPECT_EQ(of_f32(Op::is_inf, kNan).i, 0);
  EXPECT_EQ(apply(Op::powi, Type::f32, std::array{Value::of(-2.0), Value::of(3)}).f, -8);
  EXPECT_EQ(apply(Op::powi, Type::f32, std::array{Value::of(2.0), Value::of(-2)}).f, 0.25);
  EXPECT_EQ(apply(Op::powi, Type::f32, std::array{Value::of(5.0), Value::of(0)}).f, 1);
}

/// An environment in which every integer input is its place in the enum, and a tensor's element is ten times its first index.
class Simple : public Environment {
 public:
  Value input(Input input) const override { return {0.5, static_cast<int32_t>(input)}; }
  Value param(uint32_t index) const override { return {2.5, static_cast<int32_t>(100 + index)}; }
  Value read(uint32_t, std::span<const int32_t> index) const override { return {10.0 * index[0], 10 * index[0]}; }
};

TEST(Interpret, AsksTheEnvironmentForLeaves) {
  const Hooks hooks =
      *parse("param S,W:i32; param c:f32; tensor t:f32[HQ]; mask = W - S + h == 2 && kv < 5; logits = t[h] * score + c");
  EXPECT_EQ(interpret(hooks, hooks.root(Hook::mask), Simple()).i, 1) << "h is 1, kv is 4";
  EXPECT_EQ(interpret(hooks, hooks.root(Hook::logits), Simple()).f, 10 * 0.5 + 2.5);
}

}  // namespace
}  // namespace lathe::expr
