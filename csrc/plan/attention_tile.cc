#include "lathe/plan/attention_tile.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

namespace lathe {
namespace {

constexpr int32_t kMaxKvTile = 256;
constexpr int32_t kMaxClasses = 4;
constexpr int32_t kMaxStages = 4;
// A thread has 255 registers. Of what grows with the tile it holds fp32 accumulators, output and scores, of the class at work, and
// a page id and an address for each row that it loads, of all classes as far as can be told from outside: accumulators and
// `of_row` for each row must not pass `most`. Of 1,900 kernels of NVRTC 13.0 the first spilled past 188 where it is of one class,
// at 170 where it is of several. Those keep more of each row where there are many: of 350 more, drawn near the limit, nine spilled,
// the first at 216 at eight a row.
struct RegisterLimit {
  int64_t of_row, most;
};
constexpr RegisterLimit kLimitOfOneClass{3, 174};
constexpr std::array kLimitsOfSeveral{RegisterLimit{3, 166}, RegisterLimit{8, 200}};
// Codes that become elements in the product, beside hooks that judge or change each score: the first spilled at 159, where the
// hooks asked for a statistic of the queries too.
constexpr RegisterLimit kLimitOfScoredCodes{3, 155};

// Bytes of PTX for each class: code is unrolled over the tile, so that its size is a sum over what the tile is made of. Fitted to
// 1,200 kernels of NVRTC 13.0, none of which is larger than its estimate by more than 1 KB; most are up to a tenth smaller. The
// frame has 3 KB more since: one of 360 later kernels was larger by that.
constexpr int64_t kMaxPtx = 150 * 1024;
constexpr int64_t kPtxOfFrame = 34'500;     // loops, addresses, epilogue
constexpr int64_t kPtxOfMerge = 19'500;     // merging parts, once for all classes
constexpr int64_t kPtxOfProduct = 585;      // 16 x 16 x 16: one ldmatrix, two mma
constexpr int64_t kPtxOfScore = 240;        // one column of scores: mask, softmax, rounding
constexpr int64_t kPtxOfCappedScore = 390;  // the same with the soft-cap
constexpr int64_t kPtxOfOutput = 120;       // one column of the output: shrinking, staging
constexpr int64_t kPtxOfRow = 520;          // one row that a thread loads: its addresses
constexpr int64_t kPtxOfPagedRow = 1420;    // the same with its page id
constexpr int64_t kPtxOfCopy = 350;         // one cp.async: 64 elements of a row, by eight threads
// What 8-bit codes add, fitted to 105 kernels; none is larger than its estimate.
constexpr int64_t kPtxOfCodes = 11'500;        // the query's order, scales of the output, and what the fit is off by
constexpr int64_t kPtxOfCodeProduct = 1'150;   // 16 x 16 x 16: eight codes of a lane become elements
constexpr int64_t kPtxOfShiftedProduct = 300;  // the same where that is a shift: e5m2 to f16
constexpr int64_t kPtxOfTokenTable = 80;       // one column of scores with its token's scale or zero-point
constexpr int64_t kPtxOfKeyZeros = 7'500;      // the queries' sums
constexpr int64_t kPtxOfValueZero = 210;       // one column of weights with zero-points
constexpr int32_t kLoadersPerRow = 8;          // threads
// Shared memory that the driver takes from each block; it counts when two blocks are to share a multiprocessor.
constexpr int32_t kReservedPerBlock = 1024;
// Up to this head dim a thread needs at most half of its registers, so that a second block fits beside the first.
constexpr int32_t kSmallHeadDim = 64;

int64_t row_bytes(int32_t head_dim, DType format) {
  return ceil_div<int64_t>(head_dim * static_cast<int64_t>(bytes_of(format)), 128) * 128;
}

int64_t kv_row_bytes(const AttentionSpec& spec) {
  return row_bytes(spec.head_dim_qk, spec.kfmt) + row_bytes(spec.head_dim_vo, spec.vfmt);
}

/// What the products read: the hooks key and value make elements of codes before.
DType keys_in_products(const AttentionSpec& spec) {
  return spec.hooks.has(expr::Hook::key) ? spec.q_dtype : spec.kfmt;
}
DType values_in_products(const AttentionSpec& spec) {
  return spec.hooks.has(expr::Hook::value) ? spec.q_dtype : spec.vfmt;
}

/// Of what hooks make of one row of codes: keys and values take turns.
int64_t changed_row_bytes(const AttentionSpec& spec) {
  return std::max(keys_in_products(spec) == spec.kfmt ? 0 : row_bytes(spec.head_dim_qk, spec.q_dtype),
                  values_in_products(spec) == spec.vfmt ? 0 : row_bytes(spec.head_dim_vo, spec.q_dtype));
}

int64_t shared_bytes(const AttentionSpec& spec, int64_t warps, int64_t stages, const std::vector<TileClass>& classes) {
  int64_t most = 16 * warps * (spec.head_dim_vo + 8) * 4;  // epilogue
  for (const TileClass& c : classes) {
    most = std::max(
        most, c.q * row_bytes(spec.head_dim_qk, spec.q_dtype) + c.kv * (stages * kv_row_bytes(spec) + changed_row_bytes(spec)));
  }
  return most + kControlBytes;
}

// What a class makes of one warp and of one thread.
struct Share {
  int64_t keys;          // of a kv tile that one warp multiplies
  int64_t rows;          // of a kv tile that one thread loads, with seven others
  int64_t accumulators;  // fp32, of a thread: the output of the warp's 16 rows, and their scores
};

Share share_of(const AttentionSpec& spec, int32_t warps, const TileClass& c) {
  const int32_t warps_q = c.q / 16;
  const int64_t keys = c.kv / (warps / warps_q);
  return {keys, ceil_div<int64_t>(keys * kLoadersPerRow, int64_t{32} * warps_q), spec.head_dim_vo / 2 + keys / 2};
}

bool has_codes(const AttentionSpec& spec) {
  return is_code(keys_in_products(spec)) || is_code(values_in_products(spec));
}

int64_t ptx_of_codes(const AttentionSpec& spec, const Share& share) {
  if (!has_codes(spec)) return 0;
  const bool keys = is_code(keys_in_products(spec)), values = is_code(values_in_products(spec));
  const auto products = [&](DType format, int64_t head_dim) {
    if (!is_code(format)) return int64_t{0};
    const bool shifted = format == DType::e5m2 && spec.q_dtype == DType::f16;
    return share.keys / 16 * head_dim / 16 * (shifted ? kPtxOfShiftedProduct : kPtxOfCodeProduct);
  };
  const int64_t unrolled = spec.head_dim_qk < 128 ? spec.head_dim_qk : 128 + spec.head_dim_qk % 128;  // the rest is a loop
  const auto tables = [&](KvScale scale, KvZero zero) {
    return has_token_scale(scale) || zero == KvZero::token ? share.keys * kPtxOfTokenTable : 0;
  };
  int64_t sum = kPtxOfCodes + products(keys_in_products(spec), unrolled) + products(values_in_products(spec), spec.head_dim_vo);
  if (keys) sum += tables(spec.kscale, spec.kzero) + (spec.kzero != KvZero::none ? kPtxOfKeyZeros : 0);
  if (values) sum += tables(spec.vscale, spec.vzero) + (spec.vzero != KvZero::none ? share.keys * kPtxOfValueZero : 0);
  return sum;
}

int64_t ptx_bytes(const AttentionSpec& spec, const Share& share, int64_t num_classes) {
  const int64_t products = share.keys / 16 * (spec.head_dim_qk + spec.head_dim_vo) / 16;
  const int64_t copies = share.rows * kv_row_bytes(spec) / 128;
  return kPtxOfFrame + kPtxOfMerge / num_classes + products * kPtxOfProduct +
         share.keys * (spec.soft_cap ? kPtxOfCappedScore : kPtxOfScore) + spec.head_dim_vo * kPtxOfOutput +
         share.rows * (spec.layout.kind == LayoutKind::paged ? kPtxOfPagedRow : kPtxOfRow) + copies * kPtxOfCopy +
         ptx_of_codes(spec, share);
}

bool packs(const AttentionSpec& spec) {
  return spec.gqa_pack == GqaPack::on || (spec.gqa_pack == GqaPack::automatic && spec.group_size > 1);
}

std::string print(const std::vector<TileClass>& classes) {
  std::string text;
  for (const TileClass& c : classes) text += fmt::format("{}{}x{}", text.empty() ? "" : " + ", c.q, c.kv);
  return text;
}

std::string print_kib(int64_t bytes) {
  return fmt::format("{:.1f} KiB", static_cast<double>(bytes) / 1024);
}

AttentionTile make_tile(const AttentionSpec& spec, int32_t warps, int32_t stages, std::vector<TileClass> classes) {
  AttentionTile tile;
  tile.warps = warps;
  tile.stages = stages;
  tile.packed = packs(spec);
  tile.shared_bytes = attention_shared_bytes(spec, warps, stages, classes);
  tile.classes = std::move(classes);
  return tile;
}

std::string print(const AttentionSpec& spec, const AttentionTile& tile, const ArchTraits& arch) {
  int64_t most = 0;
  for (const TileClass& c : tile.classes) most = std::max(most, share_of(spec, tile.warps, c).accumulators);
  return fmt::format(
      "{} (q rows x kv tokens), {} warps, {} stage{}, {} of {} shared memory on {}, {} accumulators a thread, rows {}",
      print(tile.classes), tile.warps, tile.stages, tile.stages == 1 ? "" : "s", print_kib(tile.shared_bytes),
      print_kib(arch.max_shared_bytes), arch.name, most,
      tile.packed ? fmt::format("packed over {} heads", spec.group_size) : std::string("of one head"));
}

// What the classes together want of a thread's registers and a limit leaves them, of the first limit that they pass.
struct Registers {
  int64_t held, most, accumulators, rows;
};
std::optional<Registers> passed_limit(const AttentionSpec& spec, int32_t warps, const std::vector<TileClass>& classes) {
  int64_t accumulators = 0, rows = 0;
  for (const TileClass& c : classes) {
    const Share share = share_of(spec, warps, c);
    accumulators = std::max(accumulators, share.accumulators);
    rows += share.rows;
  }
  std::vector<RegisterLimit> limits{kLimitOfOneClass};
  if (classes.size() > 1) limits.assign(kLimitsOfSeveral.begin(), kLimitsOfSeveral.end());
  if (has_codes(spec) && spec.hooks.shape_scores()) limits.push_back(kLimitOfScoredCodes);
  for (const auto& [of_row, most] : limits) {
    if (const int64_t held = accumulators + of_row * rows; held > most) return Registers{held, most, accumulators, rows};
  }
  return std::nullopt;
}

// A tall class for prefill, and 16 rows for decode, where every warp has its own 16 tokens of the kv tile. The decode class stays
// at that minimum: it already has the larger kv tile, and the largest class sets the shared memory of both. Codes may take more
// code or registers than there should be; the tall class then does with fewer keys.
std::vector<TileClass> automatic_classes(const AttentionSpec& spec, int32_t warps) {
  int32_t head_dim = std::max(spec.head_dim_qk, spec.head_dim_vo);
  std::vector<TileClass> classes{{16 * warps, head_dim <= 128 ? 64 : 32}, {16, 16 * warps}};
  const auto mean_ptx = [&] {
    int64_t sum = 0;
    for (const TileClass& c : classes) sum += ptx_bytes(spec, share_of(spec, warps, c), std::ssize(classes));
    return sum / std::ssize(classes);
  };
  const auto is_too_much = [&] { return mean_ptx() > kMaxPtx || passed_limit(spec, warps, classes).has_value(); };
  while (has_codes(spec) && classes[0].kv > 16 && is_too_much()) classes[0].kv /= 2;
  return classes;
}

Result<AttentionTile> automatic_tile(const AttentionSpec& spec, const ArchTraits& arch) {
  bool small = std::max(spec.head_dim_qk, spec.head_dim_vo) <= kSmallHeadDim;
  int32_t most_stages = small ? 3 : 2;
  // For small head dims, two blocks on a multiprocessor are worth more than another stage.
  int32_t half = (arch.max_shared_bytes + kReservedPerBlock) / 2 - kReservedPerBlock;
  std::string passed_over;
  for (int32_t warps : std::array{8, 4}) {
    std::vector<TileClass> classes = automatic_classes(spec, warps);
    for (int32_t limit : std::array{small ? half : arch.max_shared_bytes, arch.max_shared_bytes}) {
      for (int32_t stages = most_stages; stages >= 1; --stages) {
        int32_t bytes = attention_shared_bytes(spec, warps, stages, classes);
        if (bytes <= limit) {
          AttentionTile tile = make_tile(spec, warps, stages, std::move(classes));
          tile.reason = fmt::format("automatic: {}{}{}", print(spec, tile, arch),
                                    limit < arch.max_shared_bytes ? ", two blocks on a multiprocessor" : "", passed_over);
          return tile;
        }
        passed_over += fmt::format("; {} with {} warps and {} stages needs {} of {}", print(classes), warps, stages,
                                   print_kib(bytes), print_kib(limit));
      }
      if (limit == arch.max_shared_bytes) break;
    }
  }
  return Status(Code::unsupported,
                fmt::format("no tile fits the {} bytes of shared memory of {}{}", arch.max_shared_bytes, arch.name, passed_over),
                "tile");
}

// Checks one class of a given tile. What depends on a value that is itself refused is left out.
void check_class(const AttentionSpec& spec, bool warps_valid, size_t index, Problems& problems) {
  const TileClass& c = spec.tile.classes[index];
  std::string where = fmt::format("tile.classes[{}]", index);
  bool q_valid = c.q >= 16 && c.q % 16 == 0;
  if (!q_valid) problems.add(where + ".q", fmt::format("is {}; must be a positive multiple of 16", c.q));
  if (q_valid && warps_valid && spec.tile.warps % (c.q / 16) != 0) {
    problems.add(where + ".q", fmt::format("is {}; q / 16 = {} must divide tile.warps = {}", c.q, c.q / 16, spec.tile.warps));
    q_valid = false;
  }
  int32_t step = q_valid && warps_valid ? 16 * (spec.tile.warps / (c.q / 16)) : 16;
  bool kv_valid = c.kv >= step && c.kv % step == 0 && c.kv <= kMaxKvTile;
  if (!kv_valid)
    problems.add(where + ".kv",
                 fmt::format("is {}; must be a multiple of {} (16 for each warp along kv), at most {}", c.kv, step, kMaxKvTile));
  if (q_valid && kv_valid && warps_valid) {
    if (const int64_t ptx = ptx_bytes(spec, share_of(spec, spec.tile.warps, c), std::ssize(spec.tile.classes)); ptx > kMaxPtx)
      problems.add(where, fmt::format("{}x{} with head dims {}/{} and {} warps compiles to about {} KB of PTX; at most {}", c.q,
                                      c.kv, spec.head_dim_qk, spec.head_dim_vo, spec.tile.warps, ptx / 1024, kMaxPtx / 1024));
  }
  if (index > 0 && c.q >= spec.tile.classes[index - 1].q)
    problems.add(where + ".q", fmt::format("is {} after {}; classes must fall strictly in q", c.q, spec.tile.classes[index - 1].q));
}

// Whether the classes together fit a thread's registers.
void check_registers(const AttentionSpec& spec, Problems& problems) {
  const std::optional<Registers> passed = passed_limit(spec, spec.tile.warps, spec.tile.classes);
  if (!passed) return;
  problems.add(
      "tile.classes",
      fmt::format("{} with head_dim_vo {} and {} warps need {} registers a thread, for {} accumulators and {} rows to load; at "
                  "most {} are left for {}",
                  print(spec.tile.classes), spec.head_dim_vo, spec.tile.warps, passed->held, passed->accumulators, passed->rows,
                  passed->most, spec.tile.classes.size() == 1 ? "one class" : "several classes"));
}

Result<AttentionTile> given_tile(const AttentionSpec& spec, const ArchTraits& arch) {
  const TileSpec& given = spec.tile;
  Problems problems;
  bool warps_valid = given.warps == 4 || given.warps == 8;
  if (!warps_valid) problems.add("tile.warps", fmt::format("is {}; must be 4 or 8", given.warps));
  if (given.stages < 1 || given.stages > kMaxStages)
    problems.add("tile.stages", fmt::format("is {}; must be 1..{}", given.stages, kMaxStages));
  if (given.classes.empty() || given.classes.size() > kMaxClasses)
    problems.add("tile.classes", fmt::format("has {} classes; must have 1..{}", given.classes.size(), kMaxClasses));
  for (size_t i = 0; i < std::min<size_t>(given.classes.size(), kMaxClasses); ++i) check_class(spec, warps_valid, i, problems);
  if (!problems.empty()) return problems.status();

  check_registers(spec, problems);
  int64_t bytes = shared_bytes(spec, given.warps, given.stages, given.classes);
  if (bytes > arch.max_shared_bytes)
    problems.add("tile", fmt::format("{} with {} warps and {} stages needs {} bytes of shared memory; {} has {}",
                                     print(given.classes), given.warps, given.stages, bytes, arch.name, arch.max_shared_bytes));
  if (!problems.empty()) return problems.status();
  AttentionTile tile = make_tile(spec, given.warps, given.stages, given.classes);
  tile.reason = "given: " + print(spec, tile, arch);
  return tile;
}

}  // namespace

int32_t attention_shared_bytes(const AttentionSpec& spec, int32_t warps, int32_t stages, const std::vector<TileClass>& classes) {
  return static_cast<int32_t>(shared_bytes(spec, warps, stages, classes));
}

Result<AttentionTile> resolve_tile(const AttentionSpec& spec, const ArchTraits& arch) {
  return spec.tile.automatic ? automatic_tile(spec, arch) : given_tile(spec, arch);
}

}  // namespace lathe
