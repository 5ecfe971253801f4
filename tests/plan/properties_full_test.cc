#include <gtest/gtest.h>

#include "lathe/testing/seed.h"
#include "properties.h"

namespace lathe::testing {
namespace {

TEST(PlanProperties, HoldOnTenMillionRandomBatches) {
  expect_plan_properties(seed(), 10'000'000);
}

}  // namespace
}  // namespace lathe::testing
