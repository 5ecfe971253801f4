// The scheduler's arithmetic: from row blocks to the lists of a persistent grid. Integers only, no library, no memory of its own,
// so that the host (csrc/plan) and a planning kernel compute the same schedule from the same lines.
//
// Work is a line: row blocks one after another, each with `num_heads` equal output tiles. The line is dealt out to the lists in
// order; a list that cannot hold the next tile whole takes a part of it, and the lists after it go on where it stopped (the
// "stream-K" decomposition of Osama et al., arXiv 2301.03598, with a cost line instead of an iteration line). So only the first and
// the last tile of a list can be parts, whatever the batch.
#pragma once

#include "abi/attention.h"

// Where these functions run, and which are called rather than inlined; a kernel defines both before it includes this header.
#ifndef LATHE_SHARED
#define LATHE_SHARED inline
#define LATHE_SHARED_CALL inline
#endif

namespace lathe::abi {

constexpr int kMaxTileClasses = 4;
constexpr int kMaxTileRows = 128;

// Packed rows of one request, at most one tile of them, and the keys that any of them sees. One output tile for each of the heads
// [head, head + num_heads), which is one where a mask of hooks shows each head keys of its own.
struct AttentionRowBlock {
  int request;
  int row_begin;
  int kv_begin;  // keys [kv_begin, kv_end) of the request; empty when no row sees a key
  int kv_end;
  long long tile_cost;  // of one tile that is not cut: item + keys * key_cost, and partial when it is linked
  unsigned char rows;   // that exist, at most kMaxTileRows
  unsigned char tile_class : 4;
  unsigned char level : 4;  // see AttentionWorkItem
  short head;
  int linked;  // index of its AttentionLinkedTile, whose tiles always write partial states; or -1
};

// What the schedule of a batch depends on besides its lengths. Costs are picoseconds of one block.
struct AttentionScheduleShape {
  int num_lists;
  int num_heads;       // tiles of a row block that one set of lists holds
  int may_cut;         // 0: tiles and parts are dealt out as they are
  int fixed_keys;      // > 0: tiles are made of parts that end at multiples of this many keys
  long long item;      // starting and ending a work item
  long long partial;   // writing a partial state and merging it
  int rows_per_token;  // packed rows that one query token makes
  int causal;
  int windowed;
  int window;
  int num_classes;
  int rows[kMaxTileClasses];            // of each tile class, tallest first
  int keys_per_cut[kMaxTileClasses];    // cuts lie at kv_begin + i * keys_per_cut of a row block
  long long key_cost[kMaxTileClasses];  // one key against one tile
  long long cut_step[kMaxTileClasses];  // keys_per_cut keys against one tile
};

// Sums and bounds of a batch's row blocks.
struct AttentionScheduleWork {
  long long total;     // cost of all tiles of a set of lists, no cut
  long long largest;   // cost of the largest thing that stays in one piece
  long long cut_step;  // the greatest of the row blocks' classes
  int num_blocks;
};

LATHE_SHARED long long schedule_min(long long a, long long b) {
  return a < b ? a : b;
}
LATHE_SHARED long long schedule_max(long long a, long long b) {
  return a > b ? a : b;
}
// a / b for a >= 0, b > 0, by the 32-bit division where that will do: it is several times faster.
LATHE_SHARED_CALL long long schedule_div(long long a, long long b) {
  if ((static_cast<unsigned long long>(a | b) >> 32) == 0) return static_cast<unsigned>(a) / static_cast<unsigned>(b);
  return a / b;
}
LATHE_SHARED long long schedule_ceil_div(long long a, long long b) {
  return schedule_div(a + b - 1, b);
}

// Parts of a row block's tile under fixed_keys: part i is what lies in [(first + i) * fixed_keys, (first + i + 1) * fixed_keys).
LATHE_SHARED int fixed_parts(const AttentionRowBlock& block, int fixed_keys) {
  if (fixed_keys == 0 || block.kv_begin >= block.kv_end) return 1;
  return (block.kv_end - 1) / fixed_keys - block.kv_begin / fixed_keys + 1;
}

// Deals row blocks out to lists of at most `limit` each. `blocks.at(i)` gives block i. `sink` is told of every piece, list by list:
//   sink.next_list()                                 what follows is of the next list; called before the first list too
//   sink.whole(block, head, count)                   tiles of `count` heads from `head` on
//   sink.part(block, head, begin, end, first, last)  keys [begin, end) of a tile that is cut; its first, its last part
// The line is taken from its front. What is left of a list that cannot hold the next tile goes to tiles from the line's back that
// fit whole, then to a part of the next tile; the parts of a tile follow each other.
template <class BLOCKS, class SINK>
struct AttentionDealer {
  // More than all work, so that everything fits into the last list.
  static constexpr long long kNoEnd = 1ll << 62;

