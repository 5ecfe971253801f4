// The trials of process_test.cc, long.
#include <gtest/gtest.h>

#include "loops.h"

namespace lathe {
namespace {

TEST(ProcessesFull, KilledWhileStoringLeaveNoCorruptEntry) {
  testing::kill_writers(100'000);
}

TEST(ProcessesFull, SixtyFourThatMissOneKeyCompileOnce) {
  testing::cold_start(64, 500, /*locks=*/true);
}

TEST(ProcessesFull, WithoutLocksEachCompilesAtMostOnce) {
  testing::cold_start(64, 50, /*locks=*/false);
}

TEST(ProcessesFull, GoOnWhenTheHolderOfALockIsGone) {
  testing::lose_lock_holder(500);
}

}  // namespace
}  // namespace lathe
