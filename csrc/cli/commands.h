// The jobs of the `lathe` command. Each adds its subcommand to `app`, and when that is chosen does the job and leaves the program's
// exit code in `exit_code`: 0 done, 1 the job failed, 2 its input was refused. Results go to standard output, everything else to
// standard error.
#pragma once

namespace CLI {
class App;
}

namespace lathe::cli {

void add_compile(CLI::App& app, int& exit_code);  // compile, source
void add_explain(CLI::App& app, int& exit_code);
void add_run(CLI::App& app, int& exit_code);
void add_mask(CLI::App& app, int& exit_code);
void add_plan(CLI::App& app, int& exit_code);
void add_demo(CLI::App& app, int& exit_code);
void add_warm(CLI::App& app, int& exit_code);
void add_cache(CLI::App& app, int& exit_code);
void add_calibrate(CLI::App& app, int& exit_code);
void add_env(CLI::App& app, int& exit_code);
void add_doctor(CLI::App& app, int& exit_code);

// Jobs of `lathe cache`, in files of their own.
void add_cache_why(CLI::App& cache, int& exit_code);
void add_cache_bundles(CLI::App& cache, int& exit_code);  // export, import

}  // namespace lathe::cli
