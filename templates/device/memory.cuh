// Views of memory: the only way kernel code reaches it. A view is an address plus arithmetic; every access ends in a primitive, so
// that the host executor sees it.
#pragma once

#include "device/primitives.cuh"

namespace dev {

// ---- Global memory
// -------------------------------------------------------------------------------------------------------------------
LATHE_DEVICE const void* at(const void* base, i64 bytes) {
  return static_cast<const char*>(base) + bytes;
}
LATHE_DEVICE void* at(void* base, i64 bytes) {
  return static_cast<char*>(base) + bytes;
}

// A list of plain values of 4 bytes or a multiple of 16, then aligned to 16 bytes.
template <class T>
struct GlobalList {
  static_assert(sizeof(T) == 4 || sizeof(T) % 16 == 0, "larger values are moved 16 bytes at a time");
  const void* base;

  LATHE_DEVICE T load(i64 index) const {
    const void* address = at(base, index * static_cast<i64>(sizeof(T)));
    if constexpr (sizeof(T) == 4) {
      return __builtin_bit_cast(T, global_load_u32(address));
    } else {
      struct Words {
        Vec16 part[sizeof(T) / 16];
      } words;
#pragma unroll
      for (int i = 0; i < static_cast<int>(sizeof(T) / 16); ++i) words.part[i] = global_load_vec16(at(address, 16 * i));
      return __builtin_bit_cast(T, words);
    }
  }
};

// One int of a structure in global memory.
template <class T>
using IntMember = int T::*;
template <class T>
LATHE_DEVICE int load_member(const void* base, IntMember<T> member) {
  return __builtin_bit_cast(int, global_load_u32(&(static_cast<const T*>(base)->*member)));
}

// A list that is also written.
template <class T>
struct MutableList {
  void* base;

  LATHE_DEVICE T load(i64 index) const { return GlobalList<T>{base}.load(index); }
  LATHE_DEVICE void store(i64 index, const T& value) const {
    void* address = at(base, index * static_cast<i64>(sizeof(T)));
    if constexpr (sizeof(T) == 4) {
      global_store_u32(address, __builtin_bit_cast(u32, value));
    } else {
      struct Words {
        Vec16 part[sizeof(T) / 16];
      };
      const Words words = __builtin_bit_cast(Words, value);
#pragma unroll
      for (int i = 0; i < static_cast<int>(sizeof(T) / 16); ++i) global_store_vec16(at(address, 16 * i), words.part[i]);
    }
  }
};

// Fp32 values; the index counts floats.
struct GlobalFloats {
  float* base;
  LATHE_DEVICE float load(i64 index) const { return float_from_bits(global_load_u32(at(base, index * 4))); }
  LATHE_DEVICE void store(i64 index, float x) const { global_store_u32(at(base, index * 4), float_bits(x)); }
  // Four at once; index is a multiple of 4 and the base 16-byte aligned.
  LATHE_DEVICE void load4(i64 index, float (&x)[4]) const {
    const Vec16 v = global_load_vec16(at(base, index * 4));
#pragma unroll
    for (int i = 0; i < 4; ++i) x[i] = float_from_bits(v.word[i]);
  }
  LATHE_DEVICE void store4(i64 index, const float (&x)[4]) const {
    Vec16 v;
#pragma unroll
    for (int i = 0; i < 4; ++i) v.word[i] = float_bits(x[i]);
    global_store_vec16(at(base, index * 4), v);
  }
};

// Eight at once, as load4 and store4.
LATHE_DEVICE void load8(GlobalFloats list, i64 index, float (&x)[8]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float part[4];
    list.load4(index + 4 * half, part);
#pragma unroll
    for (int i = 0; i < 4; ++i) x[4 * half + i] = part[i];
  }
}
LATHE_DEVICE void store8(GlobalFloats list, i64 index, const float (&x)[8]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float part[4] = {x[4 * half], x[4 * half + 1], x[4 * half + 2], x[4 * half + 3]};
    list.store4(index + 4 * half, part);
  }
}

// A counter that blocks share.
struct Counter {
  u32* base;
  i64 index;
  LATHE_DEVICE u32 add_acq_rel(u32 x) const { return atomic_add_acq_rel(address(), x); }
  LATHE_DEVICE void store_relaxed(u32 x) const { dev::store_relaxed(address(), x); }

