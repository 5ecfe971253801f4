// A bundle for a GPU on a machine that can compile nothing. The fake driver stands in for the GPU.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "../runtime/cubin_compiler.h"
#include "lathe/cache/bundle.h"
#include "lathe/cli/spec_arg.h"
#include "lathe/jit/nvrtc_find.h"
#include "program.h"

namespace lathe::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Environment = std::vector<std::pair<std::string, std::string>>;

/// What `lathe warm --arch sm_90a` leaves, made without NVRTC.
void warm_without_nvrtc(const std::string& bundle) {
  EngineOptions options;
  options.cache = {};
  options.cache.root = bundle;
  options.compiler = std::make_shared<CubinCompiler>();
  Engine engine(options);
  auto spec = cli::read_spec(kSpec, "sm_90a");
  ASSERT_TRUE(spec.ok()) << spec.status().to_string();
  auto request = cli::request_of(*spec);
  ASSERT_TRUE(request.ok()) << request.status().to_string();
  ASSERT_TRUE(engine.build(*request).ok());
  ASSERT_TRUE(seal_bundle(real_fs(), bundle, Trust{geteuid()}).ok());
}

class WarmDevice : public ::testing::Test {
 protected:
  void SetUp() override {
    if (find_nvrtc({}).ok()) {
      const Ran ran = lathe_.run({"warm", "--specs", lathe_.file("spec.json", kSpec), "--arch", "sm_90a", "--out", bundle_});
      ASSERT_EQ(ran.exit_code, 0) << ran.err;
    } else {
      warm_without_nvrtc(bundle_);
    }
  }

  Ran run(const Environment& more) const {
    Environment env{{"LATHE_CUDA_DRIVER", FAKE_DRIVER}, {"LATHE_JIT", "off"}, {"LATHE_NVRTC", "/nonexistent"}};
    env.insert(env.end(), more.begin(), more.end());
    return lathe_.run({"run", "--target", "cuda", "--spec", kSpec, "--batch", kBatch}, env);
  }

  Program lathe_;
  const std::string bundle_ = (lathe_.cache().parent_path() / "bundle").string();
};

TEST_F(WarmDevice, IsServedByTheBundleAlone) {
  const Ran served = run({{"LATHE_BUNDLE", bundle_}});
  EXPECT_EQ(served.exit_code, 0) << served.err;
  EXPECT_THAT(served.out, AllOf(HasSubstr("sm_90a"), HasSubstr("the disk cache"), HasSubstr("Fake GPU 0")));
  const Ran none = run({});
  EXPECT_EQ(none.exit_code, 1) << none.out;
  EXPECT_THAT(none.err,
              AllOf(HasSubstr("attention sm_90a ["), HasSubstr("LATHE_JIT=off"), HasSubstr("--arch sm_90a --out BUNDLE")));
}

// A device that dies of its first launch shows that there is one.
TEST_F(WarmDevice, IsLaunched) {
  const Ran ran = run({{"LATHE_BUNDLE", bundle_}, {"FAKE_CUDA", "lose_after=1 error=719"}});
  EXPECT_EQ(ran.exit_code, 1) << ran.out;
  EXPECT_THAT(ran.err, AllOf(HasSubstr("719"), Not(HasSubstr("LATHE_JIT=off"))));
}

TEST_F(WarmDevice, AnotherArchIsNotServed) {
  const Ran ran = run({{"LATHE_BUNDLE", bundle_}, {"FAKE_CUDA", "capability=80"}});
  EXPECT_EQ(ran.exit_code, 1) << ran.out;
  EXPECT_THAT(ran.err, AllOf(HasSubstr("attention sm_80 ["), HasSubstr("LATHE_JIT=off")));
}

TEST_F(WarmDevice, ABundleThatItsGroupMayWriteIsNotUsed) {
  fs::permissions(bundle_, fs::perms::group_write, fs::perm_options::add);
  // LATHE_CACHE_SHARED is for caches.
  for (const char* shared : {"0", "1"}) {
    const Ran ran = run({{"LATHE_BUNDLE", bundle_}, {"LATHE_CACHE_SHARED", shared}});
    EXPECT_EQ(ran.exit_code, 1) << ran.out;
    EXPECT_THAT(ran.err, AllOf(HasSubstr("a bundle is not used"), HasSubstr("its group may write it, which only a cache with"),
                               HasSubstr("chmod g-w")));
  }
  fs::permissions(bundle_, fs::perms::group_write, fs::perm_options::remove);
  EXPECT_EQ(run({{"LATHE_BUNDLE", bundle_}}).exit_code, 0);
}

}  // namespace
}  // namespace lathe::testing
