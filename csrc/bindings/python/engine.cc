#include "lathe/jit/engine.h"

#include "lathe/api/attention.h"
#include "lathe/api/attention_planner.h"
#include "lathe/arch/traits.h"
#include "lathe/jit/compile_key.h"
#include "lathe/plan/attention_tile.h"
#include "lathe/runtime/device.h"
#include "parts.h"
#include "status.h"

namespace py = pybind11;

namespace lathe::python {
namespace {

using Release = py::call_guard<py::gil_scoped_release>;

Result<KernelRequest> request_of(const AttentionSpec& spec) {
  LATHE_TRY(validate(spec));
  Result<ArchTraits> traits = arch_traits(spec.arch);
  LATHE_TRY(traits);
  Result<AttentionTile> tile = resolve_tile(spec, *traits);
  LATHE_TRY(tile);
  return attention_request(spec, *tile);
}

py::dict facts_of(const Artifact& artifact, Origin origin) {
  using namespace py::literals;
  return py::dict("key"_a = artifact.key_hex, "description"_a = artifact.description, "arch"_a = artifact.arch,
                  "compiler"_a = artifact.compiler, "registers"_a = artifact.registers, "spill_bytes"_a = artifact.spill_bytes,
                  "shared_bytes"_a = artifact.shared_bytes, "bytes"_a = artifact.binary.size(),
                  "compile_ms"_a = artifact.compile_ms, "origin"_a = name_of(origin));
}

py::dict build(Engine& engine, const KernelRequest& request) {
  Origin origin = Origin::compiled;
  Result<ArtifactPtr> artifact = [&] {
    py::gil_scoped_release release;
    return engine.build(request, &origin);
  }();
  return facts_of(*check(std::move(artifact)), origin);
}

py::dict stats_of(const Engine& engine) {
  using namespace py::literals;
  const EngineStats s = engine.stats();
  const CacheStats& c = s.cache;
  const py::dict cache("hits"_a = c.hits, "misses"_a = c.misses, "stores"_a = c.stores, "rejected"_a = c.rejected,
                       "quarantined"_a = c.quarantined, "collisions"_a = c.collisions, "errors"_a = c.errors, "waits"_a = c.waits,
                       "evicted"_a = c.evicted, "bytes_read"_a = c.bytes_read, "bytes_written"_a = c.bytes_written);
  return py::dict("memory_hits"_a = s.memory_hits, "disk_hits"_a = s.disk_hits, "misses"_a = s.misses, "compiles"_a = s.compiles,
                  "failures"_a = s.failures, "compile_ms"_a = s.compile_ms, "cache"_a = cache);
}

py::list cache_entries(const Engine& engine) {
  const std::vector<DiskCache::Listing> entries = [&] {
    py::gil_scoped_release release;
    return engine.cache().list();
  }();
  py::list list;
  for (const DiskCache::Listing& entry : entries) list.append(py::make_tuple(entry.name, entry.bytes, entry.mtime));
  return list;
}

std::shared_ptr<Device> make_host_device(uint64_t seed, bool check_everything, int threads) {
  SimtOptions options = SimtOptions::from_environment();
  options.seed = seed;
  options.check = options.check || check_everything;
  if (threads != 0) options.threads = threads;
  return host_device(options);
}

// The texts of python/lathe/_lathe.pyi.
constexpr const char* kHostDeviceDoc = R"(The host executor: kernels run on this machine's processor.

Parameters
----------
seed : int
    Of the order of threads, blocks and late copies.
check : bool
    Find races, uninitialised reads, bad addresses and divergent barriers; slow.
threads : int
    Operating-system threads; 0: the knob LATHE_SIMT_THREADS, or the cores.

Returns
-------
Device)";

constexpr const char* kCudaDeviceDoc = R"(A GPU, through the CUDA driver.

Parameters
----------
ordinal : int
    Its number, as the driver counts.

Returns
-------
Device

Raises
------
lathe.UnavailableError
    There is no driver, it is too old, or there is no such device.)";

}  // namespace

const char* name_of(Origin origin) {
  switch (origin) {
    case Origin::memory:
      return "memory";
    case Origin::disk:
      return "disk";
    case Origin::compiled:
      break;
  }
  return "compiled";
}

void add_engine(py::module_& m) {
  py::class_<Device, std::shared_ptr<Device>> device(m, "Device", "Where kernels run; made by `host_device` and `cuda_device`.");
  device.def_property_readonly(
      "name", [](const Device& self) { return self.info().name; }, "As its maker calls it.");
  device.def_property_readonly(
      "arch", [](const Device& self) { return self.info().arch; }, "`host`, or sm_ and the compute capability.");
  device.def_property_readonly(
      "num_sms", [](const Device& self) { return self.info().num_sms; }, "Streaming multiprocessors.");
  device.def("__repr__", [](const Device& self) { return "<lathe.Device " + self.info().name + ", " + self.info().arch + ">"; });
  m.def("host_device", &make_host_device, py::arg("seed") = 0, py::arg("check") = false, py::arg("threads") = 0, Release(),
        kHostDeviceDoc);
  m.def(
      "cuda_device",
      [](int ordinal) {
        Result<std::shared_ptr<Device>> made = [&] {
          py::gil_scoped_release release;
          return cuda_device(ordinal);
        }();
        return check(std::move(made));
      },
      py::arg("ordinal") = 0, kCudaDeviceDoc);

  py::class_<Engine, std::shared_ptr<Engine>> engine(m, "Engine");
  engine.def(py::init([](bool unsafe_cuda) {
               EngineOptions options;
               options.unsafe_cuda = unsafe_cuda;
               return std::make_shared<Engine>(std::move(options));
             }),
             py::kw_only(), py::arg("unsafe_cuda") = false);
  engine.def(
      "build", [](Engine& self, const AttentionSpec& spec) { return build(self, check(request_of(spec))); }, py::arg("spec"));
  engine.def(
      "build_planner", [](Engine& self, const std::string& arch) { return build(self, attention_planner_request(arch)); },
      py::arg("arch"));
  engine.def(
      "key",
      [](const Engine& self, const AttentionSpec& spec) {
        const std::string key = check(self.key(check(request_of(spec))));
        return digest_of(std::as_bytes(std::span(key))).hex();
      },
      py::arg("spec"));
  engine.def(
      "source", [](const Engine& self, const AttentionSpec& spec) { return check(self.source(check(request_of(spec)))); },
      py::arg("spec"));
  engine.def("stats", &stats_of);
  engine.def("cache_entries", &cache_entries);
  engine.def_property_readonly("cache_root", [](const Engine& self) { return self.cache().root(); });
  engine.def_property_readonly("cache_writable", [](const Engine& self) { return self.cache().writable(); });
  engine.def_property_readonly("cache_why_off", [](const Engine& self) { return self.cache().why_off(); });
}

}  // namespace lathe::python
