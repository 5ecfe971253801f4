// What host and device agree on for the attention kernel: the parameter block and the plan. Plain types only; included by rendered
// sources and by the library. All offsets and strides are bytes and 64-bit; counts and lengths are 32-bit.
#pragma once

#include "abi/hooks.h"
#include "abi/kv_scales.h"

namespace lathe::abi {

// One request of the batch; behind those of the batch, one for each shared tile (AttentionLinkedTile), whose `qo_begin` is its
// first AttentionSharedRow, `qo_len` how many it has, and `kv_len` so large that every row sees every key of its items.
struct AttentionRequest {
  int qo_begin;  // its first row in q, o and lse
  int qo_len;
  int kv_len;
  int kv_begin;  // ragged: its first row in k and v; paged: its first entry in kv_indices (the flat csr indices or block table)
};

// One unit of work of a thread block: a tile of packed query rows against a range of keys, for a run of heads one after another.
// Packed row r of a request is query r / G of head `head * G + r % G` (G = group_size when packed, else 1).
// Heads, partial rows and merge groups count from those of the block's replica, see AttentionPlanHeader.
struct AttentionWorkItem {
  int request;
  int head;       // the first: kv head when packed, else qo head
  int row_begin;  // first packed row of the tile
  int kv_begin;   // keys [kv_begin, kv_end) of the request; empty when no key is visible
  int kv_end;
  int partial_row;  // first row of this item's partial state, or -1: the item writes the result itself
  int merge_group;  // index of its merge group, or -1
  short num_heads;  // 1 when the item has a partial state
  signed char tile_class;
  signed char level;  // 0: rows of one request; 1: rows of several against keys that they share
};

// The items of one tile whose states are merged: it was split along the keys, or it is a linked tile. Part i has its state at rows
// first_row + i * (rows of the tile that exist). Whoever arrives last merges all parts in index order.
struct AttentionMergeGroup {
  int first_row;
  int num_parts;
};

// Linked tiles: where requests read keys together. A *shared tile* holds rows of several requests against keys that all of them
// see; a *leaf* holds the rows of one request against its own keys, and its result is merged from its own parts and from its rows'
// states in its shared tiles, in the order of its links. Whoever completes a shared tile arrives at all its leaves.
// The merge group of linked tile t and head h (of the replica) is t * replica_heads + h; those of other tiles follow.
struct AttentionLinkedTile {
  int first_row;   // leaf: its first packed row, counted over the whole batch (qo_begin * G + row); shared tile: 0
  int num_rows;    // rows that exist
  int first_link;  // links [first_link, first_link + num_links): of a leaf its shared tiles, of a shared tile its leaves
  int num_links;
};

// A leaf's rows in a shared tile.
struct AttentionLink {
  int tile;  // the linked tile at the other end
  int row;   // first of the leaf's rows in the shared tile
};

// One row of a shared tile.
struct AttentionSharedRow {
  int row;   // packed, counted over the whole batch
  int link;  // which of its tile's links it belongs to
};

// Where a mask of hooks leaves out keys, the keys of a row block are counted without them: keys kv_begin and kv_end of its items
// are places in the line of the tiles that any of its rows may see, whole tiles of the class's keys (the request's last tile may be
// short). The line is made of runs of neighbouring tiles.
struct AttentionKeyRun {
  int begin;     // its place in the line
  int kv_begin;  // its first key; a multiple of the class's keys
  int full;      // not 0: every row sees every key of the run
  int unused;
};

// Start of the plan in device memory; the lists follow at these byte offsets from the header's address (16-byte aligned).
//
// The heads fall into replicas, equal parts that are scheduled alike: there is one set of lists for all of them. Block c runs list
// c % num_lists for replica c / num_lists, whose heads, partial rows and merge groups begin at that many times the header's
// heads, partial_rows and groups; blocks past the last replica have nothing to do.
struct AttentionPlanHeader {
  int num_requests;  // shared tiles' included
  int num_items;
  int num_groups;  // of one replica, those of linked tiles first
  int num_lists;
  int num_replicas;
  int replica_heads;         // heads of one replica
  int replica_partial_rows;  // distance between two replicas' first partial rows
  int requests_offset;       // AttentionRequest[num_requests]
  int item_indptr_offset;    // int[num_lists + 1]: items of list l are [item_indptr[l], item_indptr[l + 1])
  int groups_offset;         // AttentionMergeGroup[num_groups]
  int items_offset;          // AttentionWorkItem[num_items]
  int num_linked;            // linked tiles; 0 where nothing is shared, and the three lists below are empty
  int linked_offset;         // AttentionLinkedTile[num_linked]
  int links_offset;          // AttentionLink[]
  int shared_rows_offset;    // AttentionSharedRow[]
  int first_blocks_offset;   // int[num_requests]: index of a request's first row block, or of each of its heads' where the mask of
                             // hooks differs by head, int[num_requests, heads]; these three only where a mask of hooks is
  int run_indptr_offset;     // int[row blocks + 1]: runs of row block i are [run_indptr[i], run_indptr[i + 1])
  int runs_offset;           // AttentionKeyRun[]
  int bytes;                 // of the whole plan
  int unused;                // whole 16 bytes
};

// Parameter block of the launch (at most 4 KB, 64-byte aligned). Holds no per-batch number.
struct alignas(64) AttentionParams {
  const void* q;
  const void* k;
  const void* v;  // may alias k
  void* o;
  float* lse;                // null unless the spec asks for it
  const int* kv_indices;     // page ids; null when ragged
  const void* plan;          // AttentionPlanHeader
  float* partial_o;          // [partial rows, head_dim_vo], normalised
  float* partial_lse;        // [partial rows], base 2
  unsigned* merge_counters;  // [replicas * groups], zero before the launch and after it
  long long q_stride_token, q_stride_head;
  long long o_stride_token, o_stride_head;
  long long k_stride_page, k_stride_token, k_stride_head;  // ragged: k_stride_page unused
  long long v_stride_page, v_stride_token, v_stride_head;
  long long lse_stride_token;   // bytes; heads are contiguous
  float sm_scale;               // > 0
  float soft_cap;               // > 0; read only when the spec has soft_cap
  int window;                   // >= 1; read only when the mask has a window
  int num_pages;                // pages in k and v; checked builds trap on page ids outside [0, num_pages)
  KvScales k_scales, v_scales;  // scale is read of codes, the tables where the spec has them
  AttentionHookArgs hooks;      // read only where the spec has hooks
};

}  // namespace lathe::abi
