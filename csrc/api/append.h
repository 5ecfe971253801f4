// Appending to a cache: rotary embeddings, conversion to the cache's formats and the write into its pages, in one launch
// (csrc/spec/append_spec.h has the meaning, docs/kv-append.md the whole).
//
//   auto append = lathe::Append::prepare(engine, device, spec);
//   append->run(args, stream);                                  // one launch: capturable in a CUDA graph
#pragma once

#include <cstdint>
#include <memory>

#include "lathe/api/kv_scales.h"
#include "lathe/api/tensor.h"
#include "lathe/base/status.h"
#include "lathe/jit/engine.h"
#include "lathe/runtime/device.h"
#include "lathe/spec/append_spec.h"

namespace lathe {

/// Tensors of one run, in device memory of the kernel's device. A token that is padding (a negative slot or request) is neither
/// read nor written, its q included: so one captured launch serves up to as many tokens as it was captured with. Two tokens of one
/// launch must not have the same place. What slots, requests and positions name must exist: the kernel does not check it.
struct AppendArgs {
  Tensor q;      // [tokens, num_qo_heads, head_dim_qk]; with rope only, and left empty where no query is to be turned
  Tensor q_out;  // as q; may be q itself
  Tensor k;      // [tokens, num_kv_heads, head_dim_qk] of q_dtype
  Tensor v;      // [tokens, num_kv_heads, head_dim_vo] of q_dtype
  /// As AttentionArgs::k and v of a paged layout; joint: k_cache holds both and v_cache is left empty.
  Tensor k_cache, v_cache;
  /// As attention reads them: tables of tokens are written where tokens go, what else there is is read.
  KvScales k_scales, v_scales;

  const int64_t* slot_mapping = nullptr;   // device, [tokens]: page * page_size + place; place slots only
  const int32_t* batch_indices = nullptr;  // device, [tokens]: the token's request; place positions only
  const int32_t* positions = nullptr;      // device, [tokens]: in the request; place positions, or rope
  const int32_t* kv_indptr = nullptr;      // device, [batch + 1]: entries of kv_indices; place positions, index csr
  int64_t num_requests = 0;                // of kv_indptr or the block table
  const int32_t* kv_indices = nullptr;     // device: csr indices, or block_table [num_requests, block_table_stride]
  int64_t num_kv_indices = 0;              // its entries
  int32_t block_table_stride = 0;          // index table only

  /// f32 [max_position + 1, turned dimensions]: cosines, then as many sines, of each position (rope_table() makes it); rope only.
  /// Innermost stride 1, rows whole 16 bytes.
  Tensor cos_sin;
};

/// A prepared append kernel. Immutable; thread-safe.
class Append {
 public:
  /// spec.arch "host" or empty means: the device's own.
  static Result<Append> prepare(Engine& engine, std::shared_ptr<Device> device, AppendSpec spec);
  const AppendSpec& spec() const { return spec_; }
  const Kernel& kernel() const { return *kernel_; }
  /// Every problem of `args` at once, or one launch; none without tokens.
  Status run(const AppendArgs& args, Stream stream) const;

 private:
  Append() = default;
  AppendSpec spec_;
  std::shared_ptr<Device> device_;
  KernelPtr kernel_;
};

/// What is compiled for a spec.
Result<KernelRequest> append_request(const AppendSpec& spec);

}  // namespace lathe
