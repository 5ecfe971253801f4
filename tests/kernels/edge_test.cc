// The corners: empty things, borders of tiles and pages, extreme shapes, page ids that need 64 bits.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cmath>
#include <cstring>
#include <ostream>

#include "lathe/oracle/float16.h"
#include "lathe/proof/harness.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

struct EdgeCase {
  const char* name;
  AttentionSpec spec;
  std::vector<BatchShape> shapes;
};

void PrintTo(const EdgeCase& edge, std::ostream* out) {
  *out << edge.name;
}

AttentionSpec make_spec(int32_t head_dim_qk, int32_t head_dim_vo, int32_t group_size, Mask mask) {
  AttentionSpec spec;
  spec.head_dim_qk = head_dim_qk;
  spec.head_dim_vo = head_dim_vo;
  spec.group_size = group_size;
  spec.mask = mask;
  spec.lse = LseOut::ln;
  return spec;
}

AttentionSpec with_tile(AttentionSpec spec, int32_t warps, int32_t stages, std::vector<TileClass> classes) {
  spec.tile = {.automatic = false, .warps = warps, .stages = stages, .classes = std::move(classes)};
  return spec;
}

AttentionSpec with_page_size(AttentionSpec spec, int32_t page_size) {
  spec.layout.page_size = page_size;
  return spec;
}

AttentionSpec with_split(AttentionSpec spec, int32_t tokens) {
  spec.split_kv = {SplitMode::fixed, tokens};
  return spec;
}

AttentionSpec unpacked(AttentionSpec spec) {
  spec.gqa_pack = GqaPack::off;
  return spec;
}

// One request for every key count beside a border of tiles (64) and pages (16).
BatchShape borders(int32_t qo_len) {
  BatchShape shape;
  for (int32_t n : {1, 15, 16, 17, 31, 63, 64, 65, 127, 128, 129, 191, 192, 193}) {
    shape.qo_lens.push_back(qo_len);
    shape.kv_lens.push_back(n);
  }
  return shape;
}

