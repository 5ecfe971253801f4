// The operators of the torch library "lathe". Kernels are named by their spec as JSON text and envelopes by their bounds, so a
// graph that holds a call means the same in another process. No operator waits for a device or reads its memory.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <cstring>
#include <string>
#include <tuple>
#include <vector>

#include "kernels.h"
#include "stream.h"
#include "tensors.h"
#include "values.h"

namespace lathe::torch_ops {
namespace {

/// The kernel of a call, with the stream that it runs on.
struct Call {
  Call(const AnyTensor& on, const std::string& spec)
      : place(ordinal_of(on)), attention(check(Kernels::instance().attention(place.ordinal(), spec, place.stream()))->attention) {}

  Place place;
  const Attention& attention;
};

/// The same of a call within an envelope.
struct EnvelopeCall {
  EnvelopeCall(const AnyTensor& on, const std::string& text)
      : place(ordinal_of(on)), in(*check(Kernels::instance().envelope(place.ordinal(), text, place.stream()))) {}
  const Attention& attention() const { return in.attention(); }

  Place place;
  const PreparedEnvelope& in;
};

/// A workspace where kernels can have it. PyTorch aligns memory of the host to less than they need, and copies of a workspace that
/// it makes while it compiles lie anywhere; those are copied to aligned memory for a call, and back.
class Workspace {
 public:
  Workspace(const AnyTensor& t, const AnyTensor& like)
      : tensor_(view("workspace", t, ElementType::Byte, like).data), bytes_(static_cast<size_t>(t.numel())) {
    if (!t.is_contiguous()) refuse("workspace", "is not contiguous; allowed: a contiguous tensor of bytes");
    data_ = tensor_;
    if (reinterpret_cast<uintptr_t>(tensor_) % kAlign == 0 || t.is_cuda()) return;
    copy_.resize(bytes_ + kAlign);
    data_ = aligned(copy_.data());
    std::memcpy(data_, tensor_, bytes_);
  }
  ~Workspace() {
    if (data_ != tensor_) std::memcpy(tensor_, data_, bytes_);
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

  static constexpr size_t kAlign = 256;
  static void* aligned(void* memory) {
    return reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(memory) + kAlign - 1) / kAlign * kAlign);
  }

