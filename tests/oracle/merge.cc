#include "lathe/oracle/merge.h"

#include <cmath>
#include <limits>

#include "lathe/oracle/float16.h"

namespace lathe::oracle {

MergeOutput merge(const MergeSpec& spec, int64_t num_states, int64_t rows, std::span<const uint16_t> o, std::span<const float> lse,
                  const MergeHooks& hooks) {
  using expr::Hook;
  using expr::Input;
  const double unit = spec.lse == LseOut::log2 ? std::log(2.0) : 1.0;  // of one step of lse, in natural logarithms
  const auto dim = static_cast<size_t>(spec.head_dim), num_rows = static_cast<size_t>(rows);
  HookEvaluator hook(spec.hooks, hooks.values);
  MergeOutput out;
  out.o.assign(num_rows * dim, 0.0);
  out.lse.assign(num_rows, -std::numeric_limits<double>::infinity());
  for (size_t r = 0; r < num_rows; ++r) {
    const auto heads = static_cast<size_t>(hooks.num_heads);
    hook.set(Input::h, static_cast<int64_t>(r % heads));
    hook.set(Input::tok, static_cast<int64_t>(r / heads));
    // A state more, without a value.
    const double sink = hook.has(Hook::sink) ? hook.number(Hook::sink) : -std::numeric_limits<double>::infinity();
    double top = sink;
    for (size_t i = 0; i < static_cast<size_t>(num_states); ++i) top = std::fmax(top, unit * lse[i * num_rows + r]);
    if (!std::isinf(top)) {  // else every state is empty
      double sum = std::exp(sink - top);
      for (size_t i = 0; i < static_cast<size_t>(num_states); ++i) {
        const double weight = std::exp(unit * lse[i * num_rows + r] - top);
        if (weight == 0) continue;  // an empty state may hold anything
        sum += weight;
        for (size_t d = 0; d < dim; ++d) out.o[r * dim + d] += weight * decode(spec.dtype, o[(i * num_rows + r) * dim + d]);
      }
      for (size_t d = 0; d < dim; ++d) out.o[r * dim + d] /= sum;
      out.lse[r] = (top + std::log(sum)) / unit;
    }
    if (!hook.has(Hook::output)) continue;
    hook.set_float(Input::lse, unit * out.lse[r]);
    for (size_t d = 0; d < dim; ++d) {
      hook.set(Input::d, static_cast<int64_t>(d));
      hook.set_float(Input::o, out.o[r * dim + d]);
      out.o[r * dim + d] = hook.number(Hook::output);
    }
  }
  return out;
}

}  // namespace lathe::oracle
