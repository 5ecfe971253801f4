// The `lathe` command.
#include <CLI/CLI.hpp>

#include "lathe/base/version.h"

int main(int argc, char** argv) {
  CLI::App app{"Lathe: attention kernels, made to measure", "lathe"};
  app.set_version_flag("--version", std::string("lathe ") + lathe::version());
  app.require_subcommand(0);
  CLI11_PARSE(app, argc, argv);
  return 0;
}
