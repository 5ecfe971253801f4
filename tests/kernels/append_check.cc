// An append case in the device's memory: the launch, and what it left there against the oracle.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "lathe/oracle/float16.h"
#include "lathe/proof/append_case.h"

namespace lathe::testing {
namespace {

constexpr size_t kMostProblems = 8;

template <class T>
T load(const Bytes& bytes, size_t offset) {
  T x;
  std::memcpy(&x, bytes.data() + offset, sizeof(T));
  return x;
}

std::string text(double x) {
  char out[32];
  std::snprintf(out, sizeof(out), "%.9g", x);
  return out;
}

class Report {
 public:
  explicit Report(std::vector<std::string>& problems) : problems_(problems) {}
  void operator()(std::string text) {
    if (problems_.size() < kMostProblems) problems_.push_back(std::move(text));
  }

 private:
  std::vector<std::string>& problems_;
};

}  // namespace

// Calls f(token, head) for the vectors that exist.
template <class F>
void AppendCase::for_each_vector(int64_t heads, F&& f) const {
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t h = 0; h < heads && !padding[static_cast<size_t>(t)]; ++h) f(t, h);
}

size_t AppendCase::cache_offset(bool keys, const Place& place, int64_t head) const {
  const bool nhd = spec_.layout.order == PageOrder::nhd;
  const int64_t a = nhd ? place.index : head, b = nhd ? head : place.index;
  if (spec_.layout.storage == KvStorage::joint) return k_cache_.offset({place.page, keys ? 0 : 1, a, b, 0});
  return (keys ? k_cache_ : v_cache_).offset({place.page, a, b, 0});
}

std::vector<double> AppendCase::vector_of(const AppendImage& image, int64_t token, int64_t head) const {
  std::vector<double> x(static_cast<size_t>(image.tensor.shape[2]));
  for (size_t d = 0; d < x.size(); ++d)
    x[d] = oracle::decode(spec_.q_dtype, load<uint16_t>(image.content, image.offset({token, head, static_cast<int64_t>(d)})));
  return x;
}

std::vector<double> AppendCase::turned(const AppendImage& image, int64_t token, int64_t head) const {
  const std::vector<double> x = vector_of(image, token, head);
  if (spec_.rope == RopePairs::none) return x;
  std::vector<float> row(static_cast<size_t>(turned_dims(spec_)));
  const size_t offset = cos_sin_.offset({positions_[static_cast<size_t>(token)], 0});
  std::memcpy(row.data(), cos_sin_.content.data() + offset, row.size() * sizeof(float));
  return oracle::turn(spec_, x, row);
}

// The format of a head, with its rows of the tables that are given; `channels` and `zeros` hold them.
oracle::AppendFormat AppendCase::format_of(bool keys, int64_t head, std::vector<float>& channels, std::vector<float>& zeros) const {
  const Scales& scales = scales_[keys ? 0 : 1];
  oracle::AppendFormat format{keys ? spec_.kfmt : spec_.vfmt,
                              keys ? spec_.kscale : spec_.vscale,
                              keys ? spec_.kzero : spec_.vzero,
                              static_cast<double>(scales.scale),
                              {},
                              {}};
  const auto row_of = [&](const AppendImage& table) {
    std::vector<float> row(static_cast<size_t>(table.tensor.shape[1]));
    std::memcpy(row.data(), table.content.data() + table.offset({head, 0}), row.size() * sizeof(float));
    return row;
  };
  if (has_channel_scale(format.scale_of)) channels = row_of(scales.channel);
  if (format.zero_of == KvZero::channel) zeros = row_of(scales.zero);
  format.channel_scale = channels, format.channel_zero = zeros;
  return format;
}

