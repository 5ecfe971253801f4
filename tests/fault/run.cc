#include "run.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <iterator>
#include <memory>

#include "lathe/jit/engine.h"
#include "lathe/jit_test_support/support.h"
#include "lathe/jit_testing/fake_compiler.h"

namespace lathe::testing {
namespace {

namespace fs = std::filesystem;

std::vector<char*> pointers(std::vector<std::string>& list) {
  std::vector<char*> out;
  for (std::string& text : list) out.push_back(text.data());
  out.push_back(nullptr);
  return out;
}

std::vector<std::string> environment(const fs::path& folder, const FaultRule* rule) {
  std::vector<std::string> out{"PATH=/usr/bin:/bin", "LC_ALL=C"};
  if (rule == nullptr) return out;
  out.push_back("LD_PRELOAD=" FAULT_SHIM);
  out.push_back("FAULT_ROOT=" + folder.string());
  out.push_back("FAULT_LOG=" + (folder / "faults.log").string());
  out.push_back("FAULT_AT=" + std::to_string(rule->fail_at));
  out.push_back("FAULT_ERRNO=" + std::to_string(rule->error));
  out.push_back(std::string("FAULT_MODE=") + (rule->always ? "always" : "once"));
  out.push_back("FAULT_KILL=" + rule->kill);
  out.push_back("FAULT_MOST=" + std::to_string(rule->most));
  return out;
}

fs::path entry_of(Engine& engine, const KernelRequest& request) {
  return engine.cache().path_of(*engine.key(request));
}

}  // namespace

void prepare_root(const fs::path& folder) {
  Engine engine(tiny_engine(std::make_shared<FakeCompiler>(), folder / "root"));
  for (int number : {0, 1, 7}) ASSERT_TRUE(engine.build(tiny_request("sm_80", number)).ok());
  const fs::path old = entry_of(engine, tiny_request("sm_80", 0)), damaged = entry_of(engine, tiny_request("sm_80", 1));
  const auto long_ago = fs::file_time_type::clock::now() - std::chrono::hours(30);
  fs::last_write_time(old, long_ago);
  fs::resize_file(damaged, fs::file_size(damaged) - 1);
  for (const char* name : {"0123456789abcdef.tmp", "00000000000000000000000000000000.bad"}) {
    const fs::path shard = folder / "root/v1/00";
    fs::create_directories(shard);
    fs::permissions(shard, fs::perms::owner_all);
    std::ofstream(shard / name) << "left behind";
    fs::last_write_time(shard / name, long_ago);
  }
}

FaultRun run_server(const fs::path& folder, uint64_t seed, const FaultRule* rule) {
  const std::string out = folder / "said";
  std::vector<std::string> words{FAULT_SERVER, folder, std::to_string(seed)}, variables = environment(folder, rule);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&files, STDOUT_FILENO, STDERR_FILENO);
  pid_t child = -1;
  FaultRun run;
  if (posix_spawn(&child, FAULT_SERVER, &files, nullptr, pointers(words).data(), pointers(variables).data()) == 0) {
    waitpid(child, &run.status, 0);
  }
  posix_spawn_file_actions_destroy(&files);
  std::ifstream said(out);
  run.said.assign(std::istreambuf_iterator<char>(said), {});
  if (rule == nullptr) return run;
  std::ifstream log(folder / "faults.log");
  for (std::string line; std::getline(log, line);) {
    run.struck |= line.find("<- ") != std::string::npos;
    run.log.push_back(line);
  }
  return run;
}

}  // namespace lathe::testing
