#include "lathe/replay/timeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lathe {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

size_t count(const std::string& text, const std::string& what) {
  size_t n = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
  return n;
}

TEST(Timeline, ShowsEveryPieceAndNeedsNothingElse) {
  const std::vector<int32_t> qo{1, 1}, kv{1000, 300};
  const EvaluatedBatch batch{1, 4, 128, 128, 2, qo, kv};
  const Assignment assignment{.num_ctas = 2,
                              .num_heads = 1,
                              .rows_per_token = 4,
                              .pieces = {{.cta = 0, .request = 0, .rows = 16, .kv_end = 600, .partial = true},
                                         {.cta = 1, .request = 0, .rows = 16, .kv_begin = 600, .kv_end = 1000, .partial = true},
                                         {.cta = 1, .request = 1, .rows = 16, .kv_end = 300}}};
  const TimelineRow row{"<b>\"ours\" & more", &assignment, evaluate(batch, assignment)};
  const std::string html = timeline_html("a </title> b", batch, std::span(&row, 1));
  EXPECT_EQ(count(html, "<title>block "), 3u);
  EXPECT_EQ(count(html, "fill='url(#part)'"), 2u);
  EXPECT_THAT(html, HasSubstr("request 1, heads 0..0, rows from 0, keys 0..300"));
  EXPECT_THAT(html, HasSubstr("&lt;b&gt;&quot;ours&quot; &amp; more"));
  EXPECT_THAT(html, HasSubstr("a &lt;/title&gt; b"));
  EXPECT_THAT(html, HasSubstr("request 0: 1 query tokens, 1000 keys"));
  EXPECT_THAT(html, HasSubstr("mean 1"));
  for (const char* none : {"<script", "http", "src=", "@import", "url(//"}) EXPECT_THAT(html, Not(HasSubstr(none)));
  for (const char* element : {"svg", "text", "ul", "li", "body", "html"}) {
    EXPECT_EQ(count(html, std::string("<") + element + ">") + count(html, std::string("<") + element + " "),
              count(html, std::string("</") + element + ">"))
        << element;
  }
}

}  // namespace
}  // namespace lathe
