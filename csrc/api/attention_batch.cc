// Checks of a batch's lengths and page bookkeeping.
#include <algorithm>
#include <string>

#include "attention_parts.h"
#include "hook_values.h"
#include "lathe/base/bytes.h"

namespace lathe {
namespace {

std::string at(const char* name, size_t i) {
  return std::string(name) + "[" + std::to_string(i) + "]";
}

// At most this many problems of one array are listed; the rest would say the same.
constexpr size_t kListed = 8;

bool check_indptr(const char* name, std::span<const int32_t> indptr, size_t batch, Problems& problems) {
  if (indptr.size() != batch + 1) {
    problems.add(name, "has " + std::to_string(indptr.size()) + " entries, must have batch + 1 = " + std::to_string(batch + 1));
    return false;
  }
  const size_t before = problems.size();
  if (indptr[0] != 0) problems.add(at(name, 0), "is " + std::to_string(indptr[0]) + ", must be 0");
  for (size_t i = 0; i < batch && problems.size() < before + kListed; ++i) {
    if (indptr[i + 1] < indptr[i]) {
      problems.add(at(name, i + 1), "is " + std::to_string(indptr[i + 1]) + ", less than " + at(name, i) + " = " +
                                        std::to_string(indptr[i]) + "; must not fall");
    }
  }
  return problems.size() == before;
}

bool check_size(const char* name, size_t given, size_t batch, Problems& problems) {
  if (given == batch) return true;
  problems.add(name, "has " + std::to_string(given) + " entries, must have one per request: " + std::to_string(batch));
  return false;
}

void read_ragged(const AttentionBatch& batch, size_t size, BatchLengths& out, Problems& problems) {
  if (!check_indptr("kv_indptr", batch.kv_indptr, size, problems)) return;
  for (size_t i = 0; i < size; ++i) {
    out.kv_begin[i] = batch.kv_indptr[i];
    out.kv_lens[i] = batch.kv_indptr[i + 1] - batch.kv_indptr[i];
  }
  out.kv_entries = batch.kv_indptr[size];
}

void read_csr(const AttentionBatch& batch, int64_t page_size, size_t size, BatchLengths& out, Problems& problems) {
  if (!check_indptr("kv_indptr", batch.kv_indptr, size, problems)) return;
  if (!check_size("last_page_len", batch.last_page_len.size(), size, problems)) return;
  for (size_t i = 0; i < size && problems.size() < kListed; ++i) {
    const int64_t pages = batch.kv_indptr[i + 1] - batch.kv_indptr[i];
    const int64_t last = batch.last_page_len[i];
    if (pages > 0 && (last < 1 || last > page_size)) {
      problems.add(at("last_page_len", i), "is " + std::to_string(last) + ", must be in 1.." + std::to_string(page_size));
      continue;
    }
    const int64_t tokens = pages > 0 ? (pages - 1) * page_size + last : 0;
    if (tokens > INT32_MAX) {
      problems.add(at("kv_indptr", i), "gives the request " + std::to_string(tokens) + " tokens, past 2^31 - 1");
      continue;
    }
    out.kv_begin[i] = batch.kv_indptr[i];
    out.kv_lens[i] = static_cast<int32_t>(tokens);
  }
  out.kv_entries = batch.kv_indptr[size];
}

void read_table(const AttentionBatch& batch, int64_t page_size, size_t size, BatchLengths& out, Problems& problems) {
  if (!check_size("seq_lens", batch.seq_lens.size(), size, problems)) return;
  const int64_t stride = batch.block_table_stride;
  if (stride < 0 || static_cast<int64_t>(size) * stride > INT32_MAX) {
    problems.add("block_table_stride", "is " + std::to_string(stride) + ", must be >= 0 with batch * stride below 2^31");
    return;
  }
  for (size_t i = 0; i < size && problems.size() < kListed; ++i) {
    const int64_t tokens = batch.seq_lens[i];
    if (tokens < 0 || ceil_div(tokens, page_size) > stride) {
      problems.add(at("seq_lens", i), "is " + std::to_string(tokens) + ", must be in 0.." + std::to_string(stride * page_size) +
                                          " (block_table_stride * page_size)");
      continue;
    }
    out.kv_begin[i] = static_cast<int32_t>(static_cast<int64_t>(i) * stride);
    out.kv_lens[i] = batch.seq_lens[i];
  }
  out.kv_entries = static_cast<int64_t>(size) * stride;
}

// With a host copy of the page ids every id in use is checked: the device never does that (see docs/errors.md).
void check_page_ids(const AttentionBatch& batch, int64_t page_size, const BatchLengths& lengths, Problems& problems) {
  if (static_cast<int64_t>(batch.kv_indices.size()) < lengths.kv_entries) {
    problems.add("kv_indices", "has " + std::to_string(batch.kv_indices.size()) + " entries, the batch needs " +
                                   std::to_string(lengths.kv_entries));
    return;
  }
  const auto check = [&](const char* whose, size_t i, int64_t begin, int64_t tokens) {
    const int64_t end = begin + ceil_div<int64_t>(tokens, page_size);
    for (int64_t entry = begin; entry < end; ++entry) {
      const int32_t id = batch.kv_indices[static_cast<size_t>(entry)];
      if (id >= 0 && id < batch.num_pages) continue;
      problems.add(at("kv_indices", static_cast<size_t>(entry)), "is page " + std::to_string(id) + " (" + whose + " " +
                                                                     std::to_string(i) + "), must be in 0.." +
                                                                     std::to_string(batch.num_pages - 1));
      break;
    }
  };
  for (size_t i = 0; i < lengths.kv_lens.size() && problems.size() < kListed; ++i)
    check("request", i, lengths.kv_begin[i], lengths.kv_lens[i]);
  for (size_t i = 0; i < batch.prefixes.size() && problems.size() < kListed; ++i)
    check("prefix", i, batch.prefixes[i].kv_begin, batch.prefixes[i].kv_len);
}

// The entries that prefixes take; whether they are right otherwise is the planner's to say.
void read_prefixes(const AttentionSpec& spec, const AttentionBatch& batch, BatchLengths& out, Problems& problems) {
  const int64_t page_size = spec.layout.kind == LayoutKind::paged ? spec.layout.page_size : 1;
  for (size_t i = 0; i < batch.prefixes.size() && problems.size() < kListed; ++i) {
    const SharedPrefix& prefix = batch.prefixes[i];
    if (prefix.kv_begin < 0 || prefix.kv_len < 0) {
      problems.add(at("prefixes", i), "begins at " + std::to_string(prefix.kv_begin) + " and has " + std::to_string(prefix.kv_len) +
                                          " keys, neither may be negative");
      continue;
    }
    out.kv_entries = std::max(out.kv_entries, prefix.kv_begin + ceil_div<int64_t>(prefix.kv_len, page_size));
  }
}

// Lengths that proofs about hooks rest on (csrc/spec/expr/hooks.h).
constexpr int64_t kMaxHookLength = int64_t{1} << 24;

void read_hooks(const AttentionSpec& spec, const AttentionBatch& batch, int32_t num_kv_heads, BatchLengths& out,
                Problems& problems) {
  if (!skips_tiles(spec)) {
    if (!batch.hook_params.empty() || !batch.hook_tensors.empty())
      problems.add("hook_params", "and hook_tensors of a batch are of a mask, but the spec's hooks have none; give them to run()");
    return;
  }
  out.hook_params = read_hook_params(spec.hooks, "hook_params", batch.hook_params, true, problems);
  const std::vector<expr::Param>& params = spec.hooks.canonical().params;
  for (uint32_t slot : mask_params(spec.hooks.canonical())) {
    if (std::ranges::none_of(batch.hook_params, [&](const HookParam& p) { return p.name == params[slot].name; }))
      problems.add("hook_params." + params[slot].name, "is missing; the mask depends on it");
  }
  AttentionBounds most;
  bound_hooks(spec, batch, out, most);
  HookExtents extents;
  extents.batch = static_cast<int64_t>(out.kv_lens.size());
  extents.kv_heads = num_kv_heads;
  extents.qo_heads = int64_t{num_kv_heads} * spec.group_size;
  extents.tokens = batch.qo_indptr.back();
  extents.qo_len = most.max_qo_len;
  extents.kv_len = most.max_kv_len;
  out.hook_tensors = summarise(spec.hooks, batch.hook_tensors, out.hook_params, extents, problems);
}

void check_hook_lengths(const AttentionSpec& spec, const AttentionBatch& batch, const BatchLengths& lengths, Problems& problems) {
  if (spec.hooks.empty()) return;
  for (size_t i = 0; i < lengths.kv_lens.size() && problems.size() < kListed; ++i) {
    const int64_t rows = batch.qo_indptr[i + 1] - batch.qo_indptr[i], keys = lengths.kv_lens[i];
    if (rows > kMaxHookLength || keys > kMaxHookLength)
      problems.add(at("request", i), "has " + std::to_string(rows) + " rows and " + std::to_string(keys) +
                                         " keys; with hooks neither may pass " + std::to_string(kMaxHookLength));
  }
}

}  // namespace

void bound_hooks(const AttentionSpec& spec, const AttentionBatch& batch, const BatchLengths& lengths, AttentionBounds& bounds) {
  bounds.max_kv_len = bounds.max_qo_len = 1;  // 0 would say that they are not known
  for (size_t i = 0; i < lengths.kv_lens.size(); ++i) {
    bounds.max_kv_len = std::max<int64_t>(bounds.max_kv_len, lengths.kv_lens[i]);
    bounds.max_qo_len = std::max<int64_t>(bounds.max_qo_len, batch.qo_indptr[i + 1] - batch.qo_indptr[i]);
  }
  if (skips_tiles(spec)) bounds.hook_params.assign(batch.hook_params.begin(), batch.hook_params.end());
}

Status read_batch(const AttentionSpec& spec, const AttentionBatch& batch, int32_t num_kv_heads, BatchLengths& out) {
  Problems problems;
  if (batch.qo_indptr.empty()) return invalid_argument("qo_indptr", "is empty, must have batch + 1 entries");
  const size_t size = batch.qo_indptr.size() - 1;
  if (size > INT32_MAX / 2) return invalid_argument("qo_indptr", "has " + std::to_string(size + 1) + " entries, too many");
  check_indptr("qo_indptr", batch.qo_indptr, size, problems);
  if (spec.windowed() && batch.window < 1) problems.add("window", "is " + std::to_string(batch.window) + ", must be >= 1");
  if (!spec.windowed() && batch.window != 0) {
    problems.add("window",
                 "is " + std::to_string(batch.window) + ", but the spec's mask (" + name_of(spec.mask) + ") has no window");
  }

  out.kv_lens.resize(size);
  out.kv_begin.resize(size);
  out.kv_entries = 0;
  const int64_t page_size = spec.layout.page_size;
  if (spec.layout.kind == LayoutKind::ragged) {
    read_ragged(batch, size, out, problems);
  } else {
    if (spec.layout.index == PageIndex::csr) {
      read_csr(batch, page_size, size, out, problems);
    } else {
      read_table(batch, page_size, size, out, problems);
    }
  }
  if (problems.empty()) check_hook_lengths(spec, batch, out, problems);
  if (problems.empty()) read_hooks(spec, batch, num_kv_heads, out, problems);
  read_prefixes(spec, batch, out, problems);
  if (spec.layout.kind == LayoutKind::paged && problems.empty() && !batch.kv_indices.empty())
    check_page_ids(batch, page_size, out, problems);
  return problems.status();
}

}  // namespace lathe
