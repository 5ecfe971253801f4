// Moves queries, keys and values from global to shared memory, 16 bytes at a time. Rows that do not exist are written as zeros: a
// zero value times a zero weight is zero, while whatever an unused slot holds might be a NaN.
#pragma once

#include "kernels/attention/problem.cuh"

namespace attention {

// The tile of queries, loaded by the whole block.
template <int ROWS>
LATHE_DEVICE void load_queries(dev::SharedTile<Element, ROWS, config::kHeadDimQk> tile, const abi::AttentionParams& params,
                               const Problem& problem) {
  const Plan plan(params);
  constexpr int kThreads = config::kWarps * dev::kWarpSize;
  const int num_rows = problem.num_rows(ROWS);
#pragma unroll 1
  for (int i = static_cast<int>(dev::thread_index()); i < ROWS * tile.kChunks; i += kThreads) {
    const int row = i / tile.kChunks;
    const int chunk = i % tile.kChunks;
    const bool exists = row < num_rows;
    const QueryRow at(exists ? problem.batch_row(plan, row) : 0, problem.item.head);
    const i64 offset = at.token * params.q_stride_token + at.head * params.q_stride_head + chunk * 16;
    dev::copy_async_16(tile.chunk_offset(row, chunk), dev::at(params.q, offset), exists);
  }
}

// Loads one group's KEYS rows of the key and value tiles, tile after tile. Eight threads share a row; each thread keeps the page
// ids of its rows one tile ahead, so that no copy waits for the page list.
template <class GROUP, int KEYS>
class KvLoader {
 public:
  // Tile t begins at place first + t * tile_keys of the item's keys; the group's rows of it are [group_keys, group_keys + KEYS).
  LATHE_DEVICE KvLoader(const abi::AttentionParams& params, const Problem& problem, GROUP group, const KeyLine& line,
                        int group_keys, int tile_keys)
      : params_(params), problem_(problem), thread_(group.thread()), line_(line), group_keys_(group_keys), tile_keys_(tile_keys) {}

  // Fetches the page ids of tile `t` for the copies that follow.
  LATHE_DEVICE void prefetch(int t) {
    const int place = problem_.item.kv_begin + t * tile_keys_;
    next_key_ = line_.key(params_, place) + group_keys_;
    left_ = problem_.item.kv_end - place - group_keys_;
    if constexpr (config::kPaged) {
      const dev::GlobalList<int> pages{params_.kv_indices};
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        const int key = next_key_ + row_of(step);
        page_[step] = exists(step) ? pages.load(static_cast<i64>(problem_.request.kv_begin) + page_of(key)) : 0;
      }
    }
  }

  // Copies the prefetched tile's rows into `tile`, from row `row_begin` on.
  template <class TILE>
  LATHE_DEVICE void copy_keys(TILE tile, int row_begin) const {
    copy(tile, row_begin, params_.k, params_.k_stride_page, params_.k_stride_token, params_.k_stride_head);
  }
  template <class TILE>
  LATHE_DEVICE void copy_values(TILE tile, int row_begin) const {
    copy(tile, row_begin, params_.v, params_.v_stride_page, params_.v_stride_token, params_.v_stride_head);
  }

 private:
  static constexpr int kThreadsPerRow = 8;
  static constexpr int kRowsPerStep = GROUP::kThreads / kThreadsPerRow;
  static constexpr int kSteps = (KEYS + kRowsPerStep - 1) / kRowsPerStep;

  // Keys are not negative; saying so spares the corrections of signed division.
  LATHE_DEVICE static i64 page_of(int key) {
    return static_cast<u32>(key) / config::kPageSize;
  }
  LATHE_DEVICE static i64 token_of(int key) {
    return static_cast<u32>(key) % config::kPageSize;
  }
  LATHE_DEVICE int row_of(int step) const {
    return thread_ / kThreadsPerRow + step * kRowsPerStep;
  }
  LATHE_DEVICE bool exists(int step) const {
    return row_of(step) < KEYS && row_of(step) < left_;
  }

  template <class TILE>
  LATHE_DEVICE void copy(TILE tile, int row_begin, const void* base, i64 stride_page, i64 stride_token, i64 stride_head) const {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      if (KEYS % kRowsPerStep != 0 && row_of(step) >= KEYS) break;
      const int key = next_key_ + row_of(step);
      i64 offset = problem_.kv_head() * stride_head;
      if constexpr (config::kPaged) {
        offset += static_cast<i64>(page_[step]) * stride_page + token_of(key) * stride_token;
      } else {
        offset += (static_cast<i64>(problem_.request.kv_begin) + key) * stride_token;
      }
#pragma unroll
      for (int panel = 0; panel < tile.kPanels; ++panel) {
        const int chunk = panel * 8 + thread_ % kThreadsPerRow;
        if (tile.kChunks % 8 != 0 && chunk >= tile.kChunks) break;
        dev::copy_async_16(tile.chunk_offset(row_begin + row_of(step), chunk), dev::at(base, offset + chunk * 16), exists(step));
      }
    }
  }

  const abi::AttentionParams& params_;
  const Problem& problem_;
  int thread_;
  KeyLine line_;
  int group_keys_;
  int tile_keys_;
  int next_key_ = 0;  // the group's first key of the prefetched tile ...
  int left_ = 0;      // ... and how many keys of the item there are from it on
  int page_[config::kPaged ? kSteps : 1];
};

}  // namespace attention
