#include "envelope_server.h"

#include <algorithm>
#include <cstring>

#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& v) {
  return std::as_bytes(std::span(v));
}

}  // namespace

AttentionSpec small_spec() {
  AttentionSpec spec;
  spec.group_size = 2;
  spec.head_dim_qk = spec.head_dim_vo = 32;
  spec.mask = Mask::causal;
  spec.lse = LseOut::ln;
  return spec;
}

std::shared_ptr<Device> small_host(bool check, int32_t num_sms) {
  return host_device({.seed = seed(), .check = check, .num_sms = num_sms});
}

Status Server::prepare(std::shared_ptr<Device> on, const AttentionSpec& spec, const AttentionBounds& bounds) {
  device = std::make_shared<RecordingDevice>(std::move(on));
  Result<Attention> made = Attention::prepare(engine(), device, spec);
  LATHE_TRY(made);
  attention.emplace(*std::move(made));
  Result<AttentionEnvelope> boundary = attention->envelope(bounds);
  LATHE_TRY(boundary);
  envelope = *std::move(boundary);
  Result<std::unique_ptr<PlanStager>> ring = PlanStager::create(device, envelope.layout.plan);
  LATHE_TRY(ring);
  stager_ = *std::move(ring);

  const int64_t heads = bounds.num_kv_heads * spec.group_size, tokens = bounds.max_qo_tokens + 2;
  args_.q = Tensor::contiguous(nullptr, {tokens, heads, spec.head_dim_qk});
  args_.o = Tensor::contiguous(nullptr, {tokens, heads, spec.head_dim_vo});
  if (spec.lse != LseOut::none) args_.lse = Tensor::contiguous(nullptr, {tokens, heads});
  const int64_t entries = bounds.max_kv_entries + 3;
  if (spec.layout.kind == LayoutKind::ragged) {
    args_.k = Tensor::contiguous(nullptr, {entries, bounds.num_kv_heads, spec.head_dim_qk});
    args_.v = Tensor::contiguous(nullptr, {entries, bounds.num_kv_heads, spec.head_dim_vo});
  } else {
    args_.k = Tensor::contiguous(nullptr, {entries, spec.layout.page_size, bounds.num_kv_heads, spec.head_dim_qk});
    args_.v = Tensor::contiguous(nullptr, {entries, spec.layout.page_size, bounds.num_kv_heads, spec.head_dim_vo});
    args_.num_kv_indices = entries;
    LATHE_TRY(make(ids_, 4 * static_cast<size_t>(entries)));
    args_.kv_indices = reinterpret_cast<const int32_t*>(ids_.data());
  }
  for (auto [tensor, buffer, size] :
       {std::tuple{&args_.q, &q_, 2}, {&args_.k, &k_, 2}, {&args_.v, &v_, 2}, {&args_.o, &o_, 2}, {&args_.lse, &lse_, 4}}) {
    if (tensor->rank == 0) continue;
    int64_t elements = size;
    for (int i = 0; i < tensor->rank; ++i) elements *= tensor->shape[static_cast<size_t>(i)];
    LATHE_TRY(make(*buffer, static_cast<size_t>(elements)));
    tensor->data = buffer->data();
  }
  LATHE_TRY(make(workspace_, envelope.layout.total()));
  LATHE_TRY(attention->prepare_workspace(envelope, workspace_.data(), envelope.layout.total(), nullptr));
  return device->synchronize(nullptr);
}

Outcome Server::serve(const Batch& batch, const BatchImage& image) {
  Outcome out;
  Status status = serve_or_fail(batch, image, out);
  if (!status.ok()) out.problems.push_back(status.to_string());
  return out;
}

std::string Server::damage() const {
  std::string text;
  for (const GuardedBuffer* buffer : {&q_, &k_, &v_, &o_, &workspace_}) {
    Result<std::string> damage = buffer->damage();
    text += damage.ok() ? *damage : damage.status().to_string();
  }
  return text;
}

