// Hooks of whole vectors: query, key and value change tiles in shared memory before the products read them. Elements change in
// place; codes become the elements of another tile.
#pragma once

#include "kernels/attention/kv_formats.cuh"
#include "kernels/attention/problem.cuh"

namespace attention {

// Which element of a vector is the rotary partner of element d, and its sign in rot(x) (Su et al., arXiv 2104.09864): dimensions
// [0, dims) fall into pairs (d, d + dims / 2) or (2 i, 2 i + 1); the rest has none.
template <int COLS>
struct RotaryPairs {
  static constexpr int kDims = hooks::kRotaryDims == 0 ? COLS : hooks::kRotaryDims;
  static constexpr int kDistance = hooks::kRotaryInterleaved ? 1 : kDims / 2;
  static_assert(kDims <= COLS && kDims % 16 == 0, "pairs of whole words");

  // The first of word `word`'s two columns in the line of first halves; its partners are kDistance further.
  LATHE_DEVICE static int column(int word) {
    if (hooks::kRotaryInterleaved) return 4 * word;
    const int pairs = kDims / 4;  // words that hold first halves
    return word < pairs ? 2 * word : kDims + 4 * (word - pairs);
  }
};

// Elements, or codes, `column` and `column + 1` of a row; `column` is even.
template <class E, int ROWS, int COLS>
LATHE_DEVICE void load_pair(dev::SharedTile<E, ROWS, COLS> tile, int row, int column, float (&x)[2]) {
  if constexpr (sizeof(E) == 1) {
    const u32 word = dev::shared_load_u32(tile.chunk_offset(row, column / 16) + static_cast<u32>(column % 16 / 4) * 4);
    const u32 codes = word >> (column % 4 * 8);
    x[0] = dev::unpack<Element>(dev::widen<Element, E, 0>(codes), 0);
    x[1] = dev::unpack<Element>(dev::widen<Element, E, 1>(codes), 0);
  } else {
    const u32 word = dev::shared_load_u32(tile.chunk_offset(row, column / 8) + static_cast<u32>(column % 8) * 2);
    x[0] = dev::unpack<E>(word, 0), x[1] = dev::unpack<E>(word, 1);
  }
}
template <class E, int ROWS, int COLS>
LATHE_DEVICE void store_pair(dev::SharedTile<E, ROWS, COLS> tile, int row, int column, float x, float y) {
  dev::shared_store_u32(tile.chunk_offset(row, column / 8) + static_cast<u32>(column % 8) * 2, dev::pack2<E>(x, y));
}

// What elements stand for: themselves.
struct Plain {
  LATHE_DEVICE float operator()(int, float x) const { return x; }
};
// What codes of one key or value stand for.
template <class FORMAT>
class CodeMeaning {
 public:
  LATHE_DEVICE CodeMeaning(const abi::AttentionParams& params, const abi::KvScales& scales, const Problem& problem, int key)
      : scales_(scales), kv_head_(problem.kv_head()), scale_(scales.scale) {
    if constexpr (!FORMAT::kTokenScale && FORMAT::kZero != ZeroPoint::token) return;
    const kv::Place at = problem.place_of(params, key);
    if constexpr (FORMAT::kTokenScale) scale_ *= kv::Table{scales.token_scale, kv_head_}.of_token(at);
    if constexpr (FORMAT::kZero == ZeroPoint::token) zero_ = kv::Table{scales.zero, kv_head_}.of_token(at);
  }
  LATHE_DEVICE float operator()(int d, float code) const {
    float x = code - (FORMAT::kZero == ZeroPoint::channel ? kv::Table{scales_.zero, kv_head_}.of_channel(d) : zero_);
    x *= scale_;
    if constexpr (FORMAT::kChannelScale) x *= kv::Table{scales_.channel_scale, kv_head_}.of_channel(d);
    return x;
  }

