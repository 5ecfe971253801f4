#include "lathe/proof/append_case.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>

#include "lathe/oracle/float16.h"
#include "lathe/spec/expr/rope.h"

namespace lathe::testing {
namespace {

constexpr std::byte kNaN{0xff};  // of each format and of fp32, but -1 of i8

int64_t between(std::mt19937_64& rng, int64_t least, int64_t most) {
  return std::uniform_int_distribution<int64_t>(least, most)(rng);
}

template <class T>
void store(Bytes& bytes, size_t offset, T x) {
  std::memcpy(bytes.data() + offset, &x, sizeof(T));
}

/// Vectors of all kinds: usual numbers, none but zeros, one far above the rest, one sign, hardly different from each other, tiny.
double draw_element(std::mt19937_64& rng, int kind, int64_t d) {
  const double x = std::normal_distribution<double>()(rng);
  switch (kind) {
    case 0:
      return 0;
    case 1:
      return d == 3 ? 1000 * x : x;
    case 2:
      return -std::fabs(x);
    case 3:
      return 5 + 0.01 * x;
    case 4:
      return 1e-4 * x;
    default:
      return x;
  }
}

}  // namespace

AppendImage::AppendImage(std::initializer_list<int64_t> shape, size_t bytes, bool padded, std::byte filler)
    : tensor(make_tensor(shape, static_cast<int64_t>(16 / bytes), padded)), element_bytes(bytes) {
  int64_t last = 0;
  for (int i = 0; i < tensor.rank; ++i) {
    const auto at = static_cast<size_t>(i);
    if (tensor.shape[at] == 0) return;
    last += (tensor.shape[at] - 1) * tensor.stride[at];
  }
  content.assign(static_cast<size_t>(last + 1) * bytes, filler);
}

size_t AppendImage::offset(std::initializer_list<int64_t> index) const {
  int64_t at = 0;
  size_t i = 0;
  for (int64_t x : index) at += x * tensor.stride[i++];
  return static_cast<size_t>(at) * element_bytes;
}

AppendCase::AppendCase(const AppendSpec& spec, std::mt19937_64& rng) : spec_(spec) {
  tokens = between(rng, 1, 40);
  kv_heads = between(rng, 1, 4);
  qo_heads = spec.rope != RopePairs::none && rng() % 4 != 0 ? kv_heads * between(rng, 1, 3) : 0;
  in_place_ = rng() % 2 == 0;
  draw_places(rng);
  draw_scales(rng, true);
  draw_scales(rng, false);
  draw_values(rng);
}

AppendCase AppendCase::all_values(const AppendSpec& spec, std::mt19937_64& rng) {
  AppendCase out(spec, rng);
  out.tokens = 256, out.kv_heads = 2, out.qo_heads = 0;
  out.places_.clear(), out.padding.clear(), out.slots_.clear();
  out.draw_places(rng);
  out.padding.assign(256, false);
  for (int64_t t = 0; t < 256; ++t) {
    out.slots_[static_cast<size_t>(t)] = t;
    out.places_[static_cast<size_t>(t)] = {t / spec.layout.page_size, t % spec.layout.page_size};
  }
  // Powers of two, so that nothing but the code rounds.
  out.scales_[0].scale = 0.5f, out.scales_[1].scale = 2;
  out.exact_ = true;
  out.draw_values(rng);
  for (AppendImage* image : {&out.k_, &out.v_})
    for (int64_t i = 0; i < 65536; ++i)
      store(image->content, image->offset({i / 256, i / 128 % 2, i % 128}), static_cast<uint16_t>(i));
  return out;
}

// Distinct places for all tokens, in pages that are enough.
void AppendCase::draw_places(std::mt19937_64& rng) {
  const int64_t page_size = spec_.layout.page_size;
  padding.resize(static_cast<size_t>(tokens));
  for (size_t t = 0; t < padding.size(); ++t) padding[t] = rng() % 8 == 0;
  num_requests_ = between(rng, 1, 5);
  const int64_t pages_of_request = (tokens + page_size - 1) / page_size + between(rng, 0, 3);
  pages = num_requests_ * pages_of_request + between(rng, 0, 3);
  std::vector<int32_t> page_ids(static_cast<size_t>(pages));
  std::iota(page_ids.begin(), page_ids.end(), 0);
  std::ranges::shuffle(page_ids, rng);
  // Table rows are longer than they need be; csr lists are not.
  const bool table = spec_.layout.index == PageIndex::table;
  block_table_stride_ = table ? static_cast<int32_t>(pages_of_request + between(rng, 0, 2)) : 0;
  kv_indptr_ = {0}, kv_indices_.clear();
  for (int64_t b = 0; b < num_requests_; ++b) {
    for (int64_t i = 0; i < pages_of_request; ++i) kv_indices_.push_back(page_ids[static_cast<size_t>(b * pages_of_request + i)]);
    for (int64_t i = pages_of_request; table && i < block_table_stride_; ++i) kv_indices_.push_back(-1);
    kv_indptr_.push_back(static_cast<int32_t>(kv_indices_.size()));
  }
  std::vector<int64_t> free(static_cast<size_t>(num_requests_ * pages_of_request * page_size));
  std::iota(free.begin(), free.end(), 0);
  std::ranges::shuffle(free, rng);
  batch_indices_.clear(), positions_.clear();
  for (int64_t t = 0; t < tokens; ++t) {
    const int64_t at = free[static_cast<size_t>(t)], request = at / (pages_of_request * page_size);
    const int64_t position = at % (pages_of_request * page_size);
    const int64_t row = table ? block_table_stride_ : pages_of_request;
    const int32_t page = kv_indices_[static_cast<size_t>(request * row + position / page_size)];
    const bool pad = padding[static_cast<size_t>(t)];
    places_.push_back({page, position % page_size});
    slots_.push_back(pad ? -1 - between(rng, 0, 5) : page * page_size + position % page_size);
    batch_indices_.push_back(pad ? -1 : static_cast<int32_t>(request));
    positions_.push_back(pad ? 1 << 30 : static_cast<int32_t>(position));
  }
  // Positions of embeddings are any, where they are not places too.
  const int64_t num_positions = spec_.place == TokenPlace::positions ? pages_of_request * page_size : between(rng, 1, 5000);
  if (spec_.place == TokenPlace::slots) {
    for (size_t t = 0; t < positions_.size(); ++t)
      if (!padding[t]) positions_[t] = static_cast<int32_t>(between(rng, 0, num_positions - 1));
  }
  if (spec_.rope == RopePairs::none) return;
  const int32_t dims = turned_dims(spec_);
  const std::vector<float> table_of_rope =
      *expr::rope_table({.head_dim = spec_.head_dim_qk, .dims = dims, .theta = rng() % 2 == 0 ? 1e4 : 5e5}, num_positions);
  cos_sin_ = AppendImage({num_positions, dims}, sizeof(float), rng() % 2 == 0, kNaN);
  for (int64_t i = 0; i < num_positions * dims; ++i)
    store(cos_sin_.content, cos_sin_.offset({i / dims, i % dims}), table_of_rope[static_cast<size_t>(i)]);
}

void AppendCase::draw_scales(std::mt19937_64& rng, bool keys) {
  const DType format = keys ? spec_.kfmt : spec_.vfmt;
  const KvScale scale = keys ? spec_.kscale : spec_.vscale;
  const KvZero zero = keys ? spec_.kzero : spec_.vzero;
  const int64_t dim = keys ? spec_.head_dim_qk : spec_.head_dim_vo;
  Scales& out = scales_[keys ? 0 : 1];
  std::uniform_real_distribution<float> factor(0.25f, 4.0f);
  if (is_code(format))
    out.scale = factor(rng) * (has_token_scale(scale) ? 1.0f : 8.0f / static_cast<float>(oracle::largest(format)));
  const auto tokens_table = [&] { return AppendImage({pages, spec_.layout.page_size, kv_heads}, sizeof(float), false, kNaN); };
  if (has_token_scale(scale)) out.token = tokens_table();
  if (zero == KvZero::token) out.zero = tokens_table();
  const auto fill = [&](AppendImage& image, auto&& draw) {
    image = AppendImage({kv_heads, dim}, sizeof(float), rng() % 2 == 0, kNaN);
    for (int64_t i = 0; i < kv_heads * dim; ++i) store(image.content, image.offset({i / dim, i % dim}), static_cast<float>(draw()));
  };
  if (has_channel_scale(scale)) fill(out.channel, [&] { return factor(rng); });
  if (zero == KvZero::channel) fill(out.zero, [&] { return between(rng, -100, 100); });
}

void AppendCase::draw_values(std::mt19937_64& rng) {
  const auto draw = [&](int64_t heads, int64_t dim) {
    AppendImage image({tokens, heads, dim}, 2, rng() % 2 == 0, kNaN);
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t h = 0; h < heads; ++h) {
        const int kind = static_cast<int>(rng() % 12);
        for (int64_t d = 0; d < dim && !padding[static_cast<size_t>(t)]; ++d)
          store(image.content, image.offset({t, h, d}), oracle::encode(spec_.q_dtype, draw_element(rng, kind, d)));
      }
    }
    return image;
  };
  k_ = draw(kv_heads, spec_.head_dim_qk);
  v_ = draw(kv_heads, spec_.head_dim_vo);
  q_ = q_out_ = AppendImage();
  if (qo_heads > 0) q_ = draw(qo_heads, spec_.head_dim_qk);
  if (qo_heads > 0 && !in_place_) q_out_ = AppendImage({tokens, qo_heads, spec_.head_dim_qk}, 2, rng() % 2 == 0, std::byte{0x5a});
  const bool nhd = spec_.layout.order == PageOrder::nhd, joint = spec_.layout.storage == KvStorage::joint, padded = rng() % 2 == 0;
  const int64_t a = nhd ? spec_.layout.page_size : kv_heads, b = nhd ? kv_heads : spec_.layout.page_size;
  const auto cache = [&](DType format, int64_t dim) {
    constexpr std::byte kUntouched{0x5a};
    return joint ? AppendImage({pages, 2, a, b, dim}, bytes_of(format), padded, kUntouched)
                 : AppendImage({pages, a, b, dim}, bytes_of(format), padded, kUntouched);
  };
  k_cache_ = cache(spec_.kfmt, spec_.head_dim_qk);
  v_cache_ = joint ? AppendImage() : cache(spec_.vfmt, spec_.head_dim_vo);
}

}  // namespace lathe::testing