  const AttentionScheduleShape& shape;
  const BLOCKS& blocks;
  SINK& sink;
  const long long limit;
  const long long cut_cost = shape.item + shape.partial;  // of a part, beside its keys
  long long room = 0;                                     // left of the list
  int lists_left = shape.num_lists;                       // behind it
  int back = 0;                                           // last block with tiles left ...
  int back_heads = 0;                                     // ... for heads [0, back_heads)

  LATHE_SHARED AttentionDealer(const AttentionScheduleShape& sh, const BLOCKS& b, SINK& s, long long most)
      : shape(sh), blocks(b), sink(s), limit(most) {}

  LATHE_SHARED void next_list() {
    room = --lists_left > 0 ? limit : limit + kNoEnd;
    sink.next_list();
  }

  LATHE_SHARED void deal_whole(const AttentionRowBlock& block, int head, int count) {
    sink.whole(block, head, count);
    room -= count * block.tile_cost;
  }

  LATHE_SHARED void fill_from_back(int front) {
    while (back > front) {
      const AttentionRowBlock& block = blocks.at(back);
      if (block.tile_cost > room) return;
      const int count = static_cast<int>(schedule_min(schedule_div(room, block.tile_cost), back_heads));
      back_heads -= count;
      deal_whole(block, back_heads, count);
      if (back_heads > 0) return;
      --back;
      back_heads = shape.num_heads;
    }
  }

  // The parts of a tile under fixed_keys, each a piece of its own.
  LATHE_SHARED void deal_parts(const AttentionRowBlock& block, int head, int parts) {
    const int first = block.kv_begin / shape.fixed_keys;
    for (int p = 0; p < parts; ++p) {
      const int begin = p == 0 ? block.kv_begin : (first + p) * shape.fixed_keys;
      const int end = p == parts - 1 ? block.kv_end : (first + p + 1) * shape.fixed_keys;
      const long long cost = cut_cost + (end - begin) * shape.key_cost[block.tile_class];
      if (cost > room) next_list();
      room -= cost;
      sink.part(block, head, begin, end, p == 0, p == parts - 1);
    }
  }

  // Cuts a tile that does not fit: a part for the rest of this list, and on through as many lists as it takes.
  LATHE_SHARED void cut(const AttentionRowBlock& block, int head) {
    const long long step_cost = shape.cut_step[block.tile_class];
    const int keys_per_cut = shape.keys_per_cut[block.tile_class];
    long long rest = block.tile_cost + (block.linked < 0 ? shape.partial : 0);  // of the tile, as a part
    int begin = block.kv_begin;
    do {
      const int steps = static_cast<int>(schedule_div(room - cut_cost, step_cost));
      const int end = begin + steps * keys_per_cut;
      sink.part(block, head, begin, end, begin == block.kv_begin, false);
      begin = end;
      rest -= steps * step_cost;
      next_list();
    } while (rest > room);
    sink.part(block, head, begin, block.kv_end, false, true);
    room -= rest;
  }

  // The tiles of block `front` for heads [0, heads).
  LATHE_SHARED void deal_tiles(const AttentionRowBlock& block, int front, int heads) {
    int head = 0;
    while (block.tile_cost * (heads - head) > room) {
      if (block.tile_cost <= room) {
        const int count = static_cast<int>(schedule_div(room, block.tile_cost));
        deal_whole(block, head, count);
        head += count;
      }
      if (shape.fixed_keys == 0) fill_from_back(front);
      if (shape.may_cut != 0 && room - cut_cost >= shape.cut_step[block.tile_class]) {
        cut(block, head++);
      } else {
        next_list();
      }
    }
    if (head < heads) deal_whole(block, head, heads - head);
  }

