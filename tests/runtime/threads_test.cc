// Many threads, many kernels, two devices, one cache: each kernel is compiled once and loaded once on each device.
#include <atomic>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "cuda_support.h"
#include "lathe/jit_test_support/support.h"
#include "lathe/testing/seed.h"
#include "lathe/testing/temp_dir.h"

namespace lathe::testing {
namespace {

constexpr int kThreads = 8, kKeys = 12, kRounds = 40;

// Makes files that the fake driver loads, and counts.
class CountingCompiler final : public Compiler {
 public:
  Result<std::string> identity(const std::string&) override { return std::string("nvrtc 13.0.88"); }
  Result<CompileOutput> compile(const CompileJob&) override {
    ++compiles;
    CompileOutput out;
    out.binary = make_cubin({{"tiny", {{kParamBytes}, 128}}});
    return out;
  }
  std::vector<std::string> archs() override { return {"sm_90a"}; }
  std::string describe() override { return "a fake"; }

  std::atomic<int> compiles{0};
};

using CudaThreads = CudaTest;

TEST_F(CudaThreads, CompileEachKernelOnceAndLoadItOnceOnEachDevice) {
  start({.devices = 2});
  TempDir folder;
  auto compiler = std::make_shared<CountingCompiler>();
  // Two engines, as two parts of one program have: they share no memory, but the cache.
  Engine engines[] = {Engine(tiny_engine(compiler, folder / "cache")), Engine(tiny_engine(compiler, folder / "cache"))};
  std::shared_ptr<Device> devices[] = {open(0), open(1)};
  const uint64_t first = seed();
  std::vector<std::string> complaints(kThreads);
  std::vector<std::vector<KernelPtr>> kept(kThreads);  // a kernel that nobody holds is unloaded
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(first + static_cast<uint64_t>(t));
      SampleLaunch sample;
      // The default stream is that of the thread's device; loading is on either.
      Device& own = *devices[t % 2];
      for (int i = 0; i < kRounds; ++i) {
        KernelRequest request = tiny_request("sm_90a", static_cast<int>(random() % kKeys));
        request.block_threads = sample.launch.block.x;
        request.shared_bytes = sample.launch.shared_bytes;
        const auto artifact = engines[random() % 2].build(request);
        const auto kernel = artifact.ok() ? own.load(*artifact) : Result<KernelPtr>(artifact.status());
        const Status done = kernel.ok() ? own.launch(**kernel, sample.launch, nullptr) : kernel.status();
        if (!done.ok() || (*artifact)->description != request.description) {
          complaints[static_cast<size_t>(t)] = request.description + ": " + done.to_string();
          return;
        }
        kept[static_cast<size_t>(t)].push_back(*kernel);
        if (const auto other = devices[random() % 2]->load(*artifact)) kept[static_cast<size_t>(t)].push_back(*other);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& complaint : complaints) EXPECT_EQ(complaint, "");
  EXPECT_EQ(compiler->compiles, kKeys) << "320 draws of 12 leave none out";
  EXPECT_EQ(engines[0].cache().list().size(), size_t{kKeys});
  // Of either engine's artifacts; a device knows a kernel again by its key.
  EXPECT_EQ(devices[0]->modules(), size_t{kKeys});
  EXPECT_EQ(devices[1]->modules(), size_t{kKeys});
}

}  // namespace
}  // namespace lathe::testing
