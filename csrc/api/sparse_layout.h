// Attention over chosen keys: block-sparse matrices, and keys gathered by index. Each is a batch of the paged layout over other
// views of the same tensors, so the kernel, its loader and the planner are those of every batch, and nothing is copied:
//
//   auto layout = lathe::block_sparse({.rows = m, .columns = n, .block_rows = 64, .block_columns = 16, indptr, indices});
//   spec.layout.page_size = layout->page_size;                         // paged NHD, separate, csr; mask none
//   auto plan = attention->plan(layout->batch(), layout->num_kv_heads);
//   layout->view(spec, args);                                          // args.q, k, v, o and lse as they are; then upload, run
//
// Positions mean nothing here: `mask` of the spec is none, and a hook that asks for positions sees those in the list of chosen
// keys. What hides single elements is a hook `mask` over a tensor.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lathe/api/attention.h"

namespace lathe {

/// A batch over chosen keys. A plain value; it refers to nothing.
struct SparseLayout {
  std::vector<int32_t> qo_indptr, kv_indptr, kv_indices, last_page_len;
  int32_t page_size = 1;     // for the spec's layout
  int32_t num_kv_heads = 0;  // as the kernel sees them: 1 where each head has keys of its own
  int64_t num_pages = 0;
  int32_t heads_apart = 1;  // kv heads that became requests of their own

  /// For plan(): spans of this object.
  AttentionBatch batch() const;
  /// What of `spec` does not fit: a layout that is not the one above, a mask of positions; where heads have keys of their own, what
  /// would take a head, token or slot for another: hooks that ask for one, formats of 8 bits with tables.
  Status check(const AttentionSpec& spec) const;
  /// Makes `args`, whose q [tokens, num_qo_heads, head_dim_qk], k and v [keys, num_kv_heads, head_dim], o, lse and scales are those
  /// of a ragged batch, arguments of run(), with shapes and strides only; kv_indices is the caller's to set, to a copy on the
  /// device. Fails where check() does, or where heads of their own would need rows that have no single stride; `args` then stay as
  /// they are.
  Status view(const AttentionSpec& spec, AttentionArgs& args) const;
};

/// Rows see whole blocks of keys: block row i sees the block columns indices[indptr[i]] .. indices[indptr[i + 1] - 1], in any
/// order, each once.
struct BlockSparse {
  int64_t rows = 0, columns = 0;  // of the matrix: tokens of q, and of k; columns a multiple of block_columns
  int32_t block_rows = 0, block_columns = 0;
  int32_t num_kv_heads = 0;
  std::span<const int32_t> indptr;   // [ceil(rows / block_rows) + 1]
  std::span<const int32_t> indices;  // block columns
};
Result<SparseLayout> block_sparse(const BlockSparse& matrix);

/// Which rows and heads share a list of keys.
enum class GatherScope : uint8_t { request, query };

/// Rows see the keys whose indices a list holds, each as often as it stands there; a negative one is skipped.
struct Gather {
  std::span<const int32_t> qo_indptr;  // [batch + 1], of tokens of q
  int32_t num_kv_heads = 0;
  GatherScope scope = GatherScope::request;  // a list for each request, or for each token
  bool per_kv_head = false;                  // and for each kv head
  std::span<const int32_t> indices;          // [batch or tokens, num_kv_heads if per_kv_head, width]: rows of k
  int64_t width = 0;
  int64_t num_keys = 0;  // rows of k
};
Result<SparseLayout> gather(const Gather& keys);

}  // namespace lathe
