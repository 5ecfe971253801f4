#include "lathe/proof/memory.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>

#include "lathe/oracle/float16.h"

namespace lathe::testing {
namespace {

constexpr std::byte kGuardByte{0xA5};

// Elements from the first to past the last of a tensor.
size_t extent(const Tensor& t) {
  size_t last = 0;
  for (int i = 0; i < t.rank; ++i) {
    if (t.shape[static_cast<size_t>(i)] == 0) return 0;
    last += static_cast<size_t>((t.shape[static_cast<size_t>(i)] - 1) * t.stride[static_cast<size_t>(i)]);
  }
  return last + 1;
}

int64_t row_step(DType dtype) {
  return static_cast<int64_t>(16 / bytes_of(dtype));
}

oracle::View view(const std::vector<uint16_t>& image, const Tensor& t) {
  return {image.data(), t.stride};
}

}  // namespace

Tensor make_tensor(std::initializer_list<int64_t> shape, int64_t row_step, bool padded) {
  Tensor t = Tensor::contiguous(nullptr, shape);
  if (!padded) return t;
  int64_t step = 1;
  for (int i = t.rank - 1; i >= 0; --i) {
    const auto at = static_cast<size_t>(i);
    t.stride[at] = step;
    step *= t.shape[at];
    step += row_step * (1 + i % 3);
  }
  return t;
}

Bytes device_bytes(DType dtype, std::span<const uint16_t> elements) {
  Bytes out(elements.size() * bytes_of(dtype));
  if (is_code(dtype)) {
    std::ranges::transform(elements, out.begin(), [](uint16_t code) { return static_cast<std::byte>(code); });
  } else if (!out.empty()) {
    std::memcpy(out.data(), elements.data(), out.size());
  }
  return out;
}

Result<GuardedBuffer> GuardedBuffer::make(std::shared_ptr<Device> device, std::span<const std::byte> content) {
  GuardedBuffer out;
  out.size_ = content.size();
  auto memory = device->allocate(content.size() + 2 * kGuard);
  LATHE_TRY(memory);
  out.device_ = std::move(device);
  out.memory_ = *memory;
  LATHE_TRY(out.device_->fill(out.memory_.get(), static_cast<uint8_t>(kGuardByte), out.size_ + 2 * kGuard, nullptr));
  LATHE_TRY(out.write(content));
  return out;
}

Status GuardedBuffer::write(std::span<const std::byte> content) const {
  if (!content.empty()) LATHE_TRY(device_->copy_in(data(), content.data(), content.size(), nullptr));
  return device_->synchronize(nullptr);
}

Result<Bytes> GuardedBuffer::read() const {
  Bytes out(size_);
  if (size_ != 0) LATHE_TRY(device_->copy_out(out.data(), data(), size_, nullptr));
  LATHE_TRY(device_->synchronize(nullptr));
  return out;
}

Result<std::string> GuardedBuffer::damage() const {
  Bytes all(size_ + 2 * kGuard);
  LATHE_TRY(device_->copy_out(all.data(), memory_.get(), all.size(), nullptr));
  LATHE_TRY(device_->synchronize(nullptr));
  for (size_t i = 0; i < all.size(); ++i) {
    if (i == kGuard) i += size_;
    if (i >= all.size() || all[i] == kGuardByte) continue;
    return "byte " + std::to_string(static_cast<int64_t>(i) - static_cast<int64_t>(kGuard)) + " of a buffer of " +
           std::to_string(size_) + " bytes was written";
  }
  return std::string();
}

BatchImage::BatchImage(const AttentionSpec& spec, const Batch& batch, const Placement& placement)
    : spec_(spec), shape_(batch.shape), placement_(placement) {
  constexpr int64_t kSpareRows = 2;
  const int64_t heads = shape_.num_kv_heads * spec.group_size, tokens = shape_.qo_tokens() + kSpareRows;
  qo_indptr_ = indptr(shape_.qo_lens);
  tq_ = make_tensor({tokens, heads, spec.head_dim_qk}, row_step(spec.q_dtype), placement.padded);
  to_ = make_tensor({tokens, heads, spec.head_dim_vo}, row_step(spec.o_dtype), placement.padded);
  q = scatter(batch.values.q, tq_, oracle::nan_pattern(spec.q_dtype));
  o.assign(extent(to_), kUntouched);
  if (spec.lse != LseOut::none) {
    tlse_ = Tensor::contiguous(nullptr, {tokens, heads});
    lse.assign(2 * extent(tlse_), kUntouched);
  }
  if (spec.layout.kind == LayoutKind::ragged) {
    place_ragged(batch);
  } else {
    place_paged(batch, placement.seed);
    if (!placement_.prefixes.empty()) take_out_prefixes();
  }
  if (!spec.hooks.empty()) place_hooks();
}

// The image of `t` whose first rows are `dense`.
std::vector<uint16_t> BatchImage::scatter(const std::vector<uint16_t>& dense, const Tensor& t, uint16_t filler) const {
  std::vector<uint16_t> image(extent(t), filler);
  const auto heads = static_cast<size_t>(t.shape[1]), dim = static_cast<size_t>(t.shape[2]);
  for (size_t row = 0; row * dim < dense.size(); ++row) {
    const auto at = static_cast<int64_t>(row / heads) * t.stride[0] + static_cast<int64_t>(row % heads) * t.stride[1];
    std::copy_n(dense.begin() + static_cast<int64_t>(row * dim), dim, image.begin() + at);
  }
  return image;
}

void BatchImage::place_ragged(const Batch& batch) {
  const int64_t tokens = shape_.kv_tokens() + 1;  // the row past the end is nobody's
  kv_indptr_ = indptr(shape_.kv_lens);
  tk_ = make_tensor({tokens, shape_.num_kv_heads, spec_.head_dim_qk}, row_step(spec_.kfmt), placement_.padded);
  tv_ = make_tensor({tokens, shape_.num_kv_heads, spec_.head_dim_vo}, row_step(spec_.vfmt), placement_.padded);
  k = scatter(batch.values.k, tk_, oracle::nan_pattern(spec_.kfmt));
  v = scatter(batch.values.v, tv_, oracle::nan_pattern(spec_.vfmt));
  make_scales(batch.values, tokens);
  for (int64_t token = 0; token < shape_.kv_tokens(); ++token) {
    k_scales->place(batch.values.k_scales, token, 0, token);
    v_scales->place(batch.values.v_scales, token, 0, token);
  }
}

void BatchImage::make_scales(const BatchValues& values, int64_t rows) {
  k_scales.emplace(spec_, true, values.k_scales, shape_.num_kv_heads, rows, placement_.padded);
  v_scales.emplace(spec_, false, values.v_scales, shape_.num_kv_heads, rows, placement_.padded);
}

void BatchImage::place_paged(const Batch& batch, uint64_t seed) {
  const LayoutSpec& layout = spec_.layout;
  const int64_t size = layout.page_size, heads = shape_.num_kv_heads;
  const bool joint = layout.storage == KvStorage::joint, nhd = layout.order == PageOrder::nhd, csr = layout.index == PageIndex::csr;
  std::vector<int32_t> pages;  // of each request
  for (int32_t n : shape_.kv_lens) pages.push_back(static_cast<int32_t>(ceil_div<int64_t>(n, size)));
  const int64_t used = std::accumulate(pages.begin(), pages.end(), int64_t{0});
  num_pages_ = used + 3;
  std::vector<int32_t> ids(static_cast<size_t>(num_pages_));
  std::iota(ids.begin(), ids.end(), 0);
  std::mt19937_64 rng(seed);
  std::shuffle(ids.begin(), ids.end(), rng);

  const int64_t first = nhd ? size : heads, second = nhd ? heads : size;
  if (joint) {
    tk_ = make_tensor({num_pages_, 2, first, second, spec_.head_dim_qk}, row_step(spec_.kfmt), placement_.padded);
  } else {
    tk_ = make_tensor({num_pages_, first, second, spec_.head_dim_qk}, row_step(spec_.kfmt), placement_.padded);
    tv_ = make_tensor({num_pages_, first, second, spec_.head_dim_vo}, row_step(spec_.vfmt), placement_.padded);
  }
  k.assign(extent(tk_), oracle::nan_pattern(spec_.kfmt));
  v.assign(extent(tv_), oracle::nan_pattern(spec_.vfmt));
  make_scales(batch.values, num_pages_);

  kv_indptr_ = indptr(pages);
  const int32_t most = pages.empty() ? 0 : *std::max_element(pages.begin(), pages.end());
  block_table_stride_ = csr ? 0 : most + 1;
  // Entries that no request uses hold no page.
  kv_indices.assign(csr ? static_cast<size_t>(used) + 1 : shape_.batch() * static_cast<size_t>(block_table_stride_), INT32_MIN);
  int64_t token = 0;
  auto next_id = ids.begin();
  const auto page_of = [&](size_t b, int64_t i) {
    for (const SharedPages& shared : placement_.shared) {
      if (shared.request != static_cast<int32_t>(b) || i >= shared.pages) continue;
      return kv_indices[static_cast<size_t>((csr ? kv_indptr_[shared.other] : shared.other * block_table_stride_) + i)];
    }
    return *next_id++;
  };
  for (size_t b = 0; b < shape_.batch(); ++b) {
    const int64_t entries = csr ? kv_indptr_[b] : static_cast<int64_t>(b) * block_table_stride_;
    for (int64_t j = 0; j < shape_.kv_lens[b]; ++j, ++token) {
      if (j % size == 0) kv_indices[static_cast<size_t>(entries + j / size)] = page_of(b, j / size);
      const int64_t page = kv_indices[static_cast<size_t>(entries + j / size)], slot = j % size;
      k_scales->place(batch.values.k_scales, token, page, slot);
      v_scales->place(batch.values.v_scales, token, page, slot);
      for (int64_t h = 0; h < heads; ++h) {
        const int64_t i = nhd ? slot : h, l = nhd ? h : slot;
        const size_t inner = joint ? 2 : 1;  // the dimension of i
        const auto place = [&](const std::vector<uint16_t>& from, const Tensor& t, int64_t part, int64_t dim,
                               std::vector<uint16_t>& to) {
          const int64_t at = page * t.stride[0] + part * (joint ? t.stride[1] : 0) + i * t.stride[inner] + l * t.stride[inner + 1];
          std::copy_n(from.begin() + (token * heads + h) * dim, dim, to.begin() + at);
        };
        place(batch.values.k, tk_, 0, spec_.head_dim_qk, k);
        place(batch.values.v, joint ? tk_ : tv_, joint ? 1 : 0, spec_.head_dim_vo, joint ? k : v);
      }
    }
    // A request without pages has no last page: whatever stands there is ignored.
    last_page_len_.push_back(pages[b] == 0 ? -7 : static_cast<int32_t>((shape_.kv_lens[b] - 1) % size + 1));
    seq_lens_.push_back(shape_.kv_lens[b]);
  }
}

void BatchImage::place_hooks() {
  const auto most = [](const std::vector<int32_t>& lens) {
    return lens.empty() ? int64_t{0} : int64_t{*std::max_element(lens.begin(), lens.end())};
  };
  const int64_t pages = tk_.shape[0], page_size = spec_.layout.kind == LayoutKind::paged ? spec_.layout.page_size : 1;
  std::mt19937_64 rng(placement_.seed);
  hooks_ = draw_hooks(spec_.hooks,
                      {.batch = static_cast<int64_t>(shape_.batch()),
                       .qo_heads = int64_t{shape_.num_kv_heads} * spec_.group_size,
                       .kv_heads = shape_.num_kv_heads,
                       .tokens = shape_.qo_tokens(),
                       .qo_len = most(shape_.qo_lens),
                       .kv_len = most(shape_.kv_lens),
                       .slots = pages * page_size,
                       .pages = pages,
                       .head_dim = std::max(spec_.head_dim_qk, spec_.head_dim_vo)},
                      rng);
  hook_tensors = hooks_.memory;
  const expr::Hooks& given = spec_.hooks.given();
  for (uint32_t tensor : mask_tensors(given)) {
    if (!placement_.know_all && rng() % 4 == 0) continue;  // not known to the planner
    host_hook_tensors_.push_back(hooks_.tensors[tensor]);
    host_hook_tensors_.back().tensor.data = hook_tensors[tensor].data();
  }
}

std::vector<HookTensor> BatchImage::hook_args() const {
  return hooks_.tensors;
}

void BatchImage::take_out_prefixes() {
  const int32_t size = spec_.layout.page_size;
  whole_indptr_ = kv_indptr_, whole_last_page_len_ = last_page_len_, whole_indices_ = kv_indices;
  std::vector<int32_t> own(kv_indptr_.begin(), kv_indptr_.end() - 1);  // first entry of each request that is not taken out
  std::vector<int32_t> prefix_entries;
  for (SharedPrefix& prefix : placement_.prefixes) {
    prefix.kv_begin = static_cast<int32_t>(prefix_entries.size());
    const int32_t pages = prefix.kv_len / size;
    const auto from = whole_indices_.begin() + own[prefix.first_request];
    prefix_entries.insert(prefix_entries.end(), from, from + pages);
    for (int32_t i = 0; i < prefix.num_requests; ++i) own[prefix.first_request + i] += pages;
  }
  kv_indices.clear();
  kv_indptr_.assign(1, 0);
  for (size_t b = 0; b < own.size(); ++b) {
    kv_indices.insert(kv_indices.end(), whole_indices_.begin() + own[b], whole_indices_.begin() + whole_indptr_[b + 1]);
    kv_indptr_.push_back(static_cast<int32_t>(kv_indices.size()));
    if (own[b] == whole_indptr_[b + 1]) last_page_len_[b] = -7;
  }
  for (SharedPrefix& prefix : placement_.prefixes) prefix.kv_begin += static_cast<int32_t>(kv_indices.size());
  kv_indices.insert(kv_indices.end(), prefix_entries.begin(), prefix_entries.end());
}

void share_values(const AttentionSpec& spec, std::span<const SharedPages> shared, Batch& batch) {
  const std::vector<int32_t> kv = indptr(batch.shape.kv_lens);
  for (const SharedPages& s : shared) {
    const int64_t tokens = int64_t{s.pages} * spec.layout.page_size;
    const auto copy = [&](auto& values, int64_t dim) {
      const int64_t width = batch.shape.num_kv_heads * dim;
      std::copy_n(values.begin() + kv[s.other] * width, tokens * width, values.begin() + kv[s.request] * width);
    };
    copy(batch.values.k, spec.head_dim_qk);
    copy(batch.values.v, spec.head_dim_vo);
    if (has_token_scale(spec.kscale)) copy(batch.values.k_scales.token_scale, 1);
    if (has_token_scale(spec.vscale)) copy(batch.values.v_scales.token_scale, 1);
    if (spec.kzero == KvZero::token) copy(batch.values.k_scales.zero, 1);
    if (spec.vzero == KvZero::token) copy(batch.values.v_scales.zero, 1);
  }
}

AttentionBatch BatchImage::batch() const {
  AttentionBatch out;
  out.qo_indptr = qo_indptr_;
  if (spec_.hooks.has(expr::Hook::mask)) out.hook_params = hooks_.params, out.hook_tensors = host_hook_tensors_;
  out.window = spec_.windowed() ? shape_.window : 0;
  if (spec_.layout.kind == LayoutKind::ragged) {
    out.kv_indptr = kv_indptr_;
    return out;
  }
  if (spec_.layout.index == PageIndex::csr) {
    out.kv_indptr = kv_indptr_;
    out.last_page_len = last_page_len_;
  } else {
    out.seq_lens = seq_lens_;
    out.block_table_stride = block_table_stride_;
  }
  if (placement_.check_ids) {
    out.kv_indices = kv_indices;
    out.num_pages = num_pages_;
  }
  out.prefixes = placement_.prefixes;
  return out;
}

AttentionArgs BatchImage::args() const {
  AttentionArgs out;
  out.q = tq_, out.k = tk_, out.v = tv_, out.o = to_, out.lse = tlse_;
  out.num_kv_indices = static_cast<int64_t>(kv_indices.size());
  out.sm_scale = shape_.sm_scale;
  out.hook_params = hooks_.params;
  out.k_scales = k_scales->args(), out.v_scales = v_scales->args();
  out.soft_cap = spec_.soft_cap ? shape_.soft_cap : 0;
  return out;
}

oracle::AttentionInput BatchImage::oracle_input() const {
  oracle::AttentionInput in;
  in.spec = spec_;
  in.num_kv_heads = shape_.num_kv_heads;
  in.qo_indptr = qo_indptr_;
  const bool whole = whole_indptr_.empty();  // no prefix was taken out
  in.kv_indptr = whole ? kv_indptr_ : whole_indptr_;
  in.last_page_len = whole ? last_page_len_ : whole_last_page_len_;
  in.seq_lens = seq_lens_;
  in.block_table_stride = block_table_stride_;
  in.kv_indices = whole ? kv_indices : whole_indices_;
  in.q = view(q, tq_), in.k = view(k, tk_), in.v = view(v, tv_);
  in.sm_scale = static_cast<double>(shape_.sm_scale);
  in.soft_cap = static_cast<double>(shape_.soft_cap);
  in.window = shape_.window;
  in.hooks = hooks_.values;
  in.k_scales = k_scales->views(), in.v_scales = v_scales->views();
  return in;
}

std::vector<uint16_t> BatchImage::gather_o(std::span<const uint16_t> image, std::vector<std::string>& problems) const {
  const int64_t tokens = shape_.qo_tokens(), heads = to_.shape[1], dim = to_.shape[2];
  std::vector<uint16_t> left(image.begin(), image.end()), out;
  out.reserve(static_cast<size_t>(tokens * heads * dim));
  for (int64_t row = 0; row < tokens * heads; ++row) {
    const int64_t at = row / heads * to_.stride[0] + row % heads * to_.stride[1];
    out.insert(out.end(), image.begin() + at, image.begin() + at + dim);
    std::fill_n(left.begin() + at, dim, kUntouched);
  }
  const auto touched = std::find_if(left.begin(), left.end(), [](uint16_t x) { return x != kUntouched; });
  if (touched != left.end())
    problems.push_back("o was written outside its rows, at element " + std::to_string(touched - left.begin()));
  return out;
}

}  // namespace lathe::testing
