#include "lathe/replay/evaluate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lathe {
namespace {

using ::testing::HasSubstr;

// Two KV heads of four query heads each, head dim 128, four multiprocessors.
EvaluatedBatch batch_of(std::span<const int32_t> qo_lens, std::span<const int32_t> kv_lens) {
  return {.num_kv_heads = 2,
          .group_size = 4,
          .head_dim_qk = 128,
          .head_dim_vo = 128,
          .num_sms = 4,
          .qo_lens = qo_lens,
          .kv_lens = kv_lens};
}

Assignment assignment_of(std::vector<Piece> pieces) {
  return {.num_ctas = 4, .num_heads = 2, .rows_per_token = 4, .pieces = std::move(pieces)};
}

constexpr int64_t kKey = 2 * 44 * 256;  // picoseconds of one key of head dim 128 for a tile of up to 128 rows

TEST(Evaluate, DecodesByHand) {
  const std::vector<int32_t> qo{1, 1}, kv{1000, 300};
  const EvaluatedBatch batch = batch_of(qo, kv);
  // Block 0 has request 0's head 0 and the first 600 keys of head 1, block 1 the rest of that and both heads of request 1.
  const Assignment assignment =
      assignment_of({{.cta = 0, .request = 0, .head = 0, .rows = 16, .kv_end = 1000},
                     {.cta = 0, .request = 0, .head = 1, .rows = 16, .kv_end = 600, .partial = true},
                     {.cta = 1, .request = 0, .head = 1, .rows = 16, .kv_begin = 600, .kv_end = 1000, .partial = true},
                     {.cta = 1, .request = 1, .head = 0, .num_heads = 2, .rows = 16, .kv_end = 300}});
  EXPECT_EQ(coverage_problem(batch, assignment), "");
  EXPECT_EQ(useful_picoseconds(batch), 2 * 1300 * kKey);
  const Evaluation e = evaluate(batch, assignment);
  const double first = (2 * 1.4 + 1.0) + 1600 * kKey / 1e6, second = (3 * 1.4 + 1.0) + 1000 * kKey / 1e6;
  EXPECT_NEAR(e.longest_us, first, 1e-9);
  EXPECT_NEAR(e.mean_us, (first + second) / 4, 1e-9);
  EXPECT_NEAR(e.ideal_us, 2600 * kKey / 1e6 / 4, 1e-9);
  EXPECT_NEAR(e.imbalance(), first / ((first + second) / 4), 1e-9);
  EXPECT_EQ(e.kv_bytes, 2600 * 512);
}

TEST(Evaluate, CausalTilesSeeWhatTheirLastRowSees) {
  // 70 tokens of 4 rows each are 280 rows: tiles of 128, 128 and 24. Their last tokens are 31, 63 and 69, and 100 keys came before.
  const std::vector<int32_t> qo{70}, kv{170};
  EXPECT_EQ(useful_picoseconds(batch_of(qo, kv)), 2 * (132 + 164 + 170) * kKey);
}

TEST(Evaluate, TallTilesPayForArithmetic) {
  const std::vector<int32_t> qo{64}, kv{64};
  const EvaluatedBatch batch = batch_of(qo, kv);
  const Assignment assignment = assignment_of({});
  const Piece piece{.rows = 256, .kv_end = 10};
  EXPECT_EQ(piece_picoseconds(batch, assignment, piece), 1'400'000 + 10 * 11 * 16 * 256);
}

TEST(Evaluate, BlocksThatShareAMultiprocessorAreSlower) {
  const std::vector<int32_t> qo{1}, kv{64};
  Assignment assignment = assignment_of({});
  assignment.ctas_per_sm = 2;
  EXPECT_EQ(piece_picoseconds(batch_of(qo, kv), assignment, {.rows = 16, .kv_end = 64}), 1'400'000 + 2 * 64 * kKey);
}

TEST(Evaluate, CoverageNamesWhatIsWrong) {
  const std::vector<int32_t> qo{1, 40}, kv{100, 50};
  const EvaluatedBatch batch = batch_of(qo, kv);
  // Both heads alike: a cut decode, and a prefill of two tiles, of which the first sees 10 + 32 keys.
  std::vector<Piece> good;
  for (int32_t head : {0, 1}) {
    good.push_back({.request = 0, .head = head, .rows = 16, .kv_begin = 0, .kv_end = 64, .partial = true});
    good.push_back({.request = 0, .head = head, .rows = 16, .kv_begin = 64, .kv_end = 100, .partial = true});
    good.push_back({.request = 1, .head = head, .row_begin = 0, .rows = 128, .kv_end = 42});
    good.push_back({.request = 1, .head = head, .row_begin = 128, .rows = 128, .kv_end = 50});
  }
  EXPECT_EQ(coverage_problem(batch, assignment_of(good)), "");
  const auto with = [&](auto change) {
    std::vector<Piece> pieces = good;
    change(pieces);
    return coverage_problem(batch, assignment_of(pieces));
  };
  EXPECT_THAT(with([](auto& p) { p.pop_back(); }), HasSubstr("request 1 head 1 rows [128, 160) not covered"));
  EXPECT_THAT(with([](auto& p) { p.push_back(p.back()); }), HasSubstr("partial and not cut, or cut and not partial"));
  EXPECT_THAT(with([](auto& p) { p[1].kv_begin = 63; }), HasSubstr("covered twice"));
  EXPECT_THAT(with([](auto& p) { p[1].kv_begin = 65; }), HasSubstr("keys [64, 65) not covered"));
  EXPECT_THAT(with([](auto& p) { p[1].kv_end = 99; }), HasSubstr("keys [99, 100) not covered"));
  EXPECT_THAT(with([](auto& p) { p[1].kv_end = 101; }), HasSubstr("keys that are none"));
  EXPECT_THAT(with([](auto& p) { p[0].partial = false; }), HasSubstr("cut and not partial"));
  EXPECT_THAT(with([](auto& p) { p[2].kv_end = 41; }), HasSubstr("keys [41, 42) not covered"));
  EXPECT_THAT(with([](auto& p) { p[3].row_begin = 112; }), HasSubstr("rows from 128 on expected"));
  EXPECT_THAT(with([](auto& p) { p[1].rows = 32; }), HasSubstr("different heights"));
  EXPECT_THAT(with([](auto& p) { p[7].head = 2; }), HasSubstr("not covered"));
  EXPECT_THAT(with([](auto& p) { p.push_back({.request = 1, .head = 2, .rows = 128, .kv_end = 50}); }),
              HasSubstr("of no request or head"));
}

}  // namespace
}  // namespace lathe
