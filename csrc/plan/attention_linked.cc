#include "lathe/plan/attention_linked.h"

#include <algorithm>

namespace lathe {
namespace {

// Takes what is shared out of the leaves' row blocks: these are the blocks of requests that share keys.
void make_leaves(const PlanBatch& batch, const abi::AttentionScheduleShape& schedule,
                 std::span<const abi::AttentionRowBlock> blocks, const Sharing& sharing, LinkedTiles& out) {
  const size_t size = batch.kv_lens.size();
  std::vector<int32_t>& shares = out.first_leaf;  // first: whether a request shares keys
  shares.assign(size + 1, 0);
  for (int32_t b : sharing.members) shares[b] = 1;
  size_t at = 0;
  for (size_t b = 0; b < size; ++b) {
    const bool leaf = shares[b] != 0;
    out.first_leaf[b] = static_cast<int32_t>(out.tiles.size());
    for (; at < blocks.size() && blocks[at].request == static_cast<int32_t>(b); ++at) {
      abi::AttentionRowBlock block = blocks[at];
      if (leaf) {
        const int32_t own_begin = std::min(sharing.own_begin[b], block.kv_end);
        block.tile_cost += schedule.partial - (own_begin - block.kv_begin) * schedule.key_cost[block.tile_class];
        block.kv_begin = own_begin;
        block.linked = static_cast<int>(out.tiles.size());
        out.tiles.push_back({batch.qo_indptr[b] * schedule.rows_per_token + block.row_begin, block.rows, 0, 0});
      }
      out.blocks.push_back(block);
    }
  }
  out.first_leaf[size] = static_cast<int32_t>(out.tiles.size());
}

// The shared tiles of `keys` with their rows and links; counts the leaves' links.
void make_shared_tiles(const SharedKeys& keys, std::span<const int32_t> members, size_t batch,
                       const abi::AttentionScheduleShape& schedule, LinkedTiles& out) {
  const auto for_each_leaf = [&](auto&& f) {
    for (int32_t b : members)
      for (int32_t leaf = out.first_leaf[b]; leaf < out.first_leaf[b + 1]; ++leaf) f(leaf);
  };
  int64_t rows = 0;
  for_each_leaf([&](int32_t leaf) { rows += out.tiles[leaf].num_rows; });
  const int tile_class = shared_tile_class(schedule, rows);
  const int64_t cost = schedule.item + schedule.partial + (int64_t{keys.key_end} - keys.key_begin) * schedule.key_cost[tile_class];
  SharedTilePacking packing(schedule.rows[tile_class]);
  for_each_leaf([&](int32_t leaf) {
    const abi::AttentionLinkedTile own = out.tiles[leaf];
    const int row = packing.add(own.num_rows);
    if (row == 0) {
      out.blocks.push_back({static_cast<int>(batch + out.requests.size()), 0, keys.key_begin, keys.key_end, cost, 0,
                            static_cast<unsigned char>(tile_class & 15), 1, 0, static_cast<int>(out.tiles.size())});
      out.tiles.push_back({0, 0, static_cast<int>(out.links.size()), 0});
      out.requests.push_back({static_cast<int>(out.shared_rows.size()), 0, keys.key_end, keys.kv_begin});
    }
    abi::AttentionLinkedTile& tile = out.tiles.back();
    for (int r = 0; r < own.num_rows; ++r) out.shared_rows.push_back({own.first_row + r, tile.num_links});
    out.links.push_back({leaf, row});
    ++tile.num_links;
    tile.num_rows += own.num_rows;
    out.blocks.back().rows = static_cast<uint8_t>(tile.num_rows);
    out.requests.back().qo_len = tile.num_rows;
    out.requests.back().kv_len = keys.key_end + tile.num_rows;  // as if the keys came before all of its rows
    ++out.tiles[leaf].num_links;
  });
}

// The leaves' links to their shared tiles, behind the shared tiles' to their leaves.
void link_leaves(int32_t num_leaves, LinkedTiles& out) {
  int next = static_cast<int>(out.links.size());
  for (int32_t leaf = 0; leaf < num_leaves; ++leaf) {
    out.tiles[leaf].first_link = next;
    next += out.tiles[leaf].num_links;
    out.tiles[leaf].num_links = 0;
  }
  out.links.resize(next);
  for (size_t t = num_leaves; t < out.tiles.size(); ++t) {
    for (int l = 0; l < out.tiles[t].num_links; ++l) {
      const abi::AttentionLink link = out.links[out.tiles[t].first_link + l];
      abi::AttentionLinkedTile& leaf = out.tiles[link.tile];
      out.links[leaf.first_link + leaf.num_links++] = {static_cast<int>(t), link.row};
    }
  }
}

}  // namespace

void LinkedTiles::reserve(size_t num_requests, const PlanCounts& counts) {
  blocks.reserve(static_cast<size_t>(counts.linked));
  requests.reserve(static_cast<size_t>(counts.requests));
  tiles.reserve(static_cast<size_t>(counts.linked));
  links.reserve(static_cast<size_t>(counts.links));
  shared_rows.reserve(static_cast<size_t>(counts.shared_rows));
  first_leaf.reserve(num_requests + 1);
}

void take_prefixes(const PlanBatch& batch, Sharing& out) {
  out.keys.clear();
  out.members.clear();
  out.own_begin.assign(batch.kv_lens.size(), 0);
  for (const SharedPrefix& prefix : batch.prefixes) {
    out.keys.push_back({prefix.kv_begin, 0, prefix.kv_len, static_cast<int32_t>(out.members.size()), prefix.num_requests});
    for (int32_t i = 0; i < prefix.num_requests; ++i) out.members.push_back(prefix.first_request + i);
  }
}

Status link_tiles(const PlanBatch& batch, const abi::AttentionScheduleShape& schedule,
                  std::span<const abi::AttentionRowBlock> blocks, const Sharing& sharing, LinkedTiles& out, RowWork& work) {
  out.blocks.clear();
  out.requests.clear();
  out.tiles.clear();
  out.links.clear();
  out.shared_rows.clear();
  make_leaves(batch, schedule, blocks, sharing, out);
  const size_t num_leaves = out.tiles.size(), num_own = out.blocks.size();
  for (const SharedKeys& keys : sharing.keys) {
    const auto members = std::span(sharing.members).subspan(keys.first_member, keys.num_members);
    make_shared_tiles(keys, members, batch.kv_lens.size(), schedule, out);
  }
  link_leaves(static_cast<int32_t>(num_leaves), out);
  // The largest tiles first: what is small fills the gaps that they leave.
  std::rotate(out.blocks.begin(), out.blocks.begin() + static_cast<ptrdiff_t>(num_own), out.blocks.end());
  return sum_blocks(schedule, out.blocks, work);
}

}  // namespace lathe
