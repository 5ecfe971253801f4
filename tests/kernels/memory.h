// Device memory with guards on both sides, and the layout of a batch in such memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lathe/api/attention.h"
#include "lathe/oracle/attention.h"
#include "lathe/proof/batch_values.h"
#include "lathe/proof/hook_values.h"
#include "lathe/proof/scale_image.h"
#include "lathe/runtime/device.h"

namespace lathe::testing {

/// Device memory between two guard zones that nobody may write. Waits for its copies.
class GuardedBuffer {
 public:
  /// Holds `content`; the guards hold 0xA5.
  static Result<GuardedBuffer> make(std::shared_ptr<Device> device, std::span<const std::byte> content);

  std::byte* data() const { return memory_.get() + kGuard; }
  size_t size() const { return size_; }
  Status write(std::span<const std::byte> content) const;  // of size() bytes
  Result<Bytes> read() const;
  /// Empty, or which guard byte was written.
  Result<std::string> damage() const;

 private:
  static constexpr size_t kGuard = 1024;
  std::shared_ptr<Device> device_;
  std::shared_ptr<std::byte> memory_;
  size_t size_ = 0;
};

/// A tensor of `shape`; when padded, rows of every dimension but the innermost are a few steps of `row_step` elements further apart
/// than they need be.
Tensor make_tensor(std::initializer_list<int64_t> shape, int64_t row_step, bool padded);

/// The bytes of elements that are kept in 16 bits each.
Bytes device_bytes(DType dtype, std::span<const uint16_t> elements);

/// The first `pages` pages of `request` are those of `other`, an earlier request with the same keys and values there.
struct SharedPages {
  int32_t request = 0, other = 0, pages = 0;
};

/// How a batch lies in memory, besides what the spec says of it.
struct Placement {
  uint64_t seed = 0;      // of the permutation of pages
  bool padded = false;    // strides longer than they need be
  bool check_ids = true;  // hand the page ids to plan() as well
  bool know_all = false;  // hand every tensor that a mask reads to plan(), not just some

  // Paged layouts.
  std::vector<SharedPages> shared;
  /// csr: taken out of their requests' tables, in this order, and handed to plan() as prefixes; kv_len is a multiple of the page
  /// size, kv_begin is found here. The oracle sees whole tables.
  std::vector<SharedPrefix> prefixes;
};

/// Makes the first keys and values of requests what Placement::shared says of them.
void share_values(const AttentionSpec& spec, std::span<const SharedPages> shared, Batch& batch);

/// A batch laid out as `spec` asks: images of the device's memory, the API's descriptions of it (with null pointers), and the
/// oracle's. What no request owns (unused pages and slots, padding, rows past the end) is NaN in q, k and v, and kUntouched in o
/// and lse.
class BatchImage {
 public:
  BatchImage(const AttentionSpec& spec, const Batch& batch, const Placement& placement);
  BatchImage(const BatchImage&) = delete;
  BatchImage& operator=(const BatchImage&) = delete;

  static constexpr uint16_t kUntouched = 0x5a5a;

  std::vector<uint16_t> q, k, v, o;              // codes of 8 bits in 16 too, see device_bytes()
  std::optional<ScaleImage> k_scales, v_scales;  // always there
  std::vector<uint16_t> lse;                     // two patterns for each fp32
  std::vector<int32_t> kv_indices;
  std::vector<Bytes> hook_tensors;  // by place in spec.hooks.given()

  AttentionBatch batch() const;                 // spans of this object
  AttentionArgs args() const;                   // shapes and strides; pointers are null, and hook_tensors is left empty
  std::vector<HookTensor> hook_args() const;    // hook_tensors' shapes and strides; pointers are null
  oracle::AttentionInput oracle_input() const;  // views of this object

  /// Takes o out of its strides; adds to `problems` when anything else in `image` was written.
  std::vector<uint16_t> gather_o(std::span<const uint16_t> image, std::vector<std::string>& problems) const;

 private:
  void place_ragged(const Batch& batch);
  void place_paged(const Batch& batch, uint64_t seed);
  void take_out_prefixes();
  void place_hooks();
  void make_scales(const BatchValues& values, int64_t rows);
  std::vector<uint16_t> scatter(const std::vector<uint16_t>& dense, const Tensor& t, uint16_t filler) const;

  AttentionSpec spec_;
  BatchShape shape_;
  Placement placement_;
  std::vector<int32_t> qo_indptr_, kv_indptr_, last_page_len_, seq_lens_;
  std::vector<int32_t> whole_indptr_, whole_last_page_len_, whole_indices_;  // before prefixes were taken out
  int32_t block_table_stride_ = 0;
  int64_t num_pages_ = 0;
  Tensor tq_, tk_, tv_, to_, tlse_;
  DrawnHooks hooks_;
  std::vector<HookTensor> host_hook_tensors_;  // what the mask reads, in hook_tensors
};

}  // namespace lathe::testing
