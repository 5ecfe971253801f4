// The built program: JSON, exit codes and messages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "lathe/base/version.h"
#include "program.h"

namespace lathe::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Json = nlohmann::json;

TEST(Command, VersionAndHelp) {
  Program lathe;
  EXPECT_EQ(lathe.run({"--version"}).out, std::string("lathe ") + version() + "\n");
  const Ran help = lathe.run({"--help"});
  EXPECT_EQ(help.exit_code, 0);
  for (const char* job : {"demo", "run", "plan", "explain", "compile", "source", "warm", "cache", "calibrate", "env", "doctor"}) {
    EXPECT_THAT(help.out, HasSubstr(job));
    const Ran of_job = lathe.run({job, "--help"});
    EXPECT_EQ(of_job.exit_code, 0) << job;
    EXPECT_THAT(of_job.out, HasSubstr("--help")) << job;
  }
}

TEST(Command, UsageErrorsEndWithTwo) {
  Program lathe;
  const std::string huge = lathe.file("huge.json", "{");
  std::filesystem::resize_file(huge, uintmax_t{100} << 20);
  const std::vector<std::vector<std::string>> wrong{{},
                                                    {"no-such-job"},
                                                    {"compile"},
                                                    {"run", "--spec", kSpec},
                                                    {"run", "--spec", kSpec, "--batch", kBatch, "--target", "tpu"},
                                                    {"run", "--spec", kSpec, "--batch", kBatch, "--seed", "x"},
                                                    {"run", "--spec", "-", "--batch", "-"},
                                                    {"cache"},
                                                    {"explain", "--spec", "/nonexistent.json"},
                                                    {"explain", "--spec", "/"},
                                                    {"explain", "--spec", huge},
                                                    {"explain", "--spec", "/dev/zero"}};
  for (const auto& args : wrong) {
    const Ran ran = lathe.run(args);
    EXPECT_EQ(ran.exit_code, 2) << ::testing::PrintToString(args) << ran.err;
    EXPECT_EQ(ran.out, "") << ::testing::PrintToString(args);
    EXPECT_NE(ran.err, "") << ::testing::PrintToString(args);
  }
}

TEST(Command, CalibrateNeedsAGpu) {
  Program lathe;
  const std::string out = lathe.file("costs.json", "as it was");
  const Ran host = lathe.run({"calibrate", "--device", "host", "--out", out});
  EXPECT_EQ(host.exit_code, 2);
  EXPECT_THAT(host.err, AllOf(HasSubstr("--device: host is the host executor"), HasSubstr("say nothing about a GPU")));
  for (const char* device : {"", "-1", "0x", "gpu", "99999999999"}) {
    const Ran ran = lathe.run({"calibrate", "--device", device, "--json"}, {{"LATHE_CUDA_DRIVER", "/nonexistent"}});
    EXPECT_EQ(ran.exit_code, 2) << device;
    EXPECT_THAT(ran.err, HasSubstr("device")) << device;
  }
  for (const char* place : {"/", "/nonexistent/costs.json"}) {
    const Ran ran = lathe.run({"calibrate", "--out", place}, {{"LATHE_CUDA_DRIVER", "/nonexistent"}});
    EXPECT_EQ(ran.exit_code, 2) << place;
    EXPECT_THAT(ran.err, HasSubstr("--out: \"" + std::string(place))) << place;
  }
  const Ran none = lathe.run({"calibrate", "--out", out, "--json"}, {{"LATHE_CUDA_DRIVER", "/nonexistent"}});
  EXPECT_EQ(none.exit_code, 1);
  EXPECT_EQ(none.out, "");
  EXPECT_THAT(none.err, AllOf(HasSubstr("unavailable"), HasSubstr("/nonexistent")));
  std::string text;
  std::getline(std::ifstream(out), text);
  EXPECT_EQ(text, "as it was");
}

TEST(Command, BadSpecsNameEveryProblem) {
  Program lathe;
  const Ran ran = lathe.run({"compile", "--json", "--spec", R"({"q_dtype":"fp32","group_size":0,"mask":"diagonal","colour":1})"});
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_EQ(ran.out, "");
  EXPECT_THAT(ran.err, AllOf(HasSubstr("q_dtype: "), HasSubstr("f16, bf16"), HasSubstr("group_size: 0"), HasSubstr("mask: "),
                             HasSubstr("colour: unknown field")));
  EXPECT_THAT(lathe.run({"explain", "--spec", R"({"head_dim_qk":24,"group_size":999})"}).err,
              AllOf(HasSubstr("head_dim_qk: 24"), HasSubstr("group_size: 999")));
  EXPECT_THAT(lathe.run({"explain", "--spec", "{\"op\":\"conv\"}"}).err, HasSubstr("allowed: attention, append, merge"));
  EXPECT_THAT(lathe.run({"explain", "--spec", R"({"op":"append","rope_dims":8})"}).err, HasSubstr("rope_dims: 8"));
  EXPECT_THAT(lathe.run({"explain", "--spec", R"({"op":"append","rope":"neox"})"}).out, HasSubstr("neox"));
  EXPECT_THAT(lathe.run({"explain", "--spec", "{\"op\":"}).err, HasSubstr("not JSON"));
  EXPECT_THAT(lathe.run({"run", "--batch", kBatch, "--spec", "{\"op\":\"merge\"}"}).err, HasSubstr("allowed: attention"));
}