 private:
  void* tensor_;
  size_t bytes_;
  void* data_ = nullptr;
  std::vector<std::byte> copy_;
};

int32_t as_int(const char* name, int64_t value) {
  if (value < 0 || value > INT32_MAX) refuse(name, "is " + std::to_string(value) + "; allowed: 0..2147483647");
  return static_cast<int32_t>(value);
}

AttentionArgs args_of(const AttentionSpec& spec, const AnyTensor& q, const AnyTensor& k, const OptionalTensor& v,
                      const AnyTensor& out, const OptionalTensor& lse, const OptionalTensor& kv_indices, double sm_scale,
                      double soft_cap, const Values& values) {
  AttentionArgs args;
  args.q = view("q", q, element_of(spec.q_dtype), q);
  args.k = view("k", k, element_of(spec.kfmt), q);
  if (v) args.v = view("v", *v, element_of(spec.vfmt), q);
  args.o = view("out", out, element_of(spec.o_dtype), q);
  if (lse) args.lse = view("lse", *lse, ElementType::Float, q);
  args.kv_indices = device_indices("kv_indices", kv_indices, q, &args.num_kv_indices);
  args.sm_scale = static_cast<float>(sm_scale);
  args.soft_cap = static_cast<float>(soft_cap);
  args.hook_params = values.params();
  args.hook_tensors = values.tensors();
  args.k_scales = values.k_scales();
  args.v_scales = values.v_scales();
  return args;
}

/// Lengths that lie in the host's memory.
AttentionBatch batch_of(const AnyTensor& qo_indptr, const OptionalTensor& kv_indptr, const OptionalTensor& last_page_len,
                        const OptionalTensor& seq_lens, int64_t block_table_stride, int64_t window) {
  AttentionBatch batch;
  batch.qo_indptr = host_indices("qo_indptr", qo_indptr);
  batch.kv_indptr = host_indices("kv_indptr", kv_indptr);
  batch.last_page_len = host_indices("last_page_len", last_page_len);
  batch.seq_lens = host_indices("seq_lens", seq_lens);
  batch.block_table_stride = as_int("block_table_stride", block_table_stride);
  batch.window = as_int("window", window);
  return batch;
}

/// Masks alone decide schedules.
void add_hooks(const AttentionSpec& spec, const Values& values, bool on_host, AttentionBatch& batch) {
  if (!spec.hooks.has(expr::Hook::mask)) return;
  batch.hook_params = values.params();
  if (on_host) batch.hook_tensors = values.tensors();
}

/// Plans and runs one batch into `out`, and `lse` where the spec has one; the workspace comes from PyTorch's allocator.
void attention_into(const AnyTensor& q, const AnyTensor& k, const OptionalTensor& v, const AnyTensor& out,
                    const OptionalTensor& lse, const AnyTensor& qo_indptr, const OptionalTensor& kv_indptr,
                    const OptionalTensor& kv_indices, const OptionalTensor& last_page_len, const OptionalTensor& seq_lens,
                    const std::string& spec_text, int64_t window, double sm_scale, double soft_cap, const Tensors& tensors,
                    const Numbers& numbers, const Names& names) {
  const Call call(q, spec_text);
  const AttentionSpec& spec = call.attention.spec();
  if (q.dim() != 3) refuse("q", "has " + std::to_string(q.dim()) + " dimensions; allowed: 3");
  const bool table = spec.layout.kind == LayoutKind::paged && spec.layout.index == PageIndex::table;
  if (table && (!kv_indices || kv_indices->dim() != 2))
    refuse("kv_indices", "must be [batch, pages] where the layout's index is table");
  const Values values(spec.hooks, tensors, numbers, names, q);
  AttentionBatch batch = batch_of(qo_indptr, kv_indptr, last_page_len, seq_lens, table ? kv_indices->size(1) : 0, window);
  add_hooks(spec, values, q.is_cpu(), batch);
  const auto planned = check(call.attention.plan(batch, as_int("num_kv_heads", q.size(1) / spec.group_size)));

  const int64_t bytes = static_cast<int64_t>(planned.plan.workspace.total());
  const AnyTensor memory = torch::stable::new_empty(q, {bytes + static_cast<int64_t>(Workspace::kAlign)}, ElementType::Byte);
  void* workspace = Workspace::aligned(memory.data_ptr());
  const AttentionArgs args = args_of(spec, q, k, v, out, lse, kv_indices, sm_scale, soft_cap, values);
  check(call.attention.upload(planned, workspace, static_cast<size_t>(bytes), call.place.stream()));
  check(call.attention.run(args, planned, workspace, call.place.stream()));
}

/// The same; results come from PyTorch's allocator too.
std::tuple<AnyTensor, AnyTensor> attention(const AnyTensor& q, const AnyTensor& k, const OptionalTensor& v,
                                           const AnyTensor& qo_indptr, const OptionalTensor& kv_indptr,
                                           const OptionalTensor& kv_indices, const OptionalTensor& last_page_len,
                                           const OptionalTensor& seq_lens, const std::string& spec_text, int64_t window,
                                           double sm_scale, double soft_cap) {
  const AttentionSpec& spec = Call(q, spec_text).attention.spec();
  if (q.dim() != 3) refuse("q", "has " + std::to_string(q.dim()) + " dimensions; allowed: 3");
  // Its rows would have no result, and memory that nobody wrote in their place.
  const std::span<const int32_t> begins = host_indices("qo_indptr", qo_indptr);
  if (!begins.empty() && begins.back() < q.size(0)) {
    refuse("qo_indptr",
           "ends at " + std::to_string(begins.back()) + ", q has " + std::to_string(q.size(0)) + " rows; allowed: as many");
  }
  const AnyTensor out = torch::stable::new_empty(q, {q.size(0), q.size(1), spec.head_dim_vo}, element_of(spec.o_dtype));
  const bool with_lse = spec.lse != LseOut::none;
  const AnyTensor lse = torch::stable::new_empty(q, {with_lse ? q.size(0) : 0, q.size(1)}, ElementType::Float);
  attention_into(q, k, v, out, with_lse ? OptionalTensor(lse) : OptionalTensor(), qo_indptr, kv_indptr, kv_indices, last_page_len,
                 seq_lens, spec_text, window, sm_scale, soft_cap, {}, {}, {});
  return {out, lse};
}

/// Once for a workspace.
void prepare_workspace(const AnyTensor& workspace, const std::string& envelope) {
  const EnvelopeCall call(workspace, envelope);
  const Workspace w(workspace, workspace);
  check(call.attention().prepare_workspace(call.in.envelope(), w.data(), w.bytes(), call.place.stream()));
}

/// Each step: plans a batch on the host and queues one copy.
void plan(const AnyTensor& workspace, const AnyTensor& qo_indptr, const OptionalTensor& kv_indptr,
          const OptionalTensor& last_page_len, const OptionalTensor& seq_lens, int64_t block_table_stride,
          const std::string& envelope, const Tensors& tensors, const Names& names) {
  const EnvelopeCall call(workspace, envelope);
  const Workspace w(workspace, workspace);
  AttentionBatch batch =
      batch_of(qo_indptr, kv_indptr, last_page_len, seq_lens, block_table_stride, call.in.envelope().bounds.window);
  const Values values(call.attention().spec().hooks, tensors, {}, names, qo_indptr);
  add_hooks(call.attention().spec(), values, true, batch);
  thread_local PlannedAttention planned;  // its memory serves the next step too
  check(call.attention().plan(batch, call.in.envelope(), planned));
  check(call.attention().upload(planned, call.in.envelope(), call.in.stager(), w.data(), w.bytes(), call.place.stream()));
}

/// Each step, in place of plan(): one launch, which a graph may capture; lengths stay on the device.
void plan_on_device(const AnyTensor& workspace, const AnyTensor& scratch, const AnyTensor& qo_indptr,
                    const OptionalTensor& kv_indptr, const OptionalTensor& last_page_len, const OptionalTensor& seq_lens,
                    int64_t block_table_stride, const std::string& envelope) {
  const EnvelopeCall call(workspace, envelope);
  const AttentionPlanner& planner = *check(call.in.planner(Kernels::instance().engine()));
  const Workspace w(workspace, workspace), s(scratch, workspace);
  if (w.bytes() < call.in.envelope().layout.total()) {
    refuse("workspace",
           "has " + std::to_string(w.bytes()) + " bytes; allowed: at least " + std::to_string(call.in.envelope().layout.total()));
  }
  DeviceLengths lengths;
  int64_t rows = 0, pairs = 0, pages = 0, sequences = 0;
  lengths.qo_indptr = device_indices("qo_indptr", qo_indptr, workspace, &rows);
  lengths.kv_indptr = device_indices("kv_indptr", kv_indptr, workspace, &pairs);
  lengths.last_page_len = device_indices("last_page_len", last_page_len, workspace, &pages);
  lengths.seq_lens = device_indices("seq_lens", seq_lens, workspace, &sequences);
  lengths.num_requests = as_int("qo_indptr, less 1, as entries", rows - 1);
  lengths.block_table_stride = as_int("block_table_stride", block_table_stride);
  auto agree = [&](const char* name, const OptionalTensor& t, int64_t has, int64_t needs) {
    if (t && has != needs) refuse(name, "has " + std::to_string(has) + " entries; allowed: " + std::to_string(needs));
  };
  agree("kv_indptr", kv_indptr, pairs, rows);
  agree("last_page_len", last_page_len, pages, rows - 1);
  agree("seq_lens", seq_lens, sequences, rows - 1);
  check(planner.plan(lengths, w.data(), s.data(), s.bytes(), call.place.stream()));
}

/// Each step, after either plan: one launch, which a graph may capture.
void run(const AnyTensor& q, const AnyTensor& k, const OptionalTensor& v, const AnyTensor& out, const OptionalTensor& lse,
         const AnyTensor& workspace, const OptionalTensor& kv_indices, const std::string& envelope, double sm_scale,
         double soft_cap, const Tensors& tensors, const Numbers& numbers, const Names& names) {
  const EnvelopeCall call(q, envelope);
  const Workspace w(workspace, q);
  if (w.bytes() < call.in.envelope().layout.total()) {
    refuse("workspace",
           "has " + std::to_string(w.bytes()) + " bytes; allowed: at least " + std::to_string(call.in.envelope().layout.total()));
  }
  const Values values(call.attention().spec().hooks, tensors, numbers, names, q);
  const AttentionArgs args = args_of(call.attention().spec(), q, k, v, out, lse, kv_indices, sm_scale, soft_cap, values);
  check(call.attention().run(args, call.in.envelope(), w.data(), call.place.stream()));
}

/// Bytes of {workspace, scratch} of an envelope on the device of `like`, which is not read: two i64 in the memory of the host.
/// Masks of hooks are planned on the host alone, without scratch memory.
AnyTensor sizes(const AnyTensor& like, const std::string& envelope) {
  const EnvelopeCall call(like, envelope);
  const AnyTensor out =
      torch::stable::empty({2}, ElementType::Long, std::nullopt, torch::stable::Device(torch::headeronly::DeviceType::CPU));
  auto* numbers = static_cast<int64_t*>(out.data_ptr());
  numbers[0] = static_cast<int64_t>(call.in.envelope().layout.total());
  numbers[1] = 0;
  if (!call.attention().spec().hooks.has(expr::Hook::mask)) {
    const AttentionPlanner& planner = *check(call.in.planner(Kernels::instance().engine()));
    numbers[1] = static_cast<int64_t>(planner.scratch_bytes());
  }
  return out;
}

}  // namespace
}  // namespace lathe::torch_ops

