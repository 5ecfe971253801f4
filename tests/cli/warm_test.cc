// lathe warm, and kernels from what it made alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "lathe/api/attention_planner.h"
#include "lathe/cli/warm_specs.h"
#include "program.h"

namespace lathe::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kMerge = R"({"op":"merge"})";

TEST(Warm, MakesABundleAndGoesOnWhereItWas) {
  Program lathe;
  const std::string list = lathe.file("specs.txt", std::string("# two\n") + kMerge + "\n\n  spec.json  \n");
  lathe.file("spec.json", kSpec);
  const std::string bundle = (lathe.cache().parent_path() / "bundle").string();
  const std::vector<std::string> args{"warm", "--specs", list, "--arch", "host", "--out", bundle, "--jobs", "2"};
  const Ran first = lathe.run(args);
  ASSERT_EQ(first.exit_code, 0) << first.err;
  EXPECT_THAT(first.out, AllOf(HasSubstr("3 compiled, 0 there already, 0 failed; 3 kernels"), HasSubstr("SHA-256 ")));
  EXPECT_THAT(first.err, AllOf(HasSubstr("[1/3] host "), HasSubstr("[3/3] host "))) << "with the one that plans on the device";
  EXPECT_FALSE(fs::exists(lathe.cache())) << "the cache is not touched";
  const Ran second = lathe.run(args);
  EXPECT_EQ(second.exit_code, 0) << second.err;
  EXPECT_THAT(second.out, HasSubstr("0 compiled, 3 there already, 0 failed"));
  EXPECT_EQ(first.out.substr(first.out.find("SHA-256")), second.out.substr(second.out.find("SHA-256")));

  // With nothing but the bundle, moved elsewhere, and no compiler.
  const std::string moved = (lathe.cache().parent_path() / "moved here").string();
  fs::rename(bundle, moved);
  for (const char* jit : {"off", "on"}) {
    const Ran ran = lathe.run({"run", "--check", "--spec", kSpec, "--batch", kBatch},
                              {{"LATHE_JIT", jit}, {"LATHE_BUNDLE", moved}, {"LATHE_CXX", "/nonexistent/c++"}});
    EXPECT_EQ(ran.exit_code, 0) << jit << ": " << ran.err;
  }
}

TEST(Warm, WithoutJitTheMissingKernelIsNamed) {
  Program lathe;
  const Ran ran = lathe.run({"run", "--spec", kSpec, "--batch", kBatch}, {{"LATHE_JIT", "off"}});
  EXPECT_EQ(ran.exit_code, 1);
  EXPECT_THAT(ran.err, AllOf(HasSubstr("attention host [attention f16 64/64"), HasSubstr("LATHE_JIT=off"),
                             HasSubstr("LATHE_BUNDLE=$PWD/BUNDLE")));
}

// The command that `words` name, as somebody would paste it into a shell in an empty folder.
int paste(const std::string& words, const fs::path& folder) {
  const size_t from = words.find("lathe warm"), to = words.find("; here: LATHE_BUNDLE");
  if (from == std::string::npos || to == std::string::npos) return -1;
  const std::string script =
      "cd '" + folder.string() + "' && lathe() { " LATHE_PROGRAM " \"$@\" 2>log; } && " + words.substr(from, to - from) + " >>log";
  return std::system(script.c_str());
}

