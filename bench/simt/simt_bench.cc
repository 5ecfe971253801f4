// What the host executor's parts cost: time per matrix product, barrier and access, with and without the checks.
#include <benchmark/benchmark.h>

#include <array>
#include <cstring>
#include <map>
#include <string>

#include "lathe/jit/compiler.h"
#include "lathe/jit/render.h"
#include "lathe/runtime/device.h"

namespace lathe {
namespace {

constexpr char kTemplate[] = R"(#include "device/primitives.cuh"
using namespace dev;
struct alignas(64) Args { void* data; unsigned n; };

LATHE_KERNEL(empty, Args, 256) {}
LATHE_KERNEL(mma, Args, 256) {
  u32 a[4] = {thread_index(), 1, 2, 3};
  float d[4] = {0, 0, 0, 0};
  for (u32 i = 0; i < params.n; ++i) mma_m16n8k16<bf16>(d, a, i, i);
}
LATHE_KERNEL(ldmatrix, Args, 256) {
  const u32 t = thread_index();
  for (u32 i = 0; i < 4; ++i) shared_store_u32((t + 256 * i) * 4, t);
  block_barrier();
  u32 r[4];
  for (u32 i = 0; i < params.n; ++i) load_matrix_x4(r, lane_index() * 16);
}
LATHE_KERNEL(shuffles, Args, 256) {
  u32 x = thread_index();
  for (u32 i = 0; i < params.n; ++i) x = shuffle_xor(x, 1);
}
LATHE_KERNEL(barriers, Args, 256) {
  for (u32 i = 0; i < params.n; ++i) block_barrier();
}
LATHE_KERNEL(shared_vec16, Args, 256) {
  const u32 t = thread_index();
  shared_store_vec16(t * 16, Vec16{{0, 0, 0, 0}});
  for (u32 i = 0; i < params.n; ++i) shared_store_vec16(t * 16, shared_load_vec16(t * 16));
}
LATHE_KERNEL(global_vec16, Args, 256) {
  char* mine = static_cast<char*>(params.data) + thread_index() * 16;
  global_store_vec16(mine, Vec16{{0, 0, 0, 0}});
  for (u32 i = 0; i < params.n; ++i) global_store_vec16(mine, global_load_vec16(mine));
}
)";

constexpr uint32_t kThreads = 256, kWarps = kThreads / 32;
constexpr uint32_t kRepeats = 1000;

struct alignas(64) Args {
  void* data;
  uint32_t n;
};

ArtifactPtr artifact(const std::string& entry) {
  static const Bytes binary = [] {
    constexpr char kPath[] = "kernels/bench/kernel.cu";
    auto source = render(TemplateStore::embedded().with(kPath, kTemplate), kPath, {}, arch_traits("host")->device_folders);
    auto output = host_compiler()->compile({*source, "bench", "host"});
    return output->binary;
  }();
  auto out = std::make_shared<Artifact>();
  out->key = out->entry = entry;
  out->arch = "host";
  out->binary = binary;
  return out;
}

// Reports the time of one of `per_repeat` things that a repeat holds.
void launch(benchmark::State& state, const std::string& entry, bool check, uint32_t repeats, double per_repeat) {
  SimtOptions options;
  options.check = check;
  options.threads = 1;
  auto device = host_device(options);
  auto kernel = device->load(artifact(entry));
  if (!kernel) return state.SkipWithError(kernel.status().to_string().c_str());
  auto memory = *device->allocate(kThreads * 16);
  const Args args{memory.get(), repeats};
  std::array<std::byte, sizeof(args)> params;
  std::memcpy(params.data(), &args, sizeof(args));
  const BufferArg buffer{"data", memory.get(), kThreads * 16, BufferArg::Use::workspace};
  Launch launch;
  launch.block.x = kThreads;
  launch.shared_bytes = 16 << 10;
  launch.params = params;
  launch.buffers = {&buffer, 1};
  for (auto _ : state) {
    if (Status status = device->launch(**kernel, launch, nullptr); !status.ok()) state.SkipWithError(status.to_string().c_str());
  }
  state.counters["each"] = benchmark::Counter(static_cast<double>(state.iterations()) * repeats * per_repeat,
                                              benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

const bool registered = [] {
  struct Row {
    const char* entry;
    uint32_t repeats;
    double per_repeat;
  };
  for (const Row& row :
       {Row{"empty", 1, 1}, Row{"mma", kRepeats, kWarps}, Row{"ldmatrix", kRepeats, kWarps}, Row{"shuffles", kRepeats, kWarps},
        Row{"barriers", kRepeats, 1}, Row{"shared_vec16", kRepeats, 2 * kThreads}, Row{"global_vec16", kRepeats, 2 * kThreads}}) {
    for (const bool check : {false, true}) {
      benchmark::RegisterBenchmark((std::string(row.entry) + (check ? "/checked" : "")).c_str(), [row,
                                                                                                  check](benchmark::State& state) {
        launch(state, row.entry, check, row.repeats, row.per_repeat);
      })->Unit(benchmark::kMicrosecond);
    }
  }
  return true;
}();

}  // namespace
}  // namespace lathe
