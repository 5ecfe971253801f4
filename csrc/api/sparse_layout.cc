#include "lathe/api/sparse_layout.h"

#include <algorithm>
#include <array>
#include <string>
#include <tuple>
#include <utility>

#include "lathe/abi/attention.h"
#include "lathe/base/bytes.h"
#include "lathe/spec/expr/graph.h"

namespace lathe {
namespace {

constexpr size_t kListed = 8;                                                 // problems of one list
constexpr int64_t kMostRequests = INT32_MAX / sizeof(abi::AttentionRequest);  // of a plan, an image of so many bytes

std::string at(const char* name, size_t i) {
  return std::string(name) + "[" + std::to_string(i) + "]";
}

void check_least(const char* name, int64_t value, int64_t least, Problems& problems) {
  if (value < least || value > INT32_MAX)
    problems.add(name, "is " + std::to_string(value) + ", must be in " + std::to_string(least) + "..2^31 - 1");
}

// Starts at 0, never falls, and ends at `end`.
bool check_indptr(const char* name, std::span<const int32_t> indptr, int64_t entries, int64_t end, Problems& problems) {
  const size_t before = problems.size();
  if (static_cast<int64_t>(indptr.size()) != entries) {
    problems.add(name, "has " + std::to_string(indptr.size()) + " entries, must have " + std::to_string(entries));
    return false;
  }
  if (indptr[0] != 0) problems.add(at(name, 0), "is " + std::to_string(indptr[0]) + ", must be 0");
  for (size_t i = 1; i < indptr.size() && problems.size() < before + kListed; ++i) {
    if (indptr[i] < indptr[i - 1])
      problems.add(at(name, i), "is " + std::to_string(indptr[i]) + ", less than the one before; must not fall");
  }
  if (end >= 0 && indptr.back() != end)
    problems.add(at(name, indptr.size() - 1), "is " + std::to_string(indptr.back()) + ", must be " + std::to_string(end));
  return problems.size() == before;
}

// Rows (token, head) of a tensor [tokens, heads] or [tokens, heads, dim] as tokens of one head.
Status split_heads(const char* name, int rank, int64_t heads, Tensor& t) {
  if (t.rank != rank || t.shape[1] % heads != 0)
    return invalid_argument(name,
                            "must have " + std::to_string(rank) + " dimensions, the second a multiple of " + std::to_string(heads));
  const int64_t group = t.shape[1] / heads;
  if (t.shape[0] > 1 && t.stride[0] != t.shape[1] * t.stride[1]) {
    return invalid_argument(name, "has strides " + std::to_string(t.stride[0]) + " and " + std::to_string(t.stride[1]) +
                                      " of tokens and heads; where heads have keys of their own, the first must be " +
                                      std::to_string(t.shape[1]) + " times the second");
  }
  t.shape[0] *= heads, t.shape[1] = group;
  t.stride[0] = group * t.stride[1];
  return {};
}

// Keys [keys, ...] as pages [keys / page_size, page_size, ...].
void split_pages(int64_t page_size, Tensor& t) {
  std::copy_backward(t.shape.begin() + 1, t.shape.begin() + t.rank, t.shape.begin() + t.rank + 1);
  std::copy_backward(t.stride.begin(), t.stride.begin() + t.rank, t.stride.begin() + t.rank + 1);
  t.shape[1] = page_size;
  t.shape[0] /= page_size;
  t.stride[0] *= page_size;
  ++t.rank;
}

// What a hook may not ask for where heads became requests: each would be another's.
constexpr std::array kOfWholeHeads{expr::Input::b,   expr::Input::h,    expr::Input::hk,    expr::Input::q,
                                   expr::Input::tok, expr::Input::slot, expr::Input::qo_len};

void check_hooks_of_heads(const expr::Hooks& hooks, Problems& problems) {
  const std::vector<bool> used = expr::reachable(hooks.graph, hooks.roots);
  for (const expr::Input input : kOfWholeHeads) {
    for (expr::Id id = 0; id < hooks.graph.size(); ++id) {
      const expr::Node& node = hooks.graph[id];
      if (!used[id] || node.op != expr::Op::input || static_cast<expr::Input>(node.value) != input) continue;
      problems.add("hooks", std::string("ask for ") + expr::info(input).text +
                                ", which is another where each kv head has keys of its own; allowed there: hooks that do not");
      break;
    }
  }
}

// Block columns of one block row: there, and each once.
void check_block_row(const BlockSparse& matrix, size_t row, int64_t columns, Problems& problems) {
  std::vector<std::pair<int32_t, size_t>> sorted;  // with their places; memory goes with the list, not with the matrix
  for (auto i = static_cast<size_t>(matrix.indptr[row]); i < static_cast<size_t>(matrix.indptr[row + 1]); ++i) {
    const int32_t column = matrix.indices[i];
    if (column >= 0 && column < columns) {
      sorted.emplace_back(column, i);
    } else if (problems.size() < kListed) {
      problems.add(at("indices", i), "is " + std::to_string(column) + ", must be in 0.." + std::to_string(columns - 1));
    }
  }
  std::ranges::sort(sorted);
  for (size_t n = 1; n < sorted.size() && problems.size() < kListed; ++n) {
    const auto [column, place] = sorted[n];
    if (sorted[n - 1].first == column)
      problems.add(at("indices", place),
                   "is " + std::to_string(column) + " again in block row " + std::to_string(row) + "; each may be there once");
  }
}

// The keys of a list, as pages of head `head` of `heads` that lie apart.
void append_list(std::span<const int32_t> list, int64_t head, int64_t heads, SparseLayout& out) {
  for (const int32_t key : list)
    if (key >= 0) out.kv_indices.push_back(static_cast<int32_t>(key * heads + head));
  out.kv_indptr.push_back(static_cast<int32_t>(out.kv_indices.size()));
  out.last_page_len.push_back(1);
}

}  // namespace

AttentionBatch SparseLayout::batch() const {
  AttentionBatch out;
  out.qo_indptr = qo_indptr;
  out.kv_indptr = kv_indptr;
  out.last_page_len = last_page_len;
  out.kv_indices = kv_indices;
  out.num_pages = num_pages;
  out.share_prefixes = false;
  return out;
}

Status SparseLayout::check(const AttentionSpec& spec) const {
  Problems problems;
  LayoutSpec layout;  // paged NHD, separate, csr
  layout.page_size = page_size;
  if (spec.layout != layout)
    problems.add("layout", "must be paged(" + std::to_string(page_size) + ", NHD, csr) with separate keys and values");
  if (spec.mask != Mask::none) problems.add("mask", "must be none: positions mean nothing among chosen keys");
  if (heads_apart > 1) {
    check_hooks_of_heads(spec.hooks.canonical(), problems);
    for (const auto& [name, scale, zero] : {std::tuple{"kscale", spec.kscale, spec.kzero}, {"vscale", spec.vscale, spec.vzero}}) {
      if (scale != KvScale::none || zero != KvZero::none)
        problems.add(name, "must be none, without zero-points, where each kv head has keys of its own");
    }
  }
  return problems.status();
}

Status SparseLayout::view(const AttentionSpec& spec, AttentionArgs& args) const {
  LATHE_TRY(check(spec));
  AttentionArgs out = args;
  for (Tensor* table :
       {&out.k_scales.token_scale, &out.v_scales.token_scale, spec.kzero == KvZero::token ? &out.k_scales.zero : nullptr,
        spec.vzero == KvZero::token ? &out.v_scales.zero : nullptr}) {
    if (table != nullptr && table->rank == 2) split_pages(page_size, *table);
  }
  for (const auto& [name, tensor] : {std::pair{"k", &out.k}, {"v", &out.v}}) {
    if (tensor->rank != 3)
      return invalid_argument(name, "has rank " + std::to_string(tensor->rank) + ", must have 3: [keys, num_kv_heads, head_dim]");
    if (const int64_t keys = num_pages * page_size / heads_apart; tensor->shape[0] != keys)
      return invalid_argument(name,
                              "has " + std::to_string(tensor->shape[0]) + " rows, the layout was made for " + std::to_string(keys));
    if (heads_apart > 1) LATHE_TRY(split_heads(name, 3, heads_apart, *tensor));
    split_pages(page_size, *tensor);
  }
  if (heads_apart > 1) {
    LATHE_TRY(split_heads("q", 3, heads_apart, out.q));
    LATHE_TRY(split_heads("o", 3, heads_apart, out.o));
    if (out.lse.rank != 0) LATHE_TRY(split_heads("lse", 2, heads_apart, out.lse));
  }
  out.num_kv_indices = static_cast<int64_t>(kv_indices.size());
  args = out;
  return {};
}

Result<SparseLayout> block_sparse(const BlockSparse& matrix) {
  Problems problems;
  check_least("rows", matrix.rows, 0, problems);
  check_least("columns", matrix.columns, 0, problems);
  check_least("block_rows", matrix.block_rows, 1, problems);
  check_least("block_columns", matrix.block_columns, 1, problems);
  check_least("num_kv_heads", matrix.num_kv_heads, 1, problems);
  if (!problems.empty()) return problems.status();
  const int64_t block_rows = ceil_div<int64_t>(matrix.rows, matrix.block_rows), columns = matrix.columns / matrix.block_columns;
  if (matrix.columns % matrix.block_columns != 0)
    problems.add("columns", "is " + std::to_string(matrix.columns) + ", must be a multiple of block_columns " +
                                std::to_string(matrix.block_columns) + ": pad k and v, and hide what was added by a hook mask");
  if (check_indptr("indptr", matrix.indptr, block_rows + 1, static_cast<int64_t>(matrix.indices.size()), problems)) {
    for (int64_t row = 0; row < block_rows; ++row) check_block_row(matrix, static_cast<size_t>(row), columns, problems);
  }
  if (!problems.empty()) return problems.status();

  SparseLayout out;
  out.page_size = matrix.block_columns;
  out.num_kv_heads = matrix.num_kv_heads;
  out.num_pages = columns;
  for (int64_t row = 0; row <= block_rows; ++row)
    out.qo_indptr.push_back(static_cast<int32_t>(std::min(row * matrix.block_rows, matrix.rows)));
  out.kv_indptr.assign(matrix.indptr.begin(), matrix.indptr.end());
  out.kv_indices.assign(matrix.indices.begin(), matrix.indices.end());
  out.last_page_len.assign(static_cast<size_t>(block_rows), matrix.block_columns);
  return out;
}

Result<SparseLayout> gather(const Gather& keys) {
  Problems problems;
  check_least("num_kv_heads", keys.num_kv_heads, 1, problems);
  check_least("width", keys.width, 0, problems);
  check_least("num_keys", keys.num_keys, 0, problems);
  if (keys.qo_indptr.empty()) problems.add("qo_indptr", "has no entry, must have batch + 1");
  if (!problems.empty()) return problems.status();
  check_indptr("qo_indptr", keys.qo_indptr, static_cast<int64_t>(keys.qo_indptr.size()), -1, problems);
  if (!problems.empty()) return problems.status();

  const bool of_query = keys.scope == GatherScope::query;
  const int64_t batch = static_cast<int64_t>(keys.qo_indptr.size()) - 1, tokens = keys.qo_indptr.back();
  const int64_t heads = keys.per_kv_head ? keys.num_kv_heads : 1, lists = (of_query ? tokens : batch) * heads;
  const int64_t requests = of_query || keys.per_kv_head ? tokens * heads : batch;
  const auto listed = checked_mul(lists, keys.width), chosen = checked_mul(requests, keys.width);
  if (!listed || static_cast<int64_t>(keys.indices.size()) != *listed)
    problems.add("indices", "has " + std::to_string(keys.indices.size()) + " entries, must have " + std::to_string(lists) +
                                " lists of " + std::to_string(keys.width));
  if (keys.num_keys * heads > INT32_MAX)
    problems.add("num_keys",
                 "is " + std::to_string(keys.num_keys) + ", times num_kv_heads " + std::to_string(heads) + " past 2^31 - 1");
  // Before lists are made of them that no plan can hold.
  if (requests > kMostRequests)
    problems.add("qo_indptr", "makes " + std::to_string(requests) + " lists; a plan holds " + std::to_string(kMostRequests));
  if (!chosen || *chosen > INT32_MAX)
    problems.add("indices",
                 "become " + std::to_string(requests) + " lists of " + std::to_string(keys.width) + " keys, past 2^31 - 1 in all");
  for (size_t i = 0; i < keys.indices.size() && problems.size() < kListed; ++i) {
    if (keys.indices[i] >= keys.num_keys)
      problems.add(at("indices", i), "is " + std::to_string(keys.indices[i]) + ", must be below " + std::to_string(keys.num_keys));
  }
  if (!problems.empty()) return problems.status();

  SparseLayout out;
  out.num_kv_heads = keys.per_kv_head ? 1 : keys.num_kv_heads;
  out.heads_apart = static_cast<int32_t>(heads);
  out.num_pages = keys.num_keys * heads;
  out.qo_indptr = {0}, out.kv_indptr = {0};
  // `rows` rows, or each head's own of one row, see list `list`.
  const auto add = [&](int64_t list, int32_t rows) {
    for (int64_t head = 0; head < heads; ++head) {
      const auto first = static_cast<size_t>((list * heads + head) * keys.width);
      append_list(keys.indices.subspan(first, static_cast<size_t>(keys.width)), head, heads, out);
      out.qo_indptr.push_back(out.qo_indptr.back() + rows);
    }
  };
  for (int64_t b = 0; b < batch; ++b) {
    const int32_t begin = keys.qo_indptr[static_cast<size_t>(b)], end = keys.qo_indptr[static_cast<size_t>(b) + 1];
    if (!of_query && !keys.per_kv_head) {
      add(b, end - begin);
      continue;
    }
    // The rows of one head do not lie next to each other: each is a request of its own.
    for (int32_t token = begin; token < end; ++token) add(of_query ? token : b, 1);
  }
  return out;
}

}  // namespace lathe
