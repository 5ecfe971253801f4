// lathe doctor: what works on this machine, and what to do about the rest.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <nlohmann/json.hpp>

#include "checkup.h"
#include "commands.h"
#include "lathe/base/version.h"
#include "table.h"

namespace lathe::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array kHealth{"ok", "note", "missing"};

struct DoctorOptions {
  std::string target = "any";
  bool json = false;
};

const char* word_of(Health health) {
  return kHealth[static_cast<size_t>(health)];
}

void print_json(const Checkup& checkup, bool works) {
  Json findings = Json::array();
  for (const Finding& f : checkup.findings) {
    Json row{{"part", f.part}, {"health", word_of(f.health)}, {"found", f.found}};
    if (!f.todo.empty()) row["todo"] = f.todo;
    findings.push_back(std::move(row));
  }
  const Json out{{"version", version()}, {"works", works}, {"cuda", checkup.gpu}, {"host", checkup.host}, {"findings", findings}};
  // What comes from a library or a path may be no UTF-8.
  fmt::print("{}\n", out.dump(2, ' ', false, Json::error_handler_t::replace));
}

void print_text(const Checkup& checkup) {
  for (const Finding& f : checkup.findings) {
    fmt::print("{:<8} {}: {}\n", word_of(f.health), f.part, f.found);
    if (!f.todo.empty()) fmt::print("{:<8} -> {}\n", "", f.todo);
  }
  fmt::print("\nKernels run on the GPU: {}; on the host executor: {}.\n", checkup.gpu ? "yes" : "no", checkup.host ? "yes" : "no");
}

int doctor(const DoctorOptions& options) {
  const Checkup checkup = check_up();
  const bool works = options.target == "cuda" ? checkup.gpu : options.target == "host" ? checkup.host : checkup.gpu || checkup.host;
  if (options.json) {
    print_json(checkup, works);
  } else {
    print_text(checkup);
  }
  return works ? 0 : 1;
}

}  // namespace

void add_doctor(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<DoctorOptions>();
  CLI::App* job = app.add_subcommand("doctor", "Try each part that Lathe needs, and say what to do about what is missing.");
  job->add_option("--target", options->target, "what must work for exit code 0: any, host or cuda")
      ->check(CLI::IsMember({"any", "host", "cuda"}))
      ->capture_default_str();
  job->add_flag("--json", options->json, "findings as JSON");
  job->callback([options, &exit_code] { exit_code = doctor(*options); });
}

}  // namespace lathe::cli