 private:
  LATHE_DEVICE u32* address() const { return static_cast<u32*>(at(static_cast<void*>(base), index * 4)); }
};

// Eight 16-bit elements from or to fp32, one 16-byte access.
template <class T>
LATHE_DEVICE void global_load8(const void* address, float (&x)[8]) {
  const Vec16 v = global_load_vec16(address);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    x[2 * i] = unpack<T>(v.word[i], 0);
    x[2 * i + 1] = unpack<T>(v.word[i], 1);
  }
}
template <class T>
LATHE_DEVICE void global_store8(void* address, const float (&x)[8]) {
  Vec16 v;
#pragma unroll
  for (int i = 0; i < 4; ++i) v.word[i] = pack2<T>(x[2 * i], x[2 * i + 1]);
  global_store_vec16(address, v);
}

// ---- Shared memory
// -------------------------------------------------------------------------------------------------------------------
struct SharedFloats {
  u32 offset;  // bytes
  LATHE_DEVICE float load(u32 index) const { return float_from_bits(shared_load_u32(offset + 4 * index)); }
  LATHE_DEVICE void store(u32 index, float x) const { shared_store_u32(offset + 4 * index, float_bits(x)); }
};

// ROWS x STRIDE fp32 values of which the first columns are used. A stride of 8 modulo 16 spreads the rows of a fragment over all
// banks.
template <int STRIDE>
struct SharedRows {
  static_assert(STRIDE % 16 == 8, "rows of a fragment would meet in the same banks");
  u32 offset;  // bytes
  LATHE_DEVICE void store2(int row, int column, float x, float y) const {
    shared_store_vec8(offset + static_cast<u32>(row * STRIDE + column) * 4, Vec8{{float_bits(x), float_bits(y)}});
  }
  LATHE_DEVICE void load4(int row, int column, float (&x)[4]) const {
    const Vec16 v = shared_load_vec16(offset + static_cast<u32>(row * STRIDE + column) * 4);
#pragma unroll
    for (int i = 0; i < 4; ++i) x[i] = float_from_bits(v.word[i]);
  }
};

// ROWS x COLS elements of 16 or 8 bits in panels: a panel is ROWS rows of 128 bytes, and the 16-byte chunk c of row r lies at chunk
// c ^ (r % 8) of its row. This is the 128-byte swizzle of TMA and wgmma (PTX ISA, "Swizzling modes"), so later loaders and matrix
// instructions find the same bytes. `offset` is a multiple of 1024.
template <class T, int ROWS, int COLS>
struct SharedTile {
  static_assert(ROWS % 8 == 0 && COLS % 16 == 0, "a tile is made of 8-row swizzle atoms and 16-column matrix steps");
  static constexpr int kRows = ROWS;
  static constexpr int kCols = COLS;
  static constexpr int kChunks = COLS * static_cast<int>(sizeof(T)) / 16;  // 16-byte chunks of a row
  static constexpr int kPanels = (kChunks + 7) / 8;
  static constexpr u32 kPanelBytes = ROWS * 128;
  static constexpr u32 kBytes = kPanels * kPanelBytes;
  u32 offset;

  LATHE_DEVICE u32 chunk_offset(int row, int chunk) const {
    return offset + static_cast<u32>(chunk / 8) * kPanelBytes + static_cast<u32>(row * 128 + ((chunk ^ row) & 7) * 16);
  }
};

// What one lane needs to address pairs of 16-byte chunks along one row of a tile: the swizzle of a row repeats every panel, so four
// terms cover all its columns and every address is one addition (and an immediate) away.
template <class Tile>
struct TileRow {
  u32 base;
  u32 term[4];

  // The row `row`, looking at the left (half 0) or right (half 1) 16-byte chunk of each pair.
  LATHE_DEVICE TileRow(Tile tile, int row, int half) : base(tile.offset + static_cast<u32>(row) * 128) {
#pragma unroll
    for (int i = 0; i < 4; ++i) term[i] = static_cast<u32>(((2 * i + half) ^ row) & 7) * 16;
  }
  // Byte offset of the chunk of pair `step`, `down` rows below; `down` is a multiple of 8. A pair is 16 columns of 16 bits, or 32
  // of 8.
  LATHE_DEVICE u32 chunk(int step, int down) const {
    return base + static_cast<u32>(step / 4) * Tile::kPanelBytes + static_cast<u32>(down) * 128 + term[step % 4];
  }
};

}  // namespace dev