std::vector<EdgeCase> edge_cases() {
  const std::vector<TileClass> classes{{64, 64}, {16, 64}};
  return {
      {"EmptyBatch", make_spec(64, 64, 2, Mask::causal), {{.qo_lens = {}, .kv_lens = {}}}},
      {"NothingToDo", make_spec(64, 64, 2, Mask::causal), {{.qo_lens = {0, 0}, .kv_lens = {5, 0}}}},
      {"NoQueriesInBetween", make_spec(64, 64, 2, Mask::causal), {{.qo_lens = {0, 3, 0, 1, 0}, .kv_lens = {40, 3, 0, 90, 7}}}},
      {"NoKeys",
       make_spec(64, 64, 2, Mask::none),
       {{.qo_lens = {5, 1, 2}, .kv_lens = {0, 0, 9}}, {.qo_lens = {70}, .kv_lens = {0}}}},
      {"MoreQueriesThanKeys",
       make_spec(64, 64, 1, Mask::causal),
       {{.qo_lens = {100, 70, 20}, .kv_lens = {3, 64, 1}}, {.qo_lens = {200}, .kv_lens = {100}}}},
      {"MoreQueriesThanKeysSplit",
       with_split(make_spec(64, 64, 1, Mask::causal), 16),
       {{.qo_lens = {100, 70}, .kv_lens = {40, 64}}}},
      {"WindowOfOne",
       make_spec(64, 64, 2, Mask::causal_window),
       {{.qo_lens = {1, 30, 100}, .kv_lens = {300, 30, 50}, .window = 1}, {.qo_lens = {66}, .kv_lens = {200}, .window = 1}}},
      {"WindowOfOneWithoutCausal",
       make_spec(64, 64, 2, Mask::window),
       {{.qo_lens = {1, 30, 66}, .kv_lens = {300, 30, 200}, .window = 1}, {.qo_lens = {9}, .kv_lens = {4}, .window = 2}}},
      {"WindowBorders",
       with_tile(make_spec(32, 32, 1, Mask::causal_window), 4, 2, classes),
       {{.qo_lens = {1, 1, 70}, .kv_lens = {256, 130, 129}, .window = 63},
        {.qo_lens = {1, 1, 70}, .kv_lens = {256, 130, 129}, .window = 64},
        {.qo_lens = {1, 1, 70}, .kv_lens = {256, 130, 129}, .window = 65},
        {.qo_lens = {1, 1, 70}, .kv_lens = {256, 130, 129}, .window = 17}}},
      {"WindowWithSplit",
       with_split(make_spec(32, 32, 2, Mask::causal_window), 48),
       {{.qo_lens = {1, 5, 40}, .kv_lens = {500, 200, 333}, .window = 100},
        {.qo_lens = {1, 9}, .kv_lens = {300, 96}, .window = 16}}},
      {"PageOfOne", with_page_size(make_spec(64, 64, 4, Mask::causal), 1), {{.qo_lens = {1, 9}, .kv_lens = {130, 70}}}},
      {"PageOfSeventeen",
       with_page_size(make_spec(64, 64, 4, Mask::causal), 17),
       {{.qo_lens = {1, 1, 9}, .kv_lens = {17, 34, 70}}}},
      {"HugePage", with_page_size(make_spec(64, 64, 1, Mask::none), 4096), {{.qo_lens = {1, 2}, .kv_lens = {130, 1}}}},
      {"BordersOfDecodeTiles", with_tile(make_spec(64, 64, 2, Mask::causal), 4, 2, classes), {borders(1)}},
      {"BordersOfTallTiles", with_tile(make_spec(32, 32, 1, Mask::causal), 4, 2, classes), {borders(17), borders(64), borders(65)}},
      {"BordersWithoutMask", with_tile(make_spec(32, 32, 1, Mask::none), 4, 3, classes), {borders(1), borders(20)}},
      {"BordersOfSplits", with_tile(with_split(make_spec(32, 32, 1, Mask::causal), 64), 4, 1, classes), {borders(1), borders(70)}},
      {"OneStage", with_tile(make_spec(64, 64, 2, Mask::causal), 4, 1, classes), {{.qo_lens = {1, 70}, .kv_lens = {300, 200}}}},
      {"FourStages",
       with_tile(make_spec(64, 64, 2, Mask::causal), 4, 4, classes),
       {{.qo_lens = {1, 70, 1}, .kv_lens = {600, 200, 30}}}},
      {"EightWarps",
       with_tile(make_spec(64, 64, 2, Mask::causal), 8, 2, {{128, 32}, {64, 64}, {32, 64}, {16, 128}}),
       {{.qo_lens = {1, 70, 13, 30}, .kv_lens = {600, 200, 77, 300}}}},
      {"TwoWarpsShareKeys",
       with_tile(make_spec(64, 48, 1, Mask::causal), 4, 2, {{32, 96}}),
       {{.qo_lens = {1, 33, 32}, .kv_lens = {300, 100, 32}}}},
      {"SmallestHeads", make_spec(16, 16, 1, Mask::causal), {{.num_kv_heads = 3, .qo_lens = {1, 20}, .kv_lens = {100, 50}}}},
      {"LargestHeads", make_spec(256, 256, 1, Mask::causal), {{.qo_lens = {1, 20}, .kv_lens = {150, 50}}}},
      {"SmallKeysLargeValues", make_spec(16, 256, 2, Mask::causal), {{.qo_lens = {1, 20}, .kv_lens = {150, 50}}}},
      {"LargeKeysSmallValues", make_spec(256, 16, 2, Mask::causal), {{.qo_lens = {1, 20}, .kv_lens = {150, 50}}}},
      {"HeadDim80", make_spec(80, 80, 2, Mask::causal), {{.qo_lens = {1, 20}, .kv_lens = {150, 50}}}},
      {"HeadDim112", make_spec(112, 112, 2, Mask::causal), {{.qo_lens = {1, 20}, .kv_lens = {150, 50}}}},
      {"Group3", make_spec(64, 64, 3, Mask::causal), {{.num_kv_heads = 2, .qo_lens = {1, 20, 6}, .kv_lens = {150, 50, 6}}}},
      {"Group7", make_spec(64, 64, 7, Mask::causal), {{.num_kv_heads = 2, .qo_lens = {1, 20, 3}, .kv_lens = {150, 50, 3}}}},
      {"Group8", make_spec(64, 64, 8, Mask::causal), {{.num_kv_heads = 2, .qo_lens = {1, 2, 9}, .kv_lens = {150, 50, 20}}}},
      {"Group128", make_spec(32, 32, 128, Mask::causal), {{.qo_lens = {1, 3}, .kv_lens = {150, 20}}}},
      {"Group128Unpacked", unpacked(make_spec(16, 16, 128, Mask::causal)), {{.qo_lens = {1, 3}, .kv_lens = {40, 20}}}},
      {"OneLongManyShort",
       make_spec(32, 32, 2, Mask::causal),
       {{.qo_lens = std::vector<int32_t>(41, 1),
         .kv_lens =
             [] {
               std::vector<int32_t> lens(41, 3);
               lens[20] = 2500;
               return lens;
             }()}}},
  };
}

