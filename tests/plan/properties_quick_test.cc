#include <gtest/gtest.h>

#include "lathe/testing/seed.h"
#include "properties.h"

namespace lathe::testing {
namespace {

TEST(PlanProperties, HoldOnRandomBatches) {
  expect_plan_properties(seed(), 100'000);
}

}  // namespace
}  // namespace lathe::testing