 private:
  const abi::KvScales& scales_;
  int kv_head_;
  float scale_, zero_ = 0.0f;
};

// Writes y = f(row, d, x, rot_x) to rows [row_begin, row_begin + rows) of `to`, where x is what the element of `from` at that place
// stands for: meaning_of(row)(d, element). `from` and `to` may be one tile. By `threads` threads of which this one is `thread`;
// every other reader and writer is behind a barrier. Four elements at a time: two pairs, with the partners of both.
template <class FROM, class T, int ROWS, int COLS, class M, class F>
LATHE_DEVICE void transform_rows(FROM from, dev::SharedTile<T, ROWS, COLS> to, int row_begin, int rows, int thread, int threads,
                                 M&& meaning_of, F&& f) {
  using Pairs = RotaryPairs<COLS>;
#pragma unroll 1
  for (int i = thread; i < rows * (COLS / 4); i += threads) {
    const int row = row_begin + i / (COLS / 4);
    const int first = Pairs::column(i % (COLS / 4));
    const bool apart = !hooks::kRotaryInterleaved && first < Pairs::kDims;  // the second word holds the first one's partners
    const int second = apart ? first + Pairs::kDistance : first + 2;
    const auto meaning = meaning_of(row);
    float a[2], b[2];
    load_pair(from, row, first, a);
    load_pair(from, row, second, b);
    const float x[4] = {meaning(first, a[0]), meaning(first + 1, a[1]), meaning(second, b[0]), meaning(second + 1, b[1])};
    float rot[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (apart) {
      rot[0] = -x[2], rot[1] = -x[3], rot[2] = x[0], rot[3] = x[1];
    } else if (first < Pairs::kDims) {
      rot[0] = -x[1], rot[1] = x[0];
      if (second < Pairs::kDims) rot[2] = -x[3], rot[3] = x[2];
    }
    float y[4];
#pragma unroll
    for (int c = 0; c < 4; ++c) y[c] = f(row, (c < 2 ? first : second) + c % 2, x[c], rot[c]);
    store_pair(to, row, first, y[0], y[1]);
    store_pair(to, row, second, y[2], y[3]);
  }
}

// The hook query, on the tile of queries, by the whole block.
template <class TILE>
LATHE_DEVICE void transform_queries(TILE tile, const abi::AttentionParams& params, const Problem& problem) {
  hooks::ElementInputs in{};
  in.tile = problem.hook_tile();
  transform_rows(
      tile, tile, 0, problem.num_rows(TILE::kRows), static_cast<int>(dev::thread_index()), config::kWarps * dev::kWarpSize,
      [](int) { return Plain{}; },
      [&](int row, int d, float x, float rot_x) {
        in.row = problem.hook_row(row);
        in.d = d;
        return hooks::query(params.hooks, in, x, rot_x);
      });
}

// The hook key or value, on `rows` rows of a tile from `row_begin` on, which hold the keys from `first_key` on; by their group. Of
// FORMAT they are in `from`, elements in `to`.
template <class FORMAT, class GROUP, class FROM, class TO, class F>
LATHE_DEVICE void transform_keys(GROUP group, FROM from, TO to, int row_begin, int rows, const abi::AttentionParams& params,
                                 [[maybe_unused]] const abi::KvScales& scales, const Problem& problem, int first_key, F&& hook) {
  hooks::ElementInputs in{};
  in.tile = problem.hook_tile();
  in.row.hk = problem.kv_head();
  const int left = problem.request.kv_len - first_key;
  if constexpr (kCodes<FORMAT>) {
    const auto key_of = [&](int row) { return first_key + row - row_begin; };
    const int last = problem.request.kv_len - 1;
    transform_rows(
        from, to, row_begin, rows, group.thread(), GROUP::kThreads,
        [&](int row) { return CodeMeaning<FORMAT>(params, scales, problem, key_of(row) < last ? key_of(row) : last); },
        [&](int row, int d, float x, float rot_x) {
          if (key_of(row) > last) return 0.0f;  // rows that do not exist are zeros
          in.column = problem.hook_column(params, key_of(row));
          in.d = d;
          return hook(in, x, rot_x);
        });
  } else {
    transform_rows(
        from, to, row_begin, rows < left ? rows : left, group.thread(), GROUP::kThreads, [](int) { return Plain{}; },
        [&](int row, int d, float x, float rot_x) {
          in.column = problem.hook_column(params, first_key + row - row_begin);
          in.d = d;
          return hook(in, x, rot_x);
        });
  }
}

}  // namespace attention