class Edge : public ::testing::TestWithParam<EdgeCase> {};

TEST_P(Edge, AgreesWithTheOracle) {
  auto device = host_device({.seed = seed(), .check = true});
  Result<Attention> attention = Attention::prepare(engine(), device, GetParam().spec);
  ASSERT_TRUE(attention.ok()) << attention.status().to_string();
  for (size_t i = 0; i < GetParam().shapes.size(); ++i) {
    EXPECT_EQ(prove(device, *attention, GetParam().shapes[i], mix(seed(), i), repeat_command()), "");
  }
}
INSTANTIATE_TEST_SUITE_P(, Edge, ::testing::ValuesIn(edge_cases()), [](const auto& edge) { return std::string(edge.param.name); });

// Address space of which only the touched pages exist.
class SparseMemory {
 public:
  explicit SparseMemory(size_t bytes) : bytes_(bytes) {
    data_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  }
  ~SparseMemory() {
    if (data_ != MAP_FAILED) munmap(data_, bytes_);
  }
  SparseMemory(const SparseMemory&) = delete;
  SparseMemory& operator=(const SparseMemory&) = delete;
  bool ok() const { return data_ != MAP_FAILED; }
  uint16_t* data() const { return static_cast<uint16_t*>(data_); }

 private:
  size_t bytes_;
  void* data_;
};

// The last page of 2^31 - 1: its byte offset needs 37 bits, so an offset or a product kept in 32 bits reads elsewhere.
TEST(EdgeAddress, PageIdsUpToTheLast) {
  AttentionSpec spec = make_spec(16, 16, 1, Mask::none);
  spec.layout.page_size = 1;
  const int64_t num_pages = INT32_MAX, dim = 16;
  SparseMemory k(static_cast<size_t>(num_pages * dim * 2)), v(static_cast<size_t>(num_pages * dim * 2));
  if (!k.ok() || !v.ok()) GTEST_SKIP() << "the system gives no 128 GiB of address space";
  auto device = host_device({.seed = seed(), .check = true});
  Result<Attention> attention = Attention::prepare(engine(), device, spec);
  ASSERT_TRUE(attention.ok()) << attention.status().to_string();

  const std::vector<int32_t> ids{INT32_MAX - 1, 0, 1 << 30, (1 << 27) + 3, INT32_MAX - 2}, qo_indptr{0, 1}, kv_indptr{0, 5},
      last{1};
  double sum = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    for (int64_t d = 0; d < dim; ++d) {
      k.data()[ids[i] * dim + d] = 0;
      v.data()[ids[i] * dim + d] = oracle::encode(DType::bf16, static_cast<double>(1 << i));
    }
    sum += static_cast<double>(1 << i);
  }
  Result<PlannedAttention> plan = attention->plan(
      {.qo_indptr = qo_indptr, .kv_indptr = kv_indptr, .last_page_len = last, .kv_indices = ids, .num_pages = num_pages}, 1);
  ASSERT_TRUE(plan.ok()) << plan.status().to_string();
  auto memory = *device->allocate(4096);
  std::memset(memory.get(), 0, 4096);
  std::memcpy(memory.get() + 2048, ids.data(), ids.size() * 4);
  auto workspace = *device->allocate(plan->plan.workspace.total());
  ASSERT_TRUE(attention->upload(*plan, workspace.get(), plan->plan.workspace.total(), nullptr).ok());
  AttentionArgs args;
  args.q = Tensor::contiguous(memory.get(), {1, 1, dim});
  args.o = Tensor::contiguous(memory.get() + 512, {1, 1, dim});
  args.lse = Tensor::contiguous(memory.get() + 1024, {1, 1});
  args.k = Tensor::contiguous(k.data(), {num_pages, 1, 1, dim});
  args.v = Tensor::contiguous(v.data(), {num_pages, 1, 1, dim});
  args.kv_indices = reinterpret_cast<const int32_t*>(memory.get() + 2048);
  args.num_kv_indices = 5;
  Status status = attention->run(args, *plan, workspace.get(), nullptr);
  ASSERT_TRUE(status.ok()) << status.to_string();
  uint16_t o = 0;
  std::memcpy(&o, memory.get() + 512, 2);
  EXPECT_NEAR(oracle::decode(DType::bf16, o), sum / 5, 0.02);
}

}  // namespace
}  // namespace lathe::testing
