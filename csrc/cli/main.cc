// The `lathe` command.
#include <CLI/CLI.hpp>

#include "lathe/base/version.h"
#include "lathe/cli/commands.h"

int main(int argc, char** argv) {
  CLI::App app{"Attention kernels made to measure: compiled at run time, scheduled, checked.", "lathe"};
  app.set_version_flag("--version", std::string("lathe ") + lathe::version());
  app.footer(
      "Specs and batches: a file, JSON text itself when it starts with '{', or - for standard input.\n"
      "Exit codes: 0 done, 1 the job failed, 2 the input was refused.");
  app.require_subcommand(1);
  int exit_code = 0;
  lathe::cli::add_demo(app, exit_code);
  lathe::cli::add_run(app, exit_code);
  lathe::cli::add_explain(app, exit_code);
  lathe::cli::add_mask(app, exit_code);
  lathe::cli::add_plan(app, exit_code);
  lathe::cli::add_compile(app, exit_code);
  lathe::cli::add_warm(app, exit_code);
  lathe::cli::add_cache(app, exit_code);
  lathe::cli::add_calibrate(app, exit_code);
  lathe::cli::add_env(app, exit_code);
  lathe::cli::add_doctor(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return exit_code;
}
