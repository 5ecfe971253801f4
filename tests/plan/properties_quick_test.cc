#include <gtest/gtest.h>

#include "lathe/testing/seed.h"
#include "properties.h"

namespace lathe::testing {
namespace {

TEST(PlanProperties, HoldOnAMillionRandomBatches) {
  expect_plan_properties(seed(), 1'000'000);
}

}  // namespace
}  // namespace lathe::testing
