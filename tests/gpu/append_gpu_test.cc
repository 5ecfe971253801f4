// Appending to a cache on a GPU, against the fp64 reference.
#include "gpu.h"
#include "lathe/proof/append_case.h"
#include "lathe/proof/harness.h"
#include "lathe/spec_testing/random_spec.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

class GpuAppend : public GpuTest {
 protected:
  Append prepared(AppendSpec spec) {
    spec.arch = device->info().arch;
    Result<Append> append = Append::prepare(engine(), device, spec);
    EXPECT_TRUE(append.ok()) << append.status().to_string();
    return *std::move(append);
  }
};

TEST_F(GpuAppend, RandomSpecs) {
  std::mt19937_64 rng(seed());
  for (int i = 0; i < 20; ++i) {
    const AppendSpec spec = random_append_spec(rng);
    const Append append = prepared(spec);
    for (int n = 0; n < 4; ++n) ASSERT_EQ(AppendCase(spec, rng).run(device, append), "") << to_json(spec);
  }
}

TEST_F(GpuAppend, EveryValueOf16Bits) {
  std::mt19937_64 rng(seed());
  for (const DType dtype : {DType::f16, DType::bf16}) {
    for (const DType format : {DType::e4m3, DType::e5m2, DType::i8}) {
      AppendSpec spec;
      spec.q_dtype = dtype;
      spec.kfmt = spec.vfmt = format;
      EXPECT_EQ(AppendCase::all_values(spec, rng).run(device, prepared(spec)), "") << to_json(spec);
    }
  }
}

}  // namespace
}  // namespace lathe::testing
