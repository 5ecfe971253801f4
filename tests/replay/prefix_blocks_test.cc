#include "lathe/replay/prefix_blocks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace lathe {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::vector<TraceRequest> kTrace{
    {1200, 100, 0, {700, 3, 900}},
    {1024, 40, 0, {700, 3}},
    {20, 0, 0, {}},
    {1200, 100, 0, {700, 3, 900}},
};

std::vector<int32_t> pages_of(const PageIds& ids, int32_t request, int32_t kv_len) {
  std::vector<int32_t> pages;
  ids.append(request, kv_len, pages);
  return pages;
}

TEST(PrefixBlocks, NumberedAsTheyAppear) {
  const PrefixBlocks blocks(kTrace);
  EXPECT_EQ(blocks.count(), 3);
  EXPECT_THAT(blocks.of(0), ElementsAre(0, 1, 2));
  EXPECT_THAT(blocks.of(1), ElementsAre(0, 1));
  EXPECT_THAT(blocks.of(2), ElementsAre());
  EXPECT_THAT(blocks.of(3), ElementsAre(0, 1, 2));
}

TEST(PageIds, FullPagesOfEqualBlocksAreShared) {
  auto ids = PageIds::make(kTrace, 16);
  ASSERT_TRUE(ids.ok()) << ids.status().to_string();
  const std::vector<int32_t> a = pages_of(*ids, 0, 1300), b = pages_of(*ids, 1, 1064), c = pages_of(*ids, 2, 20),
                             d = pages_of(*ids, 3, 1300);
  ASSERT_EQ(a.size(), 82u);
  ASSERT_EQ(b.size(), 67u);
  ASSERT_EQ(c.size(), 2u);
  for (size_t p = 0; p < 64; ++p) EXPECT_EQ(a[p], b[p]) << p;
  for (size_t p = 0; p < 75; ++p) EXPECT_EQ(a[p], d[p]) << p;  // 1200 tokens fill 75 pages
  const std::set<int32_t> all = [&] {
    std::set<int32_t> set;
    for (const auto* list : {&a, &b, &c, &d}) set.insert(list->begin(), list->end());
    return set;
  }();
  EXPECT_EQ(all.size(), 75u + 7 + 3 + 2 + 7);  // shared, and each request's own
  EXPECT_GE(*all.begin(), 0);
  EXPECT_LT(*all.rbegin(), ids->num_pages());
  EXPECT_EQ(pages_of(*ids, 0, 17), std::vector<int32_t>({a[0], a[1]}));
}

TEST(PageIds, RefusesPagesThatDoNotDivideABlockAndTooMany) {
  EXPECT_THAT(PageIds::make(kTrace, 24).status().to_string(), HasSubstr("page_size: 24"));
  EXPECT_THAT(PageIds::make(kTrace, 0).status().to_string(), HasSubstr("page_size: 0"));
  const std::vector<TraceRequest> huge(200, TraceRequest{1 << 24, 1 << 24});
  EXPECT_THAT(PageIds::make(huge, 1).status().to_string(), HasSubstr("more than 2147483647 pages"));
  EXPECT_TRUE(PageIds::make(huge, 16).ok());
}

}  // namespace
}  // namespace lathe