void AppendCase::check_vectors(bool keys, const Bytes& cache, const Bytes& token_scales, const Bytes& zeros,
                               std::vector<std::string>& problems) const {
  Report report(problems);
  const Scales& scales = scales_[keys ? 0 : 1];
  for_each_vector(kv_heads, [&](int64_t t, int64_t h) {
    const Place& place = places_[static_cast<size_t>(t)];
    std::vector<float> channels, channel_zeros;
    const oracle::AppendFormat format = format_of(keys, h, channels, channel_zeros);
    const oracle::AppendedVector expected = oracle::append_vector(format, keys ? turned(k_, t, h) : vector_of(v_, t, h));
    const std::string where = std::string(keys ? "k" : "v") + " of token " + std::to_string(t) + ", head " + std::to_string(h);
    if (has_token_scale(format.scale_of)) {
      const auto scale = static_cast<double>(load<float>(token_scales, scales.token.offset({place.page, place.index, h})));
      if (!(std::fabs(scale - expected.token_scale) <= 2e-6 * expected.token_scale))
        report(where + ": its scale is " + text(scale) + ", should be " + text(expected.token_scale));
    }
    double zero = 0;  // as stored
    if (format.zero_of == KvZero::token) {
      zero = static_cast<double>(load<float>(zeros, scales.zero.offset({place.page, place.index, h})));
      if (!(zero == std::floor(zero) && std::fabs(zero - expected.exact_zero) <= 0.5 + 1e-4))
        report(where + ": its zero-point is " + text(zero) + ", should be " + text(expected.token_zero));
    }
    std::vector<double> codes = expected.codes;
    for (double& c : codes) c += zero - expected.token_zero;
    check_elements(where, format.element, codes, cache, cache_offset(keys, place, h), problems);
  });
}

// The elements at `offset` are the nearest to `wanted`, but for what fp32 makes of a tie.
void AppendCase::check_elements(const std::string& where, DType format, const std::vector<double>& wanted, const Bytes& cache,
                                size_t offset, std::vector<std::string>& problems) const {
  Report report(problems);
  const double largest = is_code(format) ? oracle::largest(format) : HUGE_VAL;
  double most = 0;
  for (const double c : wanted) most = std::isfinite(c) ? std::max(most, std::fabs(c)) : most;
  for (size_t d = 0; d < wanted.size(); ++d) {
    const size_t at = offset + d * bytes_of(format);
    const double x = oracle::decode(format, is_code(format) ? load<uint8_t>(cache, at) : load<uint16_t>(cache, at));
    const std::string element = where + ", element " + std::to_string(d) + " is " + text(x) + ", should be ";
    if (std::isnan(wanted[d])) {
      if (is_code(format) ? std::fabs(x) != largest : !std::isnan(x)) report(element + "what NaN becomes");
      continue;
    }
    const double c = std::clamp(wanted[d], format == DType::i8 ? -128.0 : -largest, largest);
    const double best = oracle::decode(format, oracle::encode(format, c));
    const double slack = is_code(format) ? 2e-6 * (std::fabs(wanted[d]) + most) : 3e-7 * most;
    if (x != best && (exact_ || !(std::fabs(x - c) <= std::fabs(best - c) + slack)))
      report(element + text(best) + ", the nearest to " + text(wanted[d]));
  }
}

void AppendCase::check_queries(const Bytes& q_out, std::vector<std::string>& problems) const {
  const AppendImage& out = in_place_ ? q_ : q_out_;
  for_each_vector(qo_heads, [&](int64_t t, int64_t h) {
    check_elements("q of token " + std::to_string(t) + ", head " + std::to_string(h), spec_.q_dtype, turned(q_, t, h), q_out,
                   out.offset({t, h, 0}), problems);
  });
}

// What one launch is given: images in the device's memory.
class AppendCase::Upload {
 public:
  Upload(std::shared_ptr<Device> device, std::vector<std::string>& problems) : device_(std::move(device)), problems_(problems) {
    buffers_.reserve(kMostBuffers);  // they stay where they are
  }