// What most calls leave out. An argument that is left out still costs a call its look for a keyword and its conversion, hence few.
#define LATHE_OPTIONS ", float sm_scale=0.0, float soft_cap=0.0, Tensor[]? tensors=None, float[]? numbers=None, str? names=None"

STABLE_TORCH_LIBRARY(lathe, m) {
  m.def(
      "attention(Tensor q, Tensor k, Tensor? v, Tensor qo_indptr, Tensor? kv_indptr, Tensor? kv_indices, Tensor? last_page_len, "
      "Tensor? seq_lens, str spec, int window, float sm_scale, float soft_cap) -> (Tensor, Tensor)");
  m.def(
      "attention_into(Tensor q, Tensor k, Tensor? v, Tensor(a!) out, Tensor(b!)? lse, Tensor qo_indptr, Tensor? kv_indptr, "
      "Tensor? kv_indices, Tensor? last_page_len, Tensor? seq_lens, str spec, int window" LATHE_OPTIONS ") -> ()");
  m.def("prepare_workspace(Tensor(a!) workspace, str envelope) -> ()");
  m.def(
      "plan(Tensor(a!) workspace, Tensor qo_indptr, Tensor? kv_indptr, Tensor? last_page_len, Tensor? seq_lens, "
      "int block_table_stride, str envelope, Tensor[]? tensors=None, str? names=None) -> ()");
  m.def(
      "plan_on_device(Tensor(a!) workspace, Tensor(b!) scratch, Tensor qo_indptr, Tensor? kv_indptr, Tensor? last_page_len, "
      "Tensor? seq_lens, int block_table_stride, str envelope) -> ()");
  m.def(
      "run(Tensor q, Tensor k, Tensor? v, Tensor(a!) out, Tensor(b!)? lse, Tensor(c!) workspace, Tensor? kv_indices, str "
      "envelope" LATHE_OPTIONS ") -> ()");
  m.def("sizes(Tensor like, str envelope) -> Tensor");
}

#define LATHE_IMPLEMENT(m)                                                          \
  do {                                                                              \
    (m).impl("attention", TORCH_BOX(&lathe::torch_ops::attention));                 \
    (m).impl("attention_into", TORCH_BOX(&lathe::torch_ops::attention_into));       \
    (m).impl("prepare_workspace", TORCH_BOX(&lathe::torch_ops::prepare_workspace)); \
    (m).impl("plan", TORCH_BOX(&lathe::torch_ops::plan));                           \
    (m).impl("plan_on_device", TORCH_BOX(&lathe::torch_ops::plan_on_device));       \
    (m).impl("run", TORCH_BOX(&lathe::torch_ops::run));                             \
    (m).impl("sizes", TORCH_BOX(&lathe::torch_ops::sizes));                         \
  } while (false)

STABLE_TORCH_LIBRARY_IMPL(lathe, CPU, m) {
  LATHE_IMPLEMENT(m);
}
STABLE_TORCH_LIBRARY_IMPL(lathe, CUDA, m) {
  LATHE_IMPLEMENT(m);
}
