#include "lathe/proof/merge_case.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "lathe/oracle/float16.h"
#include "lathe/oracle/merge.h"
#include "lathe/proof/memory.h"

namespace lathe::testing {
namespace {

constexpr uint16_t kUntouched = 0x5a5a;
constexpr float kUntouchedLse = 77.0f;

DrawnHooks draw(const MergeSpec& spec, int64_t tokens, int64_t heads, std::mt19937_64& rng) {
  return draw_hooks(spec.hooks, {.qo_heads = heads, .tokens = tokens, .kv_len = 16, .head_dim = spec.head_dim}, rng);
}

template <class T>
std::vector<T> content(const GuardedBuffer& b, std::string& problem) {
  const Bytes bytes = *b.read();
  std::vector<T> out(bytes.size() / sizeof(T));
  std::memcpy(out.data(), bytes.data(), bytes.size());
  if (const std::string damage = *b.damage(); !damage.empty()) problem = damage;
  return out;
}

}  // namespace

MergeCase::MergeCase(const MergeSpec& spec, std::mt19937_64& rng)
    : num(static_cast<int64_t>(1 + rng() % 17)),
      tokens(static_cast<int64_t>(1 + rng() % 20)),
      heads(static_cast<int64_t>(1 + rng() % 5)),
      spec_(spec),
      hooks_(draw(spec, tokens, heads, rng)) {
  std::normal_distribution<double> normal;
  const double range = rng() % 2 == 0 ? 2.0 : 40.0;  // near each other, or one far above the rest
  for (int64_t row = 0; row < num * tokens * heads; ++row) {
    // An empty state may hold anything; all states of some rows are.
    const bool empty = rng() % 5 == 0 || row % (tokens * heads) == 1;
    lse.push_back(empty ? -std::numeric_limits<float>::infinity() : static_cast<float>(range * normal(rng)));
    for (int d = 0; d < spec.head_dim; ++d)
      o.push_back(empty ? oracle::nan_pattern(spec.dtype) : oracle::encode(spec.dtype, normal(rng)));
  }
}

MergeCase::MergeCase(const MergeSpec& spec, Sizes sizes, std::vector<uint16_t> o_of, std::vector<float> lse_of,
                     std::mt19937_64& rng)
    : num(sizes.num),
      tokens(sizes.tokens),
      heads(sizes.heads),
      o(std::move(o_of)),
      lse(std::move(lse_of)),
      spec_(spec),
      hooks_(draw(spec, tokens, heads, rng)) {}

std::string MergeCase::run(const std::shared_ptr<Device>& device, const Merge& merge, bool with_lse) const {
  const int64_t rows = tokens * heads;
  const std::vector<int32_t> sizes{static_cast<int32_t>(rows), static_cast<int32_t>(num)};
  const auto put = [&](const auto& list) { return *GuardedBuffer::make(device, std::as_bytes(std::span(list))); };
  const GuardedBuffer states = put(o), lses = put(lse), lengths = put(sizes);
  const GuardedBuffer out_o = put(std::vector<uint16_t>(static_cast<size_t>(rows * spec_.head_dim), kUntouched));
  const GuardedBuffer out_lse = put(std::vector<float>(static_cast<size_t>(rows), kUntouchedLse));
  std::vector<GuardedBuffer> memory;
  std::vector<HookTensor> tensors = hooks_.tensors;
  for (size_t i = 0; i < tensors.size(); ++i) tensors[i].tensor.data = memory.emplace_back(put(hooks_.memory[i])).data();
  const Status status = merge.run({.o = Tensor::contiguous(states.data(), {num, tokens, heads, spec_.head_dim}),
                                   .lse = Tensor::contiguous(lses.data(), {num, tokens, heads}),
                                   .merged_o = Tensor::contiguous(out_o.data(), {tokens, heads, spec_.head_dim}),
                                   .merged_lse = with_lse ? Tensor::contiguous(out_lse.data(), {tokens, heads}) : Tensor{},
                                   .sizes = reinterpret_cast<const int32_t*>(lengths.data()),
                                   .hook_params = hooks_.params,
                                   .hook_tensors = tensors},
                                  nullptr);
  if (!status.ok()) return status.to_string();
  std::string problem;
  const auto got_o = content<uint16_t>(out_o, problem);
  const auto got_lse = content<float>(out_lse, problem);
  return problem.empty() ? judge(got_o, got_lse, with_lse) : problem;
}

std::string MergeCase::judge(const std::vector<uint16_t>& got_o, const std::vector<float>& got_lse, bool with_lse) const {
  const oracle::MergeOutput expected =
      oracle::merge(spec_, num, tokens * heads, o, lse, {.num_heads = heads, .values = hooks_.values});
  const double step = spec_.dtype == DType::f16 ? std::ldexp(1.0, -11) : std::ldexp(1.0, -8);  // half a unit in the last place
  // One rounding of the result, and fp32 sums of up to 17 terms of magnitude below 8. A hook may see the lse, of magnitude below
  // 200 and so off by some 3e-5 in fp32, and multiply what it makes of it with o.
  const double absolute = spec_.hooks.has(expr::Hook::output) ? 2e-4 : 1e-5;
  for (size_t i = 0; i < got_o.size(); ++i) {
    const double x = oracle::decode(spec_.dtype, got_o[i]);
    if (!(std::fabs(x - expected.o[i]) <= step * std::fabs(expected.o[i]) + absolute))
      return "element " + std::to_string(i) + " is " + std::to_string(x) + ", should be " + std::to_string(expected.o[i]);
  }
  for (size_t r = 0; r < got_lse.size(); ++r) {
    const double x = got_lse[r], wanted = with_lse ? expected.lse[r] : static_cast<double>(kUntouchedLse);
    if (!(std::fabs(x - wanted) <= (with_lse ? 2e-4 : 0)) && x != wanted)
      return "lse of row " + std::to_string(r) + " is " + std::to_string(x) + ", should be " + std::to_string(wanted);
  }
  return {};
}

}  // namespace lathe::testing