  struct Uploaded {
    const AppendImage* image = nullptr;
    const GuardedBuffer* buffer = nullptr;  // of an image without memory, none
    Tensor tensor;
  };
  Uploaded put(const AppendImage& image) {
    Uploaded out{&image, image.tensor.rank != 0 ? make(image.content) : nullptr, image.tensor};
    if (out.buffer != nullptr) out.tensor.data = out.buffer->data();
    return out;
  }
  template <class T>
  const T* put_list(const std::vector<T>& list, bool used) {
    const GuardedBuffer* buffer = used ? make(std::as_bytes(std::span(list))) : nullptr;
    return buffer != nullptr ? reinterpret_cast<const T*>(buffer->data()) : nullptr;
  }
  Bytes read(const Uploaded& image) const { return image.buffer != nullptr ? *image.buffer->read() : Bytes(); }

  /// Every byte of `image` is as it was, but for the ranges that `touched` calls its argument with.
  template <class F>
  void check_rest(const char* name, const Uploaded& image, F&& touched) const {
    if (image.buffer == nullptr) return;
    Bytes now = read(image);
    touched([&](size_t offset, size_t bytes) {
      const auto at = static_cast<ptrdiff_t>(offset);
      std::copy_n(image.image->content.begin() + at, bytes, now.begin() + at);
    });
    const auto differs = std::ranges::mismatch(now, image.image->content).in1 - now.begin();
    if (differs != std::ssize(now)) problems_.push_back(std::string(name) + ": byte " + std::to_string(differs) + " was written");
  }
  void check_guards() const {
    for (const GuardedBuffer& buffer : buffers_) {
      const std::string damage = *buffer.damage();
      if (!damage.empty()) problems_.push_back(damage);
    }
  }

 private:
  static constexpr size_t kMostBuffers = 24;
  const GuardedBuffer* make(std::span<const std::byte> bytes) {
    Result<GuardedBuffer> made = GuardedBuffer::make(device_, bytes);
    if (!made.ok()) problems_.push_back(made.status().to_string());
    return made.ok() ? &buffers_.emplace_back(*std::move(made)) : nullptr;
  }

  std::shared_ptr<Device> device_;
  std::vector<std::string>& problems_;
  std::vector<GuardedBuffer> buffers_;
};

struct AppendCase::Places {
  Upload::Uploaded q, q_out, k, v, k_cache, v_cache, cos_sin;
  Upload::Uploaded tables[2][3];  // of keys, of values: scales of tokens, of channels, zero-points
};

// Elements that the oracle speaks of were compared with it; every other byte must be as it was.
void AppendCase::check_memory(const Upload& upload, const Places& at) const {
  const bool joint = spec_.layout.storage == KvStorage::joint;
  const auto nothing = [](auto&&) {};
  const auto mark_cache = [&](auto&& mark, bool keys) {
    const size_t bytes =
        static_cast<size_t>(keys ? spec_.head_dim_qk : spec_.head_dim_vo) * bytes_of(keys ? spec_.kfmt : spec_.vfmt);
    for_each_vector(kv_heads, [&](int64_t t, int64_t h) { mark(cache_offset(keys, places_[static_cast<size_t>(t)], h), bytes); });
  };
  upload.check_rest("k_cache", at.k_cache, [&](auto&& mark) {
    mark_cache(mark, true);
    if (joint) mark_cache(mark, false);
  });
  upload.check_rest("v_cache", at.v_cache, [&](auto&& mark) { mark_cache(mark, false); });
  const auto mark_queries = [&](const AppendImage& image) {
    return [&](auto&& mark) {
      const auto bytes = static_cast<size_t>(2 * spec_.head_dim_qk);
      for_each_vector(qo_heads, [&](int64_t t, int64_t h) { mark(image.offset({t, h, 0}), bytes); });
    };
  };
  if (in_place_) {
    upload.check_rest("q", at.q, mark_queries(q_));
  } else {
    upload.check_rest("q", at.q, nothing);
    upload.check_rest("q_out", at.q_out, mark_queries(q_out_));
  }
  for (size_t i = 0; i < 2; ++i) {
    const auto mark_tokens = [&](const AppendImage& image, bool made) {
      return [&image, made, this](auto&& mark) {
        for_each_vector(made ? kv_heads : 0, [&](int64_t t, int64_t h) {
          const Place& place = places_[static_cast<size_t>(t)];
          mark(image.offset({place.page, place.index, h}), sizeof(float));
        });
      };
    };
    const bool zeros_made = (i == 0 ? spec_.kzero : spec_.vzero) == KvZero::token;
    upload.check_rest("token_scale", at.tables[i][0], mark_tokens(scales_[i].token, true));
    upload.check_rest("channel_scale", at.tables[i][1], nothing);
    upload.check_rest("zero", at.tables[i][2], mark_tokens(scales_[i].zero, zeros_made));
  }
  upload.check_rest("k", at.k, nothing);
  upload.check_rest("v", at.v, nothing);
  upload.check_guards();
}

