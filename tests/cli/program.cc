#include "program.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

namespace lathe::testing {
namespace {

std::string text_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// This process's environment with `changes`, as NAME=value.
std::vector<std::string> environment(const std::vector<std::pair<std::string, std::string>>& changes) {
  std::vector<std::string> out;
  for (char** at = environ; *at != nullptr; ++at) {
    const std::string entry = *at, name = entry.substr(0, entry.find('='));
    bool changed = false;
    for (const auto& change : changes) changed |= change.first == name;
    if (!changed) out.push_back(entry);
  }
  for (const auto& [name, value] : changes) out.push_back(name + "=" + value);
  return out;
}

std::vector<char*> pointers(std::vector<std::string>& list) {
  std::vector<char*> out;
  for (std::string& text : list) out.push_back(text.data());
  out.push_back(nullptr);
  return out;
}

}  // namespace

Ran Program::run(const std::vector<std::string>& args, const std::vector<std::pair<std::string, std::string>>& env,
                 const std::string& input) const {
  return ended(start(args, env, input));
}

Ran Program::run_killed(const std::vector<std::string>& args, const std::vector<std::pair<std::string, std::string>>& env,
                        const std::string& until) const {
  const pid_t child = start(args, env, {});
  const auto runs = [&] {
    siginfo_t found{};
    return child > 0 && waitid(P_PID, static_cast<id_t>(child), &found, WEXITED | WNOHANG | WNOWAIT) == 0 && found.si_pid == 0;
  };
  while (runs() && text_of(folder_ / "err").find(until) == std::string::npos) usleep(1000);
  if (child > 0) kill(child, SIGKILL);  // not reaped yet, so the id is still its own
  return ended(child);
}

pid_t Program::start(const std::vector<std::string>& args, const std::vector<std::pair<std::string, std::string>>& env,
                     const std::string& input) const {
  const std::string in = file("in", input), out = file("out", ""), err = file("err", "");
  std::vector<std::pair<std::string, std::string>> changes{{"LATHE_CACHE_DIR", cache().string()}};
  changes.insert(changes.end(), env.begin(), env.end());
  std::vector<std::string> words{LATHE_PROGRAM}, variables = environment(changes);
  words.insert(words.end(), args.begin(), args.end());

  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, in.c_str(), O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, out.c_str(), O_WRONLY | O_TRUNC, 0600);
  posix_spawn_file_actions_addopen(&files, 2, err.c_str(), O_WRONLY | O_TRUNC, 0600);
  pid_t child = -1;
  if (posix_spawn(&child, LATHE_PROGRAM, &files, nullptr, pointers(words).data(), pointers(variables).data()) != 0) child = -1;
  posix_spawn_file_actions_destroy(&files);
  return child;
}

Ran Program::ended(pid_t child) const {
  Ran ran;
  int status = 0;
  if (child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status)) ran.exit_code = WEXITSTATUS(status);
  ran.out = text_of(folder_ / "out");
  ran.err = text_of(folder_ / "err");
  return ran;
}

std::string Program::file(const std::string& name, const std::string& text) const {
  std::ofstream(folder_ / name, std::ios::binary) << text;
  return (folder_ / name).string();
}

}  // namespace lathe::testing
