// lathe-mutants [--seeds N] [--seed S] [--jobs N] [NAME...]
//
// Plants each bug of the table (all, or those named) and says which trial caught it, then holds every trial on the shipped
// templates under N seeds. Exits non-zero when a mutant escapes, when its text no longer fits the templates or does not compile, or
// when the shipped templates raise an alarm.
#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdio>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "mutants.h"
#include "trials.h"

namespace {

using namespace lathe;
using namespace lathe::testing;

struct Options {
  int seeds = 50;
  uint64_t seed = 1;
  int jobs = 2;
  std::vector<std::string> names;
};

Engine make_engine(const TemplateStore& templates) {
  EngineOptions options;
  options.cache.mode = CacheMode::off;
  options.templates = std::make_shared<const TemplateStore>(templates);
  return Engine(std::move(options));
}

std::string first_line(const std::string& text, size_t columns) {
  return text.substr(0, std::min(text.find('\n'), columns));
}

struct Report {
  std::mutex mutex;
  int done = 0, bad = 0;

  void line(bool good, const std::string& text) {
    std::lock_guard lock(mutex);
    ++done;
    if (!good) ++bad;
    std::printf("%s %s\n", good ? "ok  " : "FAIL", text.c_str());
    std::fflush(stdout);
  }
};

void try_mutant(const Mutant& mutant, uint64_t seed, Report& report) {
  Result<TemplateStore> store = plant(mutant);
  if (!store.ok()) return report.line(false, store.status().to_string());
  Engine engine = make_engine(*store);
  for (const Trial& trial : trials()) {
    Result<std::string> found = trial.hold(engine, seed);
    if (!found.ok()) return report.line(false, std::string(mutant.name) + " does not compile: " + found.status().to_string());
    if (!found->empty()) return report.line(true, std::string(mutant.name) + ": " + trial.name + ": " + first_line(*found, 140));
  }
  report.line(false, std::string(mutant.name) + " escaped");
}

void hold_shipped(const Trial& trial, uint64_t seed, int seeds, Report& report) {
  Engine engine = make_engine(TemplateStore::embedded());
  for (int i = 0; i < seeds; ++i) {
    const uint64_t s = seed + static_cast<uint64_t>(i);
    Result<std::string> found = trial.hold(engine, s);
    if (!found.ok()) return report.line(false, std::string("shipped templates: ") + found.status().to_string());
    if (!found->empty()) {
      return report.line(false, std::string("false alarm: ") + trial.name + ", seed " + std::to_string(s) + ": " + *found);
    }
  }
  report.line(true, std::string("shipped templates: ") + trial.name + " quiet under " + std::to_string(seeds) + " seeds");
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Planted bugs: every one must be caught.", "lathe-mutants");
  app.add_option("--seeds", options.seeds, "seeds under which the shipped templates must be quiet")->check(CLI::Range(1, 1000));
  app.add_option("--seed", options.seed, "first seed");
  app.add_option("--jobs", options.jobs, "threads")->check(CLI::Range(1, 64));
  app.add_option("names", options.names, "mutants to plant; all when left out");
  CLI11_PARSE(app, argc, argv);

  std::vector<std::function<void(Report&)>> work;
  for (const Mutant& mutant : mutants()) {
    const bool chosen =
        options.names.empty() || std::find(options.names.begin(), options.names.end(), mutant.name) != options.names.end();
    if (chosen) work.push_back([&](Report& report) { try_mutant(mutant, options.seed, report); });
  }
  const size_t planted = work.size();
  if (planted == 0) return std::fprintf(stderr, "no mutant of that name\n"), 2;
  if (options.names.empty()) {
    for (const Trial& trial : trials()) {
      work.push_back([&](Report& report) { hold_shipped(trial, options.seed, options.seeds, report); });
    }
  }

  Report report;
  std::atomic<size_t> next{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < options.jobs; ++i) {
    threads.emplace_back([&] {
      for (size_t mine = next++; mine < work.size(); mine = next++) work[mine](report);
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::printf("%zu mutants planted, seed %llu\n%d passed, %d failed\n", planted, static_cast<unsigned long long>(options.seed),
              report.done - report.bad, report.bad);
  return report.bad == 0 ? 0 : 1;
}
