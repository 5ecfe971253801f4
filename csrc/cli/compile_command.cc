// lathe compile, lathe source: what a spec becomes, without running it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "case.h"
#include "commands.h"
#include "input.h"
#include "progress.h"
#include "spec_arg.h"
#include "table.h"

namespace lathe::cli {
namespace {

using Json = nlohmann::ordered_json;

struct CompileOptions {
  std::string spec, arch;
  std::vector<std::string> archs;
  bool json = false, unsafe_cuda = false;
};

struct Compiled {
  ArtifactPtr artifact;
  Origin origin = Origin::compiled;
};

Result<Compiled> compile_for(Engine& engine, const AnySpec& spec, const std::string& arch, PrepareOptions options) {
  Result<KernelRequest> request = request_of(with_arch(spec, arch), options);
  LATHE_TRY(request);
  Progress progress("compiling for " + arch);
  Compiled out;
  Result<ArtifactPtr> artifact = engine.build(*request, &out.origin);
  LATHE_TRY(artifact);
  out.artifact = *artifact;
  return out;
}

Json entry_of(const std::string& arch, const Result<Compiled>& compiled) {
  if (!compiled.ok()) return {{"arch", arch}, {"error", compiled.status().to_string()}};
  const Artifact& a = *compiled->artifact;
  return {{"arch", arch},
          {"compile_ms", a.compile_ms},
          {"registers", a.registers},
          {"spill_bytes", a.spill_bytes},
          {"smem_bytes", a.shared_bytes},
          {"cubin_bytes", a.binary.size()},
          {"ptx_bytes", a.ptx_bytes},
          {"origin", name_of(compiled->origin)},
          {"key", a.key_hex},
          {"compiler", a.compiler}};
}

std::vector<std::string> row_of(const Compiled& compiled) {
  const Artifact& a = *compiled.artifact;
  return {a.arch,
          in_ms(a.compile_ms),
          a.arch == "host" ? "-" : std::to_string(a.registers),
          a.arch == "host" ? "-" : std::to_string(a.spill_bytes),
          in_bytes(a.shared_bytes),
          in_bytes(a.binary.size()),
          compiled.origin == Origin::disk ? "disk cache" : tool_of(a.compiler),
          a.key_hex};
}

int compile(const CompileOptions& options) {
  Result<AnySpec> spec = read_spec(options.spec);
  if (!spec.ok()) return fail(spec.status());
  warn_of(*spec);
  const std::vector<std::string> archs = options.archs.empty() ? std::vector{arch_of(*spec)} : options.archs;
  Engine engine(engine_allowing(options.unsafe_cuda));
  Json list = Json::array();
  std::vector<std::vector<std::string>> rows{{"arch", "compile", "registers", "spills", "smem", "binary", "from", "key"}};
  int exit_code = 0;
  for (const std::string& arch : archs) {
    Result<Compiled> compiled = compile_for(engine, *spec, arch, {options.unsafe_cuda});
    list.push_back(entry_of(arch, compiled));
    if (compiled.ok()) {
      rows.push_back(row_of(*compiled));
    } else {
      exit_code = std::max(exit_code, fail(compiled.status()));
    }
  }
  if (options.json) {
    fmt::print("{}\n", list.dump(2));
  } else if (rows.size() > 1) {
    fmt::print("{}", table(rows, 0));
  }
  return exit_code;
}

int source(const CompileOptions& options) {
  Result<AnySpec> spec = read_spec(options.spec, options.arch);
  if (!spec.ok()) return fail(spec.status());
  Result<KernelRequest> request = request_of(*spec, {options.unsafe_cuda});
  if (!request.ok()) return fail(request.status());
  Result<std::string> text = Engine(engine_allowing(options.unsafe_cuda)).source(*request);
  if (!text.ok()) return fail(text.status());
  fmt::print("{}", *text);
  return 0;
}

}  // namespace

void add_compile(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<CompileOptions>();
  CLI::App* job = app.add_subcommand("compile", "Compile a spec for one or more archs; no GPU is needed.");
  job->add_option("--spec", options->spec, "the operation (docs/spec.md)")->required();
  job->add_option("--arch", options->archs, "host, sm_80, sm_90a, ...; the spec's own when left out")->delimiter(',');
  job->add_flag("--json", options->json, "a JSON list, one object per arch, instead of the table");
  add_unsafe_cuda(*job, options->unsafe_cuda);
  job->callback([options, &exit_code] { exit_code = compile(*options); });

  job = app.add_subcommand("source", "Print the source that would be compiled for a spec.");
  job->add_option("--spec", options->spec, "the operation (docs/spec.md)")->required();
  job->add_option("--arch", options->arch, "in place of the spec's own");
  add_unsafe_cuda(*job, options->unsafe_cuda);
  job->callback([options, &exit_code] { exit_code = source(*options); });
}

}  // namespace lathe::cli
