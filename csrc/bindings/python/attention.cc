#include "lathe/api/attention.h"

#include <mutex>

#include "arrays.h"
#include "lathe/api/sparse_layout.h"
#include "parts.h"
#include "status.h"

namespace py = pybind11;

namespace lathe::python {
namespace {

constexpr size_t kMinWorkspace = 256;

/// A planned batch with the workspace it was uploaded to. The mutex keeps two launches from sharing that workspace.
struct Plan {
  PlannedAttention planned;
  std::shared_ptr<std::byte> workspace;
  size_t workspace_bytes = 0;
  std::shared_ptr<const SparseLayout> layout;  // of chosen keys; null without
  std::mutex running;

  int32_t heads_apart() const { return layout == nullptr ? 1 : layout->heads_apart; }
};

/// What hooks take, as Python hands it over: dicts by the names of their declarations.
struct HookArgs {
  std::vector<HookParam> params;
  std::vector<HookTensor> tensors;
  std::vector<Array> held;  // what the tensors borrow from

  HookArgs(const AttentionHooks& hooks, const py::dict& given_params, const py::dict& given_tensors) {
    for (const auto& [name, value] : given_params) params.push_back({py::cast<std::string>(name), py::cast<double>(value)});
    for (const auto& [key, value] : given_tensors) {
      const auto name = py::cast<std::string>(key);
      const auto object = py::reinterpret_borrow<py::object>(value);
      held.push_back(array_of(name, object, hooks));
      tensors.push_back({name, held.back().tensor});
    }
  }

 private:
  /// Of the declared element; a name that is not declared is refused later, with the others.
  static Array array_of(const std::string& name, const py::object& value, const AttentionHooks& hooks) {
    for (const expr::Tensor& tensor : hooks.given().tensors) {
      if (tensor.name == name) return python::array_of(name.c_str(), value, expr::name_of(tensor.elem));
    }
    return python::array_of(name.c_str(), value);
  }
};

/// Lengths and pages as Python hands them over; see AttentionBatch.
struct BatchArgs {
  Indices qo_indptr, kv_indptr, last_page_len, seq_lens, kv_indices;
  int32_t block_table_stride = 0, window = 0;
  int64_t num_pages = 0;
  bool share_prefixes = true;

  AttentionBatch view() const {
    AttentionBatch batch;
    batch.qo_indptr = span_of(qo_indptr);
    batch.kv_indptr = span_of(kv_indptr);
    batch.last_page_len = span_of(last_page_len);
    batch.seq_lens = span_of(seq_lens);
    batch.block_table_stride = block_table_stride;
    batch.window = window;
    batch.kv_indices = span_of(kv_indices);
    batch.num_pages = num_pages;
    batch.share_prefixes = share_prefixes;
    return batch;
  }
};

/// A prepared kernel with the device and the engine that it came from.
class PreparedAttention {
 public:
  PreparedAttention(std::shared_ptr<Engine> engine, std::shared_ptr<Device> device, const AttentionSpec& spec, bool unsafe_cuda)
      : engine_(std::move(engine)), device_(std::move(device)), attention_(prepare(spec, {unsafe_cuda})) {}

  const Attention& attention() const { return attention_; }
  const std::shared_ptr<Device>& device() const { return device_; }

  std::shared_ptr<Plan> plan(std::shared_ptr<const SparseLayout> layout, const HookArgs& hooks) const {
    check(layout->check(attention_.spec()));
    std::shared_ptr<Plan> out = plan(layout->batch(), layout->num_kv_heads, hooks);
    out->layout = std::move(layout);
    return out;
  }

  /// The memory of `batch` is its caller's.
  std::shared_ptr<Plan> plan(AttentionBatch batch, int32_t num_kv_heads, const HookArgs& hooks) const {
    if (attention_.spec().hooks.has(expr::Hook::mask)) {  // nothing else of hooks decides a schedule
      batch.hook_params = hooks.params;
      batch.hook_tensors = hooks.tensors;
    }
    auto plan = std::make_shared<Plan>();
    const Status status = [&]() -> Status {
      py::gil_scoped_release release;
      Result<PlannedAttention> planned = attention_.plan(batch, num_kv_heads);
      LATHE_TRY(planned);
      plan->planned = *std::move(planned);
      plan->workspace_bytes = std::max(kMinWorkspace, plan->planned.plan.workspace.total());
      Result<std::shared_ptr<std::byte>> workspace = device_->allocate(plan->workspace_bytes);
      LATHE_TRY(workspace);
      plan->workspace = *std::move(workspace);
      return attention_.upload(plan->planned, plan->workspace.get(), plan->workspace_bytes, nullptr);
    }();
    check(status);
    return plan;
  }