std::string Server::prove(const Batch& batch, uint64_t pages_seed, Outcome* outcome) {
  const BatchImage image(attention->spec(), batch, {.seed = pages_seed});
  Outcome out = serve(batch, image);
  std::string wrong = judge(attention->spec(), batch.shape, image, out, repeat_command());
  if (outcome != nullptr) *outcome = std::move(out);
  return wrong;
}

Status Server::make(GuardedBuffer& buffer, size_t bytes) {
  const std::vector<uint8_t> poison(bytes, 0xff);  // as floats: NaN
  Result<GuardedBuffer> made = GuardedBuffer::make(device, bytes_of(poison));
  LATHE_TRY(made);
  buffer = *std::move(made);
  return {};
}

Status Server::put(const GuardedBuffer& buffer, std::span<const std::byte> content, size_t& used) {
  if (content.size() > buffer.size()) return Status(Code::internal, "the test's batch passes its bounds");
  if (used > content.size()) LATHE_TRY(device->fill(buffer.data() + content.size(), 0xff, used - content.size(), nullptr));
  used = content.size();
  return device->copy_in(buffer.data(), content.data(), content.size(), nullptr);
}

Status Server::serve_or_fail(const Batch& batch, const BatchImage& image, Outcome& out) {
  LATHE_TRY(put(q_, bytes_of(image.q), used_[0]));
  LATHE_TRY(put(k_, bytes_of(image.k), used_[1]));
  LATHE_TRY(put(v_, bytes_of(image.v), used_[2]));
  LATHE_TRY(put(o_, bytes_of(image.o), used_[3]));
  if (args_.lse.rank != 0) LATHE_TRY(put(lse_, bytes_of(image.lse), used_[4]));
  if (args_.kv_indices != nullptr) LATHE_TRY(put(ids_, bytes_of(image.kv_indices), used_[5]));
  LATHE_TRY(device->synchronize(nullptr));
  LATHE_TRY(attention->plan(image.batch(), envelope, plan));
  LATHE_TRY(upload(plan));
  AttentionArgs args = args_;
  args.sm_scale = batch.shape.sm_scale, args.soft_cap = batch.shape.soft_cap;
  LATHE_TRY(replay ? replay() : attention->run(args, plan, workspace_.data(), stream));
  LATHE_TRY(device->synchronize(stream));

  Result<Bytes> o = o_.read();
  LATHE_TRY(o);
  out.o.resize(image.o.size());
  if (!out.o.empty()) std::memcpy(out.o.data(), o->data(), 2 * out.o.size());
  out.o = image.gather_o(out.o, out.problems);
  if (std::any_of(o->begin() + static_cast<int64_t>(2 * image.o.size()), o->end(),
                  [](std::byte b) { return b != std::byte{0xff}; }))
    out.problems.push_back("o was written behind the batch");
  if (args_.lse.rank != 0) {
    Result<Bytes> lse = lse_.read();
    LATHE_TRY(lse);
    out.lse.resize(static_cast<size_t>(batch.shape.qo_tokens() * args_.lse.shape[1]));
    if (!out.lse.empty()) std::memcpy(out.lse.data(), lse->data(), 4 * out.lse.size());
    // Two spare rows of the image, then poison.
    const auto behind = std::span(*lse).subspan(4 * out.lse.size());
    const size_t spare = 2 * image.lse.size() - 4 * out.lse.size();
    const auto untouched = bytes_of(image.lse).last(spare);
    if (!std::ranges::equal(behind.first(spare), untouched) ||
        std::ranges::any_of(behind.subspan(spare), [](std::byte b) { return b != std::byte{0xff}; }))
      out.problems.push_back("lse was written behind the batch");
  }
  Bytes counters(envelope.layout.counters);
  LATHE_TRY(device->copy_out(counters.data(), workspace_.data() + envelope.layout.plan, counters.size(), nullptr));
  LATHE_TRY(device->synchronize(nullptr));
  if (std::ranges::any_of(counters, [](std::byte b) { return b != std::byte{0}; }))
    out.problems.push_back("merge counters are not zero after the launch");
  if (device->params.back() != device->params.front() || device->grids.back() != device->grids.front())
    out.problems.push_back("the launch differs from the first one");
  return {};
}

}  // namespace lathe::testing
