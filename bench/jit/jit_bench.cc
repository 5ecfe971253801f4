// What it costs to get a kernel: compiled cold, from the disk cache, from memory, from a prepared handle. Prints a table and writes
// bench/results/jit-<machine>-<date>.json; a first argument names another folder.
#include <fmt/format.h>
#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <thread>

#include "lathe/api/lathe.h"

namespace lathe {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

constexpr int kColdRuns = 9;
constexpr int kDiskRuns = 25;
constexpr int kHotRuns = 15, kHotCalls = 20000;

struct Row {
  std::string what;
  double median_us = 0, limit_us = 0;  // limit 0: none
  int runs = 0;
};

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

/// Median over `runs` of the microseconds that one of `calls` calls takes.
double time_us(int runs, int calls, const std::function<void()>& call) {
  std::vector<double> each;
  for (int i = 0; i < runs; ++i) {
    const auto start = Clock::now();
    for (int c = 0; c < calls; ++c) call();
    each.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count() / calls);
  }
  return median(each);
}

AttentionSpec example() {
  return {.group_size = 4, .mask = Mask::causal, .lse = LseOut::ln};  // head dim 128, bf16, pages of 16
}

KernelRequest request_for(AttentionSpec spec, const std::string& arch, bool one_class) {
  spec.arch = arch;
  if (one_class) spec.tile = {.automatic = false, .warps = 8, .stages = 2, .classes = {{128, 64}}};
  return must(attention_request(spec, must(resolve_tile(spec, must(arch_traits(arch))))));
}

EngineOptions without_disk(std::shared_ptr<Compiler> compiler) {
  EngineOptions options;
  options.cache.mode = CacheMode::off;
  options.compiler = std::move(compiler);
  return options;
}

/// Every run has an engine of its own, so nothing is known but to the compiler's worker, which is warm.
Row cold(const std::shared_ptr<Compiler>& compiler, const std::string& arch, bool one_class) {
  const KernelRequest request = request_for(example(), arch, one_class);
  const auto build = [&] { must(Engine(without_disk(compiler)).build(request)); };
  build();
  return {fmt::format("cold, {}, {}", arch, one_class ? "one tile class" : "two tile classes"), time_us(kColdRuns, 1, build),
          one_class ? 450e3 : 800e3, kColdRuns};
}

Row from_disk(const std::shared_ptr<Compiler>& compiler, const std::string& folder) {
  EngineOptions options;
  options.cache.root = folder;
  options.compiler = compiler;
  const KernelRequest request = request_for(example(), "sm_90a", false);
  must(Engine(options).build(request));
  const auto build = [&] {
    Origin origin = Origin::compiled;
    must(Engine(options).build(request, &origin));
    if (origin != Origin::disk) throw Error({Code::internal, "the entry was not taken from the disk cache"});
  };
  return {"hit on disk by a new engine, sm_90a", time_us(kDiskRuns, 1, build), 0, kDiskRuns};
}

std::vector<Row> hot(const std::shared_ptr<Compiler>& compiler) {
  Engine engine(without_disk(compiler));
  const Attention attention = must(Attention::prepare(engine, host_device(), example()));
  const KernelRequest request = request_for(example(), "host", false);
  const AttentionSpec spec = example();
  const Artifact* volatile kernel = nullptr;
  volatile size_t bytes = 0;
  std::vector<Row> rows;
  const auto add = [&](const char* what, double limit_us, const std::function<void()>& call) {
    rows.push_back({what, time_us(kHotRuns, kHotCalls, call), limit_us, kHotRuns});
  };
  add("kernel of a prepared handle", 1, [&] { kernel = attention.kernel().artifact().get(); });
  add("hit in memory, Engine::build of a prepared request", 0, [&] { kernel = must(engine.build(request)).get(); });
  add("canonical key of a spec", 5, [&] { bytes = canonical_bytes(spec).size(); });
  return rows;
}

std::string first_match(const char* file, const std::string& name) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(name)) return line.substr(std::min(line.find(": ") + 2, line.size()));
  }
  return "unknown";
}

std::string first_line(const char* file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

/// Lower case, with every run of other characters as one dash.
std::string slug(const std::string& text) {
  std::string out;
  for (char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    const bool upper = c >= 'A' && c <= 'Z';
    if (plain || upper) {
      out += static_cast<char>(upper ? c - 'A' + 'a' : c);
    } else if (!out.empty() && out.back() != '-') {
      out += '-';
    }
  }
  while (out.ends_with('-')) out.pop_back();
  return out;
}

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[16];
  std::strftime(text, sizeof text, "%Y-%m-%d", &parts);
  return text;
}

/// Throws Error when something cannot be compiled.
void run(const std::filesystem::path& folder) {
  const std::shared_ptr<Compiler> compiler = default_compiler();
  const std::string cpu = first_match("/proc/cpuinfo", "model name");
  const unsigned cores = std::thread::hardware_concurrency();
  fmt::print("{}, {} cores, load {}\n{}\n", cpu, cores, first_line("/proc/loadavg"), compiler->describe());

  std::vector<Row> rows;
  for (const char* arch : {"sm_80", "sm_90a"}) {
    for (bool one_class : {true, false}) rows.push_back(cold(compiler, arch, one_class));
  }
  std::string cache = (std::filesystem::temp_directory_path() / "lathe-bench-XXXXXX").string();
  if (mkdtemp(cache.data()) == nullptr) throw Error({Code::unavailable, "cannot make " + cache, "TMPDIR"});
  rows.push_back(from_disk(compiler, cache + "/cache"));
  std::filesystem::remove_all(cache);
  std::ranges::move(hot(compiler), std::back_inserter(rows));

  Json list = Json::array();
  for (const Row& row : rows) {
    const char* verdict = row.limit_us == 0 ? "" : row.median_us <= row.limit_us ? "within" : "OVER";
    fmt::print("{:<52} {:>12.2f} us  {} {}\n", row.what, row.median_us, verdict,
               row.limit_us == 0 ? "" : fmt::format("{:.0f} us", row.limit_us));
    Json entry{{"what", row.what}, {"median_us", row.median_us}, {"runs", row.runs}};
    if (row.limit_us != 0) entry["limit_us"] = row.limit_us;
    list.push_back(entry);
  }
  const Json result{{"machine", {{"cpu", cpu}, {"cores", cores}, {"load", first_line("/proc/loadavg")}}},
                    {"date", today()},
                    {"compiler", must(compiler->identity("sm_90a"))},
                    {"rows", list}};
  std::filesystem::create_directories(folder);
  const std::filesystem::path file = folder / fmt::format("jit-{}-{}.json", slug(cpu), today());
  std::ofstream(file) << result.dump(2) << "\n";
  fmt::print("written to {}\n", file.string());
}

}  // namespace
}  // namespace lathe

int main(int argc, char** argv) {
  try {
    lathe::run(argc > 1 && argv[1][0] != '-' ? argv[1] : LATHE_RESULTS_DIR);
  } catch (const std::exception& error) {
    fmt::print(stderr, "jit_bench: {}\n", error.what());
    return 1;
  }
}