TEST(Command, BadBatchesAreRefusedBeforeACompile) {
  Program lathe;
  const Ran ran = lathe.run({"run", "--spec", kSpec, "--batch", R"({"num_kv_heads":-1,"qo_lens":[1],"kv_lens":[]})"});
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_THAT(ran.err, AllOf(HasSubstr("num_kv_heads: -1"), HasSubstr("kv_lens: has 0 entries")));
  EXPECT_FALSE(std::filesystem::exists(lathe.cache()));
}

TEST(Command, RunChecksAndReportsAsJson) {
  Program lathe;
  const Ran ran = lathe.run({"run", "--spec", kSpec, "--batch", kBatch, "--seed", "7", "--check", "--json"});
  ASSERT_EQ(ran.exit_code, 0) << ran.err;
  const Json json = Json::parse(ran.out);
  EXPECT_EQ(json["passed"], true);
  EXPECT_EQ(json["seed"], 7);
  EXPECT_EQ(json["device"]["arch"], "host");
  EXPECT_EQ(json["kernel"]["origin"], "compiled");
  EXPECT_EQ(json["spec"]["head_dim_qk"], 64);
  EXPECT_EQ(json["batch"], Json::parse(kBatch));
  EXPECT_EQ(json["check"]["tensor_bound"], 5e-4);
  EXPECT_LE(json["check"]["tensor_error"], 5e-4);
  EXPECT_GT(json["check"]["row_error"], 0.0);  // it is compared with something
  EXPECT_GE(json["check"]["worst_row"]["token"], 0);
  EXPECT_GE(json["counters"]["kv_bytes_read"], json["counters"]["kv_bytes_ideal"]);
  EXPECT_GT(json["schedule"]["items"], 0);
  EXPECT_EQ(Json::parse(lathe.run({"run", "--spec", kSpec, "--batch", kBatch, "--json"}).out)["kernel"]["origin"], "disk");
}

TEST(Command, RunReportsForPeople) {
  Program lathe;
  const Ran ran = lathe.run({"run", "--spec", "-", "--batch", lathe.file("batch.json", kBatch), "--check"}, {}, kSpec);
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_THAT(ran.out,
              AllOf(HasSubstr("2 requests, 6 query tokens"), HasSubstr("Schedule"), HasSubstr("whole tensor"), HasSubstr("ok")));
}

TEST(Command, ABrokenKernelFailsTheCheck) {
  Program lathe;
  // A compiler that makes logarithms of exponentials: its kernel is loaded and runs as ever.
  const std::string compiler = lathe.file("broken-c++", R"(#!/bin/sh
for word; do case $word in --version|-dumpmachine) exec c++ "$@";; esac; done
exec c++ -Dexp2f=log2f -D__builtin_exp2f=__builtin_log2f "$@"
)");
  std::filesystem::permissions(compiler, std::filesystem::perms::owner_all);
  const Ran ran = lathe.run({"run", "--spec", kSpec, "--batch", kBatch, "--check", "--json"}, {{"LATHE_CXX", compiler}});
  ASSERT_EQ(ran.exit_code, 1) << ran.out << ran.err;
  const Json json = Json::parse(ran.out);
  EXPECT_EQ(json["passed"], false);
  EXPECT_FALSE(json["failures"].empty());
  EXPECT_THAT(ran.err, AllOf(HasSubstr("worst row: token"), HasSubstr("should be")));
}

TEST(Command, RunOnAGpuWithoutADriver) {
  Program lathe;
  const Ran ran =
      lathe.run({"run", "--spec", kSpec, "--batch", kBatch, "--target", "cuda"}, {{"LATHE_CUDA_DRIVER", "/nonexistent"}});
  EXPECT_EQ(ran.exit_code, 1);
  EXPECT_THAT(ran.err, AllOf(HasSubstr("unavailable"), HasSubstr("/nonexistent")));
}

TEST(Command, NoHostCompiler) {
  Program lathe;
  const Ran ran = lathe.run({"run", "--spec", kSpec, "--batch", kBatch}, {{"LATHE_CXX", "/nonexistent"}});
  EXPECT_EQ(ran.exit_code, 1);
  EXPECT_THAT(ran.err, AllOf(HasSubstr("LATHE_CXX"), HasSubstr("install g++")));
}