  // Returns by how much the lists' capacity is passed (> 0: by the last list) or how much of it is left (<= 0).
  LATHE_SHARED long long deal(int num_blocks) {
    back = num_blocks - 1;
    back_heads = shape.num_heads;
    next_list();
    for (int front = 0; front <= back; ++front) {
      const AttentionRowBlock& block = blocks.at(front);
      const int heads = front == back ? back_heads : shape.num_heads;
      const int parts = fixed_parts(block, shape.fixed_keys);
      if (parts == 1) {
        deal_tiles(block, front, heads);
      } else {
        for (int head = 0; head < heads; ++head) deal_parts(block, head, parts);
      }
    }
    return lists_left == 0 ? kNoEnd - room : -room - lists_left * limit;
  }
};

// See AttentionDealer. `limit` must be at least what least_limit() tries; anything above makes progress.
template <class BLOCKS, class SINK>
LATHE_SHARED long long deal_out(const AttentionScheduleShape& shape, const BLOCKS& blocks, int num_blocks, long long limit,
                                SINK& sink) {
  return AttentionDealer<BLOCKS, SINK>(shape, blocks, sink, limit).deal(num_blocks);
}

struct IgnorePieces {
  LATHE_SHARED void next_list() {}
  LATHE_SHARED void whole(const AttentionRowBlock&, int, int) {}
  LATHE_SHARED void part(const AttentionRowBlock&, int, int, int, bool, bool) {}
};

// A schedule's lists hold at most `limit` each; without `may_cut` no tile is cut (parts under fixed_keys apart).
struct AttentionScheduleChoice {
  long long limit;
  int may_cut;
};

// Finds the least limit, on a grid of limits, at which the lists hold the work. `excess(limit)` is what deal_out returns, for the
// same shape. It says by how much a limit is off, so that a few trials do.
template <class EXCESS>
LATHE_SHARED long long least_limit(const AttentionScheduleShape& shape, const AttentionScheduleWork& work, const EXCESS& excess) {
  constexpr int kSteps = 64;
  const long long lists = shape.num_lists;
  const long long even = schedule_ceil_div(work.total, lists);
  const long long worth = shape.item + 2 * shape.partial;
  // Every list but the last may leave `slack` empty, or spend it on cuts, and no more: with `top` the work always fits.
  const long long slack = shape.may_cut != 0 ? worth + work.cut_step : work.largest;
  const long long base = schedule_max(even, slack);
  const long long step = schedule_ceil_div(slack, kSteps);
  int low = -1, high = kSteps;  // the grid's limits that are known not to do, and to do
  // With few row blocks to a list a cut weighs more, and a trial less; with many, a guess that is sure to do is near enough.
  const bool few = work.num_blocks <= 2 * shape.num_lists;
  const int trials = shape.may_cut == 0 || few ? 6 : 3;
  const long long extra = few ? worth - worth / 4 : worth;
  long long guess = shape.may_cut != 0 ? schedule_div(schedule_max(0, even + extra - base), step) : kSteps / 2;
  for (int trial = 0; trial < trials && high - low > 1; ++trial) {
    const int at = static_cast<int>(schedule_min(schedule_max(guess, low + 1), high - 1));
    const long long limit = base + at * step;
    const long long over = excess(limit);
    if (over > 0) {
      low = at;
      guess = at + schedule_ceil_div(over, lists * step);
    } else {
      high = at;
      if (-over <= (limit * lists >> 8)) break;
      guess = at - schedule_div(-over, lists * step);
    }
    if (shape.may_cut == 0) guess = (low + high) / 2;
  }
  return base + high * step;
}

// The schedule's choice for a batch: without cuts where every tile can have a list of its own and none takes longer than with cuts.
template <class EXCESS>
LATHE_SHARED AttentionScheduleChoice choose_schedule(const AttentionScheduleShape& shape, const AttentionScheduleWork& work,
                                                     const EXCESS& excess) {
  const long long limit = least_limit(shape, work, excess);
  const bool list_each = work.num_blocks <= shape.num_lists / shape.num_heads && shape.fixed_keys == 0;
  if (list_each && work.largest <= limit) return {work.largest, 0};
  return {limit, shape.may_cut};
}

// The class of a request with `rows` packed rows (> 0): the fewest row blocks, because each reads the keys again; among equals the
// shortest, because it wastes the fewest rows.
LATHE_SHARED int tile_class_of(const AttentionScheduleShape& shape, int rows) {
  if (rows <= shape.rows[shape.num_classes - 1]) return shape.num_classes - 1;  // most requests, without a division
  int best = 0;
  for (int c = 1; c < shape.num_classes; ++c) {
    if ((rows - 1) / shape.rows[c] <= (rows - 1) / shape.rows[best]) best = c;
  }
  return best;
}

// Sets what a tile of `block` costs, by its keys.
LATHE_SHARED void set_tile_cost(const AttentionScheduleShape& shape, AttentionRowBlock& block) {
  block.tile_cost = shape.item + (block.kv_end - block.kv_begin) * shape.key_cost[block.tile_class];
  const int parts = fixed_parts(block, shape.fixed_keys);
  if (parts > 1) block.tile_cost += (parts - 1) * shape.item + parts * shape.partial;
}

// The row block of `request` that begins at packed row `row_begin`.
LATHE_SHARED AttentionRowBlock row_block(const AttentionScheduleShape& shape, int request, int qo_len, int kv_len, int tile_class,
                                         int row_begin) {
  const int rows = qo_len * shape.rows_per_token;
  const int left = rows - row_begin;
  const int num_rows = left < shape.rows[tile_class] ? left : shape.rows[tile_class];
  // With a rising query both ends of what it sees rise: the first query gives the lower end and the last one the upper.
  const long long shift = static_cast<long long>(kv_len) - qo_len;  // position of query 0
  long long begin = 0, end = kv_len;
  if (shape.causal != 0 && num_rows < left) end = schedule_min(end, (row_begin + num_rows - 1) / shape.rows_per_token + shift + 1);
  if (shape.windowed != 0) begin = schedule_max(begin, row_begin / shape.rows_per_token + shift - shape.window + 1);
  if (begin >= end) {
    begin = end = 0;
  } else if (begin > 0) {
    // Whole pages and fragments; the mask hides what lies before. Never past a fixed cut, which would make a part of hidden keys.
    const long long cut = shape.fixed_keys > 0 ? begin / shape.fixed_keys * shape.fixed_keys : 0;
    begin = schedule_max(begin / 16 * 16, cut);
  }
  AttentionRowBlock block{request,
                          row_begin,
                          static_cast<int>(begin),
                          static_cast<int>(end),
                          0,
                          static_cast<unsigned char>(num_rows),
                          static_cast<unsigned char>(tile_class & 15),
                          0,
                          0,
                          -1};
  set_tile_cost(shape, block);
  return block;
}

// Adds what `block` is to a batch: the cost of its tiles, of the largest piece that stays whole, of its least cut.
LATHE_SHARED void add_work(const AttentionScheduleShape& shape, const AttentionRowBlock& block, AttentionScheduleWork& work) {
  const long long key_cost = shape.key_cost[block.tile_class];
  long long piece = block.tile_cost;
  if (fixed_parts(block, shape.fixed_keys) > 1) {
    piece = shape.item + shape.partial + schedule_min(block.kv_end - block.kv_begin, shape.fixed_keys) * key_cost;
  }
  work.total += block.tile_cost * shape.num_heads;
  work.largest = schedule_max(work.largest, piece);
  work.cut_step = schedule_max(work.cut_step, shape.cut_step[block.tile_class]);
  ++work.num_blocks;
}

// Makes the lists of a plan from the pieces of a schedule. OUT stores them:
//   indptr(list, first_item), group(index, first_row, num_parts), item(index, AttentionWorkItem)
template <class OUT>
struct AttentionListWriter {
  OUT out;
  const AttentionScheduleShape& shape;
  int list = -1, num_items = 0, num_groups, partial_rows = 0;
  int group = 0, group_row = 0, group_parts = 0;  // of the tile whose parts come