  void run(Plan& plan, const py::object& q, const py::object& k, const py::object& v, const py::object& o, const py::object& lse,
           const py::object& kv_indices, float sm_scale, float soft_cap, const py::dict& k_scales, const py::dict& v_scales,
           uintptr_t stream, const py::dict& params, const py::dict& tensors) const {
    const AttentionSpec& spec = attention_.spec();
    AttentionArgs args;
    const HookArgs hooks(spec.hooks, params, tensors);
    for (size_t i = 0; i < hooks.held.size(); ++i) check_place(hooks.tensors[i].name.c_str(), hooks.held[i]);
    args.hook_params = hooks.params;
    args.hook_tensors = hooks.tensors;
    std::vector<Array> held;  // what the tensors borrow from
    auto take = [&](const char* name, Array array) {
      check_place(name, array);
      held.push_back(array);
      return array.tensor;
    };
    args.q = take("q", array_of("q", q, spec.q_dtype));
    args.k = take("k", array_of("k", k, spec.kfmt));
    if (!v.is_none()) args.v = take("v", array_of("v", v, spec.vfmt));
    args.o = take("o", array_of("o", o, spec.o_dtype));
    check_writable("o", held.back());
    if (!lse.is_none()) {
      args.lse = take("lse", array_of("lse", lse, "f32"));
      check_writable("lse", held.back());
    }
    args.k_scales = scales_of("k_scales", k_scales, held);
    args.v_scales = scales_of("v_scales", v_scales, held);
    if (plan.layout != nullptr) check(plan.layout->view(spec, args));
    if (!kv_indices.is_none()) {
      const Tensor indices = take("kv_indices", array_of("kv_indices", kv_indices, "i32"));
      check_contiguous("kv_indices", indices);
      args.kv_indices = static_cast<const int32_t*>(indices.data);
      args.num_kv_indices = 1;
      for (int i = 0; i < indices.rank; ++i) args.num_kv_indices *= indices.shape[i];
    }
    args.sm_scale = sm_scale;
    args.soft_cap = soft_cap;
    const Status status = [&] {
      py::gil_scoped_release release;
      std::lock_guard lock(plan.running);
      return attention_.run(args, plan.planned, plan.workspace.get(), reinterpret_cast<Stream>(stream));
    }();
    check(status);
  }

 private:
  Attention prepare(const AttentionSpec& spec, PrepareOptions options) const {
    Result<Attention> attention = [&] {
      py::gil_scoped_release release;
      return Attention::prepare(*engine_, device_, spec, options);
    }();
    return check(std::move(attention));
  }

  void check_place(const char* name, const Array& array) const {
    const bool host = device_->info().arch == "host";
    if (array.on_host == host) return;
    refuse(name, std::string("is in the memory of ") + (array.on_host ? "the host" : "GPU " + std::to_string(array.gpu)) +
                     "; allowed: that of the " + (host ? "host" : "GPU") + ", where the kernel runs");
  }

  // `held` keeps what the tables borrow from.
  KvScales scales_of(const std::string& argument, const py::dict& given, std::vector<Array>& held) const {
    KvScales out;
    for (const auto& [key, value] : given) {
      const auto name = py::cast<std::string>(key);
      if (name == "scale") {
        out.scale = py::cast<float>(value);
        continue;
      }
      Tensor* const table = name == "token_scale"     ? &out.token_scale
                            : name == "channel_scale" ? &out.channel_scale
                            : name == "zero"          ? &out.zero
                                                      : nullptr;
      if (table == nullptr) refuse(argument.c_str(), "has " + name + "; allowed: scale, token_scale, channel_scale, zero");
      const std::string path = argument + "." + name;
      held.push_back(array_of(path.c_str(), py::reinterpret_borrow<py::object>(value), "f32"));
      check_place(path.c_str(), held.back());
      *table = held.back().tensor;
    }
    return out;
  }

  static void check_contiguous(const char* name, const Tensor& t) {
    int64_t step = 1;
    for (int i = t.rank - 1; i >= 0; --i) {
      if (t.shape[i] > 1 && t.stride[i] != step) refuse(name, "is not contiguous; allowed: a contiguous array");
      step *= t.shape[i];
    }
  }