TEST(Warm, TheCommandForAMissingKernelCanBePasted) {
  Program lathe;
  const fs::path folder = lathe.cache().parent_path() / "elsewhere";
  fs::create_directory(folder);
  // A spec with quotes, backslashes and line ends on its way through the shell.
  std::string spec = kSpec;
  spec.insert(1, R"("label":"it's $HOME \\ `x`","hooks":"param c: f32 in [1, 64];\nlogits = c * score;\n",)");
  const std::vector<std::string> args{"compile", "--spec", spec};
  const Ran without = lathe.run(args, {{"LATHE_JIT", "off"}});
  ASSERT_EQ(without.exit_code, 1) << without.out << without.err;
  ASSERT_EQ(paste(without.err, folder), 0) << without.err;
  const Ran with = lathe.run(args, {{"LATHE_JIT", "off"}, {"LATHE_BUNDLE", (folder / "BUNDLE").string()}});
  EXPECT_EQ(with.exit_code, 0) << with.err;
}

TEST(Warm, TheCommandForThePlannersKernelCanBePasted) {
  Program lathe;
  EngineOptions options;
  options.cache = {};
  options.cache.root = lathe.cache();
  options.jit = false;
  const KernelRequest request = attention_planner_request("host");
  const Status status = Engine(options).build(request).status();
  const fs::path folder = lathe.cache().parent_path() / "elsewhere";
  fs::create_directory(folder);
  ASSERT_EQ(paste(status.hint(), folder), 0) << status.to_string();
  options.cache.bundles = {folder / "BUNDLE"};
  const auto built = Engine(options).build(request);
  EXPECT_TRUE(built.ok()) << built.status().to_string();
}

TEST(Warm, ARunThatWasKilledGoesOn) {
  Program lathe;
  const fs::path folder = lathe.cache().parent_path(), templates = folder / "templates", busy = folder / "busy";
  const std::string bundle = (folder / "bundle").string();
  fs::copy(LATHE_TEMPLATES, templates, fs::copy_options::recursive);
  // The third kernel's compile does not end while `busy` is there.
  std::ofstream(templates / "kernels/merge/kernel.cu", std::ios::app)
      << "\nconstexpr bool kBusy = <% lse_log2 %>;\n<%# lse_log2 %>\n// WAIT_WHILE " << busy.string() << "\n<%/ lse_log2 %>\n";
  std::ofstream(busy) << "x";
  const std::string list = lathe.file("specs.txt", R"({"op":"merge","head_dim":64}
{"op":"merge","head_dim":128}
{"op":"merge","head_dim":64,"lse":"log2"}
{"op":"merge","head_dim":128,"lse":"log2"}
)");
  const std::vector<std::string> args{"warm", "--specs", list, "--arch", "sm_90a", "--out", bundle, "--jobs", "1"};
  const std::vector<std::pair<std::string, std::string>> env{{"LATHE_NVRTC", LATHE_TEST_FAKE_NVRTC},
                                                             {"LATHE_TEMPLATE_DIR", templates.string()}};
  const Ran killed = lathe.run_killed(args, env, "[2/4]");
  EXPECT_EQ(killed.exit_code, -1) << killed.out << killed.err;
  EXPECT_EQ(killed.out, "");
  fs::remove(busy);
  const Ran again = lathe.run(args, env);
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_THAT(again.out, HasSubstr("2 compiled, 2 there already, 0 failed; 4 kernels"));
  // Whole: nothing of it is compiled any more, and it is taken as a bundle.
  EXPECT_THAT(lathe.run(args, env).out, HasSubstr("0 compiled, 4 there already, 0 failed; 4 kernels"));
  EXPECT_EQ(lathe.run({"cache", "import", bundle}).exit_code, 0);
  EXPECT_THAT(lathe.run({"cache", "verify"}).out, AllOf(HasSubstr("4 sound"), HasSubstr("0 not")));
}

TEST(Warm, RefusesBeforeItCompiles) {
  Program lathe;
  const std::string bundle = (lathe.cache().parent_path() / "bundle").string();
  const std::string bad = lathe.file("bad.txt", std::string(kMerge) + "\n{\"op\":\"x\"}\nno-such-file.json\n");
  const Ran ran = lathe.run({"warm", "--specs", bad, "--out", bundle});
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_THAT(ran.err, AllOf(HasSubstr("bad.txt:2"), HasSubstr("bad.txt:3"), Not(HasSubstr("bad.txt:1"))));
  const std::string good = lathe.file("good.txt", kMerge);
  EXPECT_EQ(lathe.run({"warm", "--specs", good, "--arch", "sm_1", "--out", bundle}).exit_code, 2);
  EXPECT_EQ(lathe.run({"warm", "--specs", lathe.file("empty.txt", "# none\n"), "--out", bundle}).exit_code, 2);
  EXPECT_EQ(lathe.run({"warm", "--specs", "/nonexistent", "--out", bundle}).exit_code, 2);
  EXPECT_EQ(lathe.run({"warm", "--specs", good, "--out", bundle, "--jobs", "0"}).exit_code, 2);
  EXPECT_FALSE(fs::exists(bundle));
}

TEST(Warm, AFailedCompileIsToldAndTheOthersAreKept) {
  Program lathe;
  const std::string bundle = (lathe.cache().parent_path() / "bundle").string();
  const std::string list = lathe.file("specs.txt", kMerge);
  const Ran ran = lathe.run({"warm", "--specs", list, "--arch", "host,sm_90a", "--out", bundle}, {{"LATHE_NVRTC", "/nonexistent"}});
  EXPECT_EQ(ran.exit_code, 1);
  EXPECT_THAT(ran.out, HasSubstr("1 compiled, 0 there already, 1 failed; 1 kernel,"));
  EXPECT_THAT(ran.err, HasSubstr("failed (" + list + ":1): unavailable"));
}

TEST(WarmSpecs, AFolderAFileAndAList) {
  TempDir dir;
  fs::create_directory(dir / "specs");
  Program lathe;
  const fs::path folder = fs::path(lathe.file("b.json", kMerge)).parent_path();
  lathe.file("a.json", kSpec);
  lathe.file("notes.txt", "no spec");
  auto specs = cli::read_specs(folder.string());
  ASSERT_TRUE(specs.ok()) << specs.status().to_string();
  ASSERT_EQ(specs->size(), 2u);
  EXPECT_THAT((*specs)[0].from, HasSubstr("a.json"));
  EXPECT_EQ(cli::read_specs((folder / "b.json").string())->size(), 1u);
  EXPECT_EQ(cli::read_specs(kMerge)->size(), 1u);
  EXPECT_FALSE(cli::read_specs((folder / "notes.txt").string()).ok());
  EXPECT_FALSE(cli::read_specs((dir / "specs").string()).ok()) << "empty";
  std::string many;
  for (int i = 0; i <= 10'000; i++) many += std::string(kMerge) + "\n";
  EXPECT_THAT(cli::read_specs(lathe.file("many.txt", many)).status().message(), HasSubstr("10000"));
}

}  // namespace
}  // namespace lathe::testing