  LATHE_SHARED AttentionListWriter(OUT o, const AttentionScheduleShape& s, int num_linked)
      : out(o), shape(s), num_groups(num_linked * s.num_heads) {}

  LATHE_SHARED void next_list() { out.indptr(++list, num_items); }
  LATHE_SHARED void whole(const AttentionRowBlock& block, int head, int count) {
    if (block.linked >= 0) {
      for (int h = head; h < head + count; ++h) part(block, h, block.kv_begin, block.kv_end, true, true);
      return;
    }
    out.item(num_items++,
             {block.request, block.head + head, block.row_begin, block.kv_begin, block.kv_end, -1, -1, static_cast<short>(count),
              static_cast<signed char>(block.tile_class), static_cast<signed char>(block.level)});
  }
  LATHE_SHARED void part(const AttentionRowBlock& block, int head, int begin, int end, bool first, bool last) {
    if (first) {
      group = block.linked >= 0 ? block.linked * shape.num_heads + head : num_groups++;
      group_row = partial_rows;
      group_parts = 0;
    }
    out.item(num_items++, {block.request, block.head + head, block.row_begin, begin, end, partial_rows, group, 1,
                           static_cast<signed char>(block.tile_class), static_cast<signed char>(block.level)});
    partial_rows += block.rows;
    ++group_parts;
    if (last) out.group(group, group_row, group_parts);
  }
  // Ends the last list and sets the counts of `header`, whose list offsets are set.
  LATHE_SHARED void finish(AttentionPlanHeader& header) {
    while (list < header.num_lists) next_list();
    header.num_items = num_items;
    header.num_groups = num_groups;
    header.replica_partial_rows = partial_rows;
    header.bytes = header.items_offset + num_items * static_cast<int>(sizeof(AttentionWorkItem));
  }
};

}  // namespace lathe::abi
