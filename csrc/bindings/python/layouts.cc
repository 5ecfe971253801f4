// Batches over chosen keys; lathe._layouts says what their arguments mean.
#include <memory>
#include <string>

#include "arrays.h"
#include "lathe/api/sparse_layout.h"
#include "parts.h"
#include "status.h"

namespace py = pybind11;

namespace lathe::python {
namespace {

constexpr const char* kLayoutDoc =
    R"(A batch of rows that see chosen keys, as pages of a kernel's layout; made by `lathe.block_sparse` and `lathe.gather`.

Attributes
----------
tokens : int
    Rows of q and o.
keys : int
    Rows of k and v.
num_kv_heads : int
    Heads of k and v.
page_size : int
    Keys of a page: the columns of a block, or 1.
spec_layout : dict
    What the spec of its kernels has as ``layout``.
kv_indices : i32 array
    Page ids, for a kernel on a GPU: `Attention.run` takes a copy in the device's memory.)";

GatherScope scope_of(const std::string& name) {
  if (name == "query") return GatherScope::query;
  if (name != "request") refuse("scope", "is '" + name + "'; allowed: 'request', 'query'");
  return GatherScope::request;
}

std::shared_ptr<SparseLayout> made(Result<SparseLayout> layout) {
  return std::make_shared<SparseLayout>(check(std::move(layout)));
}

py::dict spec_layout(const SparseLayout& layout) {
  using namespace py::literals;
  return py::dict("kind"_a = "paged", "page_size"_a = layout.page_size, "order"_a = "NHD", "storage"_a = "separate",
                  "index"_a = "csr");
}

}  // namespace

void add_layouts(py::module_& m) {
  py::class_<SparseLayout, std::shared_ptr<SparseLayout>> layout(m, "SparseLayout", kLayoutDoc);
  layout.def_property_readonly("tokens", [](const SparseLayout& self) { return self.qo_indptr.back() / self.heads_apart; });
  layout.def_property_readonly("keys", [](const SparseLayout& self) { return self.num_pages * self.page_size / self.heads_apart; });
  layout.def_property_readonly("num_kv_heads", [](const SparseLayout& self) { return self.num_kv_heads * self.heads_apart; });
  layout.def_property_readonly("page_size", [](const SparseLayout& self) { return self.page_size; });
  layout.def_property_readonly("spec_layout", &spec_layout);
  layout.def_property_readonly("kv_indices", [](const SparseLayout& self) {
    return Indices(static_cast<py::ssize_t>(self.kv_indices.size()), self.kv_indices.data());
  });
  layout.def("__repr__", [](const py::object& self) {
    const auto of = [&](const char* name) { return py::str(self.attr(name)).cast<std::string>(); };
    return "<lathe.SparseLayout of " + of("tokens") + " rows, " + of("keys") + " keys, " + of("num_kv_heads") +
           " kv heads, pages of " + of("page_size") + ">";
  });
  m.def(
      "block_sparse",
      [](const Indices& indptr, const Indices& indices, int64_t rows, int64_t columns, int32_t block_rows, int32_t block_columns,
         int32_t num_kv_heads) {
        return made(block_sparse({rows, columns, block_rows, block_columns, num_kv_heads, span_of(indptr), span_of(indices)}));
      },
      py::kw_only(), py::arg("indptr").noconvert(), py::arg("indices").noconvert(), py::arg("rows"), py::arg("columns"),
      py::arg("block_rows"), py::arg("block_columns"), py::arg("num_kv_heads"));
  m.def(
      "gather",
      [](const Indices& indices, const Indices& qo_indptr, const std::string& scope, bool per_kv_head, int64_t width,
         int64_t num_keys, int32_t num_kv_heads) {
        return made(gather({span_of(qo_indptr), num_kv_heads, scope_of(scope), per_kv_head, span_of(indices), width, num_keys}));
      },
      py::kw_only(), py::arg("indices").noconvert(), py::arg("qo_indptr").noconvert(), py::arg("scope"), py::arg("per_kv_head"),
      py::arg("width"), py::arg("num_keys"), py::arg("num_kv_heads"));
}

}  // namespace lathe::python
