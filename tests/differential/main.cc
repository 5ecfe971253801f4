// lathe-fuzz [--cases N] [--specs M] [--layouts L] [--seed S] [--jobs J] [--kind KIND [--case I]]
//
// Random cases, each judged by another way to the same result: N expressions and as many refusals as a tenth of that, without
// compiling, then M specs and L layouts of chosen keys on the host executor. Every case hangs on the seed and its number alone.
// Stops at the first that fails, with the line that repeats it, and exits 1.
#include <CLI/CLI.hpp>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "cases.h"
#include "lathe/proof/harness.h"

namespace {

using namespace lathe::testing;

struct Kind {
  const char* name;
  const char* plural;
  std::string (*run)(uint64_t seed);
};
constexpr std::array kKinds{Kind{"expression", "expressions", expression_case}, Kind{"refusal", "refusals", refusal_case},
                            Kind{"spec", "specs", spec_case}, Kind{"layout", "layouts", layout_case}};

constexpr int64_t kMost = int64_t{1} << 40;  // cases

struct Options {
  int64_t cases = 100'000, specs = -1, layouts = -1;
  std::optional<uint64_t> seed;
  int jobs = 2;
  std::string kind;
  int64_t only = -1;
};

uint64_t seed_of(uint64_t seed, size_t kind, int64_t index) {
  return mix(mix(seed, kind), static_cast<uint64_t>(index));
}

/// Cases [0, count) of one kind on `jobs` threads; false when one failed.
bool run(size_t kind, int64_t count, uint64_t seed, int jobs) {
  using Clock = std::chrono::steady_clock;
  constexpr std::chrono::seconds kEvery(30);
  const Kind& what = kKinds[kind];
  const auto start = Clock::now();
  std::atomic<int64_t> next{0}, done{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  auto said = start;
  const auto work = [&] {
    for (int64_t i = next++; i < count && !failed; i = next++) {
      const std::string wrong = what.run(seed_of(seed, kind, i));
      ++done;
      const std::lock_guard lock(mutex);
      if (!wrong.empty() && !failed.exchange(true)) {
        std::printf("FAIL %s case %lld\n%s\nrepeat: lathe-fuzz --seed %llu --kind %s --case %lld\n", what.name,
                    static_cast<long long>(i), wrong.c_str(), static_cast<unsigned long long>(seed), what.name,
                    static_cast<long long>(i));
      } else if (Clock::now() - said > kEvery) {
        said = Clock::now();
        std::printf("%lld of %lld %s\n", static_cast<long long>(done), static_cast<long long>(count), what.plural);
      }
      std::fflush(stdout);
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < jobs; ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  if (failed) return false;
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  std::printf("%lld %s, %.1f s: clean\n", static_cast<long long>(count), what.plural, seconds);
  std::fflush(stdout);
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Random cases, each judged by another way to the same result.", "lathe-fuzz");
  app.add_option("--cases", options.cases, "expressions; refusals are a tenth of them")->check(CLI::Range(int64_t{0}, kMost));
  app.add_option("--specs", options.specs, "specs on the host executor; a fiftieth of the cases when left out")
      ->check(CLI::Range(int64_t{0}, kMost));
  app.add_option("--layouts", options.layouts, "layouts of chosen keys; a two-hundredth of the cases when left out")
      ->check(CLI::Range(int64_t{0}, kMost));
  app.add_option("--seed", options.seed, "of everything; drawn when left out");
  app.add_option("--jobs", options.jobs, "threads")->check(CLI::Range(1, 64));
  CLI::Option* kind = app.add_option("--kind", options.kind, "with --case: which kind")
                          ->check(CLI::IsMember({"expression", "refusal", "spec", "layout"}));
  app.add_option("--case", options.only, "with --kind: this case alone")->check(CLI::Range(int64_t{0}, kMost))->needs(kind);
  CLI11_PARSE(app, argc, argv);

  const uint64_t seed = options.seed ? *options.seed : std::random_device{}();
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  std::fflush(stdout);
  for (size_t i = 0; i < kKinds.size(); ++i) {
    if (options.kind != kKinds[i].name) continue;
    if (options.only < 0) return run(i, options.cases, seed, options.jobs) ? 0 : 1;
    const std::string wrong = kKinds[i].run(seed_of(seed, i, options.only));
    std::printf("%s\n", wrong.empty() ? "clean" : wrong.c_str());
    return wrong.empty() ? 0 : 1;
  }
  const std::array counts{options.cases, (options.cases + 9) / 10, options.specs >= 0 ? options.specs : options.cases / 50,
                          options.layouts >= 0 ? options.layouts : options.cases / 200};
  for (size_t i = 0; i < kKinds.size(); ++i) {
    if (!run(i, counts[i], seed, options.jobs)) return 1;
  }
  return 0;
}