AppendArgs AppendCase::put(Upload& upload, Places& at) const {
  at.q = upload.put(q_), at.q_out = upload.put(q_out_), at.k = upload.put(k_), at.v = upload.put(v_);
  at.k_cache = upload.put(k_cache_), at.v_cache = upload.put(v_cache_), at.cos_sin = upload.put(cos_sin_);
  for (size_t i = 0; i < 2; ++i) {
    at.tables[i][0] = upload.put(scales_[i].token);
    at.tables[i][1] = upload.put(scales_[i].channel);
    at.tables[i][2] = upload.put(scales_[i].zero);
  }
  const bool slots = spec_.place == TokenPlace::slots, rope = spec_.rope != RopePairs::none,
             csr = spec_.layout.index == PageIndex::csr;
  const auto scales = [&](size_t i) {
    return KvScales{scales_[i].scale, at.tables[i][0].tensor, at.tables[i][1].tensor, at.tables[i][2].tensor};
  };
  AppendArgs args;
  args.q = at.q.tensor, args.q_out = in_place_ ? at.q.tensor : at.q_out.tensor;
  args.k = at.k.tensor, args.v = at.v.tensor, args.k_cache = at.k_cache.tensor, args.v_cache = at.v_cache.tensor;
  args.k_scales = scales(0), args.v_scales = scales(1);
  args.slot_mapping = upload.put_list(slots_, slots);
  args.batch_indices = upload.put_list(batch_indices_, !slots);
  args.positions = upload.put_list(positions_, !slots || rope);
  args.kv_indptr = upload.put_list(kv_indptr_, !slots && csr);
  args.kv_indices = upload.put_list(kv_indices_, !slots);
  if (!slots) args.num_requests = num_requests_, args.num_kv_indices = static_cast<int64_t>(kv_indices_.size());
  args.block_table_stride = block_table_stride_;
  args.cos_sin = at.cos_sin.tensor;
  return args;
}

std::string AppendCase::run(const std::shared_ptr<Device>& device, const Append& append) const {
  std::vector<std::string> problems;
  Upload upload(device, problems);
  Places at;
  const AppendArgs args = put(upload, at);
  if (!problems.empty()) return problems.front();
  const Status status = append.run(args, nullptr);
  if (!status.ok()) return status.to_string();
  const Bytes keys = upload.read(at.k_cache), values = v_cache_.tensor.rank == 0 ? keys : upload.read(at.v_cache);
  check_vectors(true, keys, upload.read(at.tables[0][0]), upload.read(at.tables[0][2]), problems);
  check_vectors(false, values, upload.read(at.tables[1][0]), upload.read(at.tables[1][2]), problems);
  check_queries(upload.read(in_place_ ? at.q : at.q_out), problems);
  check_memory(upload, at);
  std::string text;
  for (const std::string& problem : problems) text += problem + "\n";
  return text;
}

}  // namespace lathe::testing