  std::shared_ptr<Engine> engine_;  // outlives the kernel
  std::shared_ptr<Device> device_;
  Attention attention_;
};

py::dict tile_of(const AttentionTile& tile) {
  using namespace py::literals;
  py::list classes;
  for (const TileClass& c : tile.classes) classes.append(py::make_tuple(c.q, c.kv));
  return py::dict("classes"_a = classes, "warps"_a = tile.warps, "stages"_a = tile.stages, "shared_bytes"_a = tile.shared_bytes,
                  "packed"_a = tile.packed, "reason"_a = tile.reason);
}

}  // namespace

void add_attention(py::module_& m) {
  py::class_<Plan, std::shared_ptr<Plan>> plan(m, "Plan");
  plan.def_property_readonly("batch", [](const Plan& self) { return self.planned.batch; });
  plan.def_property_readonly("qo_tokens", [](const Plan& self) { return self.planned.qo_tokens / self.heads_apart(); });
  plan.def_property_readonly("num_kv_heads", [](const Plan& self) { return self.planned.shape.num_kv_heads * self.heads_apart(); });
  plan.def_property_readonly("kv_lens", [](const Plan& self) {
    return self.planned.lengths.kv_lens.size() == 0 ? py::list()
                                                    : py::list(py::cast(std::vector<int>(self.planned.lengths.kv_lens)));
  });
  plan.def_property_readonly("workspace_bytes", [](const Plan& self) { return self.workspace_bytes; });

  py::class_<PreparedAttention> attention(m, "PreparedAttention");
  attention.def(py::init<std::shared_ptr<Engine>, std::shared_ptr<Device>, const AttentionSpec&, bool>(), py::arg("engine"),
                py::arg("device"), py::arg("spec"), py::arg("unsafe_cuda") = false);
  attention.def_property_readonly("spec", [](const PreparedAttention& self) { return self.attention().spec(); });
  attention.def_property_readonly("device", &PreparedAttention::device);
  attention.def_property_readonly("origin", [](const PreparedAttention& self) { return name_of(self.attention().origin()); });
  attention.def_property_readonly("key",
                                  [](const PreparedAttention& self) { return self.attention().kernel().artifact()->key_hex; });
  attention.def_property_readonly("num_ctas", [](const PreparedAttention& self) { return self.attention().num_ctas(); });
  attention.def_property_readonly("tile", [](const PreparedAttention& self) { return tile_of(self.attention().tile()); });
  attention.def(
      "plan",
      [](const PreparedAttention& self, int32_t num_kv_heads, Indices qo_indptr, Indices kv_indptr, Indices last_page_len,
         Indices seq_lens, Indices kv_indices, int32_t block_table_stride, int64_t num_pages, int32_t window, bool share_prefixes,
         const py::dict& params, const py::dict& tensors) {
        const BatchArgs args{std::move(qo_indptr),
                             std::move(kv_indptr),
                             std::move(last_page_len),
                             std::move(seq_lens),
                             std::move(kv_indices),
                             block_table_stride,
                             window,
                             num_pages,
                             share_prefixes};
        return self.plan(args.view(), num_kv_heads, HookArgs(self.attention().spec().hooks, params, tensors));
      },
      py::kw_only(), py::arg("num_kv_heads"), py::arg("qo_indptr").noconvert(), py::arg("kv_indptr").noconvert(),
      py::arg("last_page_len").noconvert(), py::arg("seq_lens").noconvert(), py::arg("kv_indices").noconvert(),
      py::arg("block_table_stride"), py::arg("num_pages"), py::arg("window"), py::arg("share_prefixes"), py::arg("params"),
      py::arg("tensors"));
  attention.def(
      "plan_layout",
      [](const PreparedAttention& self, std::shared_ptr<SparseLayout> layout, const py::dict& params, const py::dict& tensors) {
        return self.plan(std::move(layout), HookArgs(self.attention().spec().hooks, params, tensors));
      },
      py::arg("layout"), py::kw_only(), py::arg("params"), py::arg("tensors"));
  attention.def("run", &PreparedAttention::run, py::arg("plan"), py::kw_only(), py::arg("q"), py::arg("k"), py::arg("v"),
                py::arg("o"), py::arg("lse"), py::arg("kv_indices"), py::arg("sm_scale"), py::arg("soft_cap"), py::arg("k_scales"),
                py::arg("v_scales"), py::arg("stream"), py::arg("params"), py::arg("tensors"));
  m.def(
      "describe_array",
      [](const std::string& name, const py::object& value) {
        const Array array = array_of(name.c_str(), value);
        py::list shape;
        for (int i = 0; i < array.tensor.rank; ++i) shape.append(array.tensor.shape[i]);
        return py::make_tuple(array.element, py::tuple(shape), array.on_host, array.gpu);
      },
      py::arg("name"), py::arg("value"));
}

}  // namespace lathe::python
