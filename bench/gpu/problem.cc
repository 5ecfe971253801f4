#include "problem.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

namespace lathe::bench {
namespace {

// Tensors are cut from one block of random numbers. Its length is prime, so no two pages or heads hold the same numbers in step.
constexpr int64_t kValues = 16'777'259;
constexpr int64_t kShiftQ = 0, kShiftK = 5'000'011, kShiftV = 11'000'027;
constexpr int64_t kMaxBatch = 1 << 20, kMaxLength = int64_t{1} << 31;

double decode(uint16_t bits) {
  return std::bit_cast<float>(uint32_t{bits} << 16);
}

std::vector<uint16_t> random_values(uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::vector<uint16_t> values(kValues);
  for (uint16_t& v : values) {
    auto x = static_cast<float>(static_cast<int64_t>(rng()) * 0x1p-63);  // (-1, 1)
    v = static_cast<uint16_t>(std::bit_cast<uint32_t>(x) >> 16);
  }
  return values;
}

std::vector<int32_t> running_sum(const std::vector<int32_t>& lens) {
  std::vector<int32_t> sum(lens.size() + 1, 0);
  std::partial_sum(lens.begin(), lens.end(), sum.begin() + 1);
  return sum;
}

Status check_spec(const AttentionSpec& spec) {
  Problems problems;
  if (spec.q_dtype != DType::bf16 || spec.o_dtype != DType::bf16) problems.add("q_dtype, o_dtype", "only bf16 is benchmarked");
  if (is_code(spec.kfmt) || is_code(spec.vfmt)) problems.add("kfmt, vfmt", "only bf16 is benchmarked");
  if (spec.soft_cap) problems.add("soft_cap", "is not benchmarked");
  const LayoutSpec& layout = spec.layout;
  bool plain = layout.order == PageOrder::nhd && layout.storage == KvStorage::separate && layout.index == PageIndex::csr;
  if (layout.kind == LayoutKind::paged && !plain) problems.add("layout", "only NHD, separate, csr is benchmarked");
  return problems.status();
}

}  // namespace

Result<BatchLengths> read_batch(const std::string& json) {
  nlohmann::json j = nlohmann::json::parse(json, nullptr, false);
  auto whole = [](const nlohmann::json& n) { return n.is_number_integer() && n >= 0 && n < kMaxLength; };
  auto list = [&](const char* name) {
    return j.contains(name) && j[name].is_array() && j[name].size() <= kMaxBatch &&
           std::all_of(j[name].begin(), j[name].end(), whole);
  };
  if (!j.is_object() || !j.contains("num_kv_heads") || !whole(j["num_kv_heads"]) || !list("qo_lens") || !list("kv_lens") ||
      j["qo_lens"].size() != j["kv_lens"].size() || (j.contains("window") && !whole(j["window"])))
    return invalid_argument(
        "batch",
        "must be an object with the whole number num_kv_heads, the lists of whole numbers qo_lens and kv_lens of one "
        "length, and, if the mask has one, a window");
  BatchLengths out;
  out.num_kv_heads = j["num_kv_heads"];
  out.qo_lens = j["qo_lens"].get<std::vector<int32_t>>();
  out.kv_lens = j["kv_lens"].get<std::vector<int32_t>>();
  out.window = j.value("window", 0);
  return out;
}

Result<Problem> Problem::make(std::shared_ptr<Device> device, const Attention& attention, BatchLengths lengths, uint64_t seed) {
  LATHE_TRY(check_spec(attention.spec()));
  Problem p;
  p.device_ = std::move(device);
  p.attention_ = &attention;
  p.lengths_ = std::move(lengths);
  p.values_ = random_values(seed);
  p.qo_indptr_ = running_sum(p.lengths_.qo_lens);
  LATHE_TRY(p.place_pages(seed + 1));
  LATHE_TRY(p.place_tensors());
  AttentionBatch batch;
  batch.qo_indptr = p.qo_indptr_;
  batch.kv_indptr = p.kv_indptr_;
  batch.last_page_len = p.last_page_len_;
  batch.window = p.lengths_.window;
  auto plan = attention.plan(batch, p.lengths_.num_kv_heads);
  LATHE_TRY(plan);
  p.plan_ = *std::move(plan);
  auto workspace = p.device_->allocate(p.plan_.plan.workspace.total());
  LATHE_TRY(workspace);
  p.workspace_ = *std::move(workspace);
  LATHE_TRY(attention.upload(p.plan_, p.workspace_.get(), p.plan_.plan.workspace.total(), nullptr));
  LATHE_TRY(p.device_->synchronize(nullptr));
  return p;
}

/// Which token of k and v belongs to which request.
Status Problem::place_pages(uint64_t seed) {
  const LayoutSpec& layout = attention_->spec().layout;
  if (layout.kind == LayoutKind::ragged) {
    kv_indptr_ = running_sum(lengths_.kv_lens);
    kv_slots_ = kv_indptr_.back();
    return {};
  }
  std::vector<int32_t> pages;
  for (int32_t n : lengths_.kv_lens) {
    pages.push_back(ceil_div(n, layout.page_size));
    last_page_len_.push_back(n == 0 ? 0 : (n - 1) % layout.page_size + 1);
  }
  kv_indptr_ = running_sum(pages);
  kv_indices_.resize(static_cast<size_t>(kv_indptr_.back()));
  std::iota(kv_indices_.begin(), kv_indices_.end(), 0);
  std::mt19937_64 rng(seed);
  std::shuffle(kv_indices_.begin(), kv_indices_.end(), rng);
  kv_slots_ = int64_t{kv_indptr_.back()} * layout.page_size;
  auto ids = device_->allocate(kv_indices_.size() * sizeof(int32_t));
  LATHE_TRY(ids);
  ids_ = *std::move(ids);
  args_.kv_indices = reinterpret_cast<const int32_t*>(ids_.get());
  args_.num_kv_indices = static_cast<int64_t>(kv_indices_.size());
  return device_->copy_in(ids_.get(), kv_indices_.data(), kv_indices_.size() * sizeof(int32_t), nullptr);
}

Status Problem::place_tensors() {
  const AttentionSpec& spec = attention_->spec();
  const int64_t tokens = qo_indptr_.back(), kv_heads = lengths_.num_kv_heads, heads = kv_heads * spec.group_size;
  const int64_t dqk = spec.head_dim_qk, dvo = spec.head_dim_vo, page = spec.layout.page_size;
  LATHE_TRY(upload(q_, tokens * heads * dqk, kShiftQ));
  LATHE_TRY(upload(k_, kv_slots_ * kv_heads * dqk, kShiftK));
  LATHE_TRY(upload(v_, kv_slots_ * kv_heads * dvo, kShiftV));
  LATHE_TRY(upload(o_, tokens * heads * dvo, 0));
  args_.q = Tensor::contiguous(q_.get(), {tokens, heads, dqk});
  args_.o = Tensor::contiguous(o_.get(), {tokens, heads, dvo});
  if (spec.layout.kind == LayoutKind::ragged) {
    args_.k = Tensor::contiguous(k_.get(), {kv_slots_, kv_heads, dqk});
    args_.v = Tensor::contiguous(v_.get(), {kv_slots_, kv_heads, dvo});
  } else {
    args_.k = Tensor::contiguous(k_.get(), {kv_slots_ / page, page, kv_heads, dqk});
    args_.v = Tensor::contiguous(v_.get(), {kv_slots_ / page, page, kv_heads, dvo});
  }
  if (spec.lse == LseOut::none) return {};
  auto lse = device_->allocate(static_cast<size_t>(tokens * heads) * sizeof(float));
  LATHE_TRY(lse);
  lse_ = *std::move(lse);
  args_.lse = Tensor::contiguous(lse_.get(), {tokens, heads});
  return {};
}

/// `elements` random numbers: the block from `shift` on, over and over.
Status Problem::upload(std::shared_ptr<std::byte>& memory, int64_t elements, int64_t shift) {
  auto made = device_->allocate(static_cast<size_t>(elements) * 2);
  LATHE_TRY(made);
  memory = *std::move(made);
  for (int64_t done = 0; done < elements;) {
    int64_t from = (done + shift) % kValues, count = std::min(elements - done, kValues - from);
    LATHE_TRY(device_->copy_in(memory.get() + 2 * done, values_.data() + from, static_cast<size_t>(count) * 2, nullptr));
    done += count;
  }
  return device_->synchronize(nullptr);
}

Status Problem::poison(Stream stream) const {
  return device_->fill(o_.get(), 0xff, static_cast<size_t>(args_.o.shape[0] * args_.o.shape[1] * args_.o.shape[2]) * 2, stream);
}

int64_t Problem::kv_slot(int64_t request, int64_t key) const {
  const LayoutSpec& layout = attention_->spec().layout;
  if (layout.kind == LayoutKind::ragged) return kv_indptr_[request] + key;
  return kv_indices_[kv_indptr_[request] + key / layout.page_size] * int64_t{layout.page_size} + key % layout.page_size;
}

std::vector<double> Problem::exact_row(int64_t request, int64_t row, int64_t head) const {
  const AttentionSpec& spec = attention_->spec();
  const int64_t kv_heads = lengths_.num_kv_heads, heads = kv_heads * spec.group_size, dqk = spec.head_dim_qk,
                dvo = spec.head_dim_vo;
  const int64_t kv_len = lengths_.kv_lens[request], position = row + kv_len - lengths_.qo_lens[request];
  auto value = [&](int64_t shift, int64_t index) { return decode(values_[(index + shift) % kValues]); };
  const int64_t q_at = ((qo_indptr_[request] + row) * heads + head) * dqk;
  int64_t end = spec.causal() ? std::min(kv_len, position + 1) : kv_len;
  int64_t begin = spec.windowed() ? std::max<int64_t>(0, position - lengths_.window + 1) : 0;
  std::vector<double> o(static_cast<size_t>(dvo), 0.0);
  double most = -INFINITY, sum = 0;
  for (int64_t j = begin; j < end; ++j) {
    const int64_t at = kv_slot(request, j) * kv_heads + head / spec.group_size;
    double score = 0;
    for (int64_t d = 0; d < dqk; ++d) score += value(kShiftQ, q_at + d) * value(kShiftK, at * dqk + d);
    score /= std::sqrt(static_cast<double>(dqk));
    const double keep = score > most ? std::exp(most - score) : 1.0;
    most = std::max(most, score);
    const double weight = std::exp(score - most);
    sum = sum * keep + weight;
    for (int64_t d = 0; d < dvo; ++d) o[d] = o[d] * keep + weight * value(kShiftV, at * dvo + d);
  }
  for (double& x : o) x = sum > 0 ? x / sum : 0;
  return o;
}

Result<SpotCheck> Problem::check(int rows, uint64_t seed) const {
  const int64_t tokens = args_.o.shape[0], heads = args_.o.shape[1], dvo = args_.o.shape[2];
  SpotCheck out;
  out.elements = tokens * heads * dvo;
  std::vector<uint16_t> o(static_cast<size_t>(out.elements));
  LATHE_TRY(device_->copy_out(o.data(), o_.get(), o.size() * 2, nullptr));
  LATHE_TRY(device_->synchronize(nullptr));
  for (uint16_t bits : o) out.not_written += std::isnan(decode(bits));
  std::mt19937_64 rng(seed);
  for (; out.rows < rows && tokens * heads > 0; ++out.rows) {
    const auto token = static_cast<int64_t>(rng() % static_cast<uint64_t>(tokens)),
               head = static_cast<int64_t>(rng() % static_cast<uint64_t>(heads));
    const int64_t request = std::upper_bound(qo_indptr_.begin(), qo_indptr_.end(), token) - qo_indptr_.begin() - 1;
    const std::vector<double> exact = exact_row(request, token - qo_indptr_[request], head);
    double wrong = 0, length = 0;
    for (int64_t d = 0; d < dvo; ++d) {
      const double error = decode(o[(token * heads + head) * dvo + d]) - exact[d];
      wrong += error * error;
      length += exact[d] * exact[d];
    }
    const double error = wrong == 0 ? 0 : std::sqrt(wrong / length);
    out.worst_error = std::isnan(error) ? INFINITY : std::max(out.worst_error, error);
  }
  return out;
}

}  // namespace lathe::bench