TEST(Command, CompileHasOneEntryPerArch) {
  Program lathe;
  const Ran ran =
      lathe.run({"compile", "--spec", kSpec, "--arch", "host,sm_90a,sm_75,toaster", "--json"}, {{"LATHE_NVRTC", "/nonexistent"}});
  EXPECT_NE(ran.exit_code, 0);
  const Json json = Json::parse(ran.out);
  ASSERT_EQ(json.size(), 4u);
  EXPECT_EQ(json[0]["arch"], "host");
  for (const char* field :
       {"compile_ms", "registers", "spill_bytes", "smem_bytes", "cubin_bytes", "ptx_bytes", "origin", "key", "compiler"})
    EXPECT_TRUE(json[0].contains(field)) << field;
  EXPECT_THAT(std::string(json[1]["error"]), AllOf(HasSubstr("unavailable"), HasSubstr("LATHE_NVRTC")));
  EXPECT_THAT(std::string(json[2]["error"]), HasSubstr("sm_75"));
  EXPECT_THAT(std::string(json[3]["error"]), HasSubstr("toaster"));
}

TEST(Command, CompilesEveryFamilyForGpus) {
  Program lathe;
  for (const char* spec : {kSpec, R"({"op":"merge","dtype":"bf16","head_dim":128})",
                           R"({"op":"append","kfmt":"e4m3","kscale":"token","rope":"neox"})"}) {
    const Ran ran = lathe.run({"compile", "--spec", spec, "--arch", "sm_80,sm_90a", "--json"});
    if (ran.exit_code == 1 && ran.err.find("unavailable") != std::string::npos && std::getenv("LATHE_TEST_NO_NVRTC") != nullptr)
      GTEST_SKIP() << "no NVRTC here: " << ran.err;
    ASSERT_EQ(ran.exit_code, 0) << ran.err;
    const Json json = Json::parse(ran.out);
    ASSERT_EQ(json.size(), 2u);
    for (const Json& entry : json) {
      EXPECT_EQ(entry["spill_bytes"], 0);
      EXPECT_GT(entry["registers"], 0);
      EXPECT_GT(entry["ptx_bytes"], 0);
      EXPECT_GT(entry["cubin_bytes"], 0);
    }
  }
}

TEST(Command, SourceIsTheSameForTheSameSpec) {
  Program lathe;
  const Ran host = lathe.run({"source", "--spec", kSpec}), gpu = lathe.run({"source", "--spec", kSpec, "--arch", "sm_90a"});
  EXPECT_EQ(host.exit_code, 0) << host.err;
  EXPECT_THAT(host.out, HasSubstr("attention_kernel"));
  EXPECT_EQ(host.out, lathe.run({"source", "--spec", kSpec}).out);
  EXPECT_NE(host.out, gpu.out);
  EXPECT_THAT(lathe.run({"source", "--spec", R"({"op":"merge"})"}).out, HasSubstr("merge_kernel"));
  EXPECT_EQ(lathe.run({"source", "--spec", kSpec, "--arch", "sm_12"}).exit_code, 2);
}

TEST(Command, ExplainSaysWhy) {
  Program lathe;
  const Ran ran = lathe.run({"explain", "--spec", kSpec, "--batch", kBatch, "--arch", "sm_90a"}, {{"LATHE_NVRTC", "/nonexistent"}});
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_THAT(ran.out, AllOf(HasSubstr("layout.page_size"), HasSubstr("Why: "), HasSubstr("Splits of the keys"),
                             HasSubstr("items on 132 blocks"), HasSubstr("key     none: unavailable")));
  const Ran invariant = lathe.run({"explain", "--spec", R"({"determinism":"batch_invariant"})"});
  EXPECT_THAT(invariant.out, HasSubstr("never: auto is off under batch_invariant"));
  EXPECT_EQ(lathe.run({"explain", "--spec", R"({"op":"merge"})"}).exit_code, 0);
}

TEST(Command, EnvTellsWhatIsMissing) {
  Program lathe;
  const Ran ran =
      lathe.run({"env"}, {{"LATHE_NVRTC", "/nonexistent"}, {"LATHE_CXX", "/nonexistent"}, {"LATHE_CUDA_DRIVER", "/nonexistent"}});
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_THAT(ran.out, AllOf(HasSubstr("no NVRTC"), HasSubstr("LATHE_NVRTC"), HasSubstr("none: "), HasSubstr("not in use now")));
  EXPECT_FALSE(std::filesystem::exists(lathe.cache()));  // looking makes nothing
  const Json json = Json::parse(lathe.run({"env", "--json"}, {{"LATHE_NVRTC", "/nonexistent"}, {"LATHE_DEBUG", "0"}}).out);
  EXPECT_EQ(json.at("version"), version());
  EXPECT_THAT(json.at("GPU compiler").get<std::string>(), HasSubstr("no NVRTC"));
  EXPECT_EQ(json.at("knobs").at("LATHE_DEBUG"), "0");
  EXPECT_EQ(json.at("knobs").at("LATHE_CACHE_DIR"), lathe.cache().string());
}

}  // namespace
}  // namespace lathe::testing
