// lathe run: one case of anyone's own.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "batch_arg.h"
#include "case.h"
#include "case_report.h"
#include "commands.h"
#include "input.h"
#include "spec_arg.h"
#include "table.h"

namespace lathe::cli {
namespace {

struct RunOptions {
  std::string spec, batch, target = "host";
  CaseOptions run;
  bool json = false;
};

void print_report(const CaseResult& r, bool checked) {
  fmt::print("{}{}", paragraph(lathe::to_string(r.spec), 0), paragraph(sizes_of(r.spec, r.shape), 0));
  fmt::print("\nKernel\n{}", table({{"key", r.artifact->key_hex},
                                    {"from", r.origin == Origin::disk ? "the disk cache" : tool_of(r.artifact->compiler)},
                                    {"compile", in_ms(r.artifact->compile_ms)}}));
  fmt::print("\nSchedule\n{}", schedule_text(r));
  fmt::print("\nRun\n{}", run_text(r));
  if (checked || !r.failures().empty()) fmt::print("\nCheck against the fp64 reference, seed {}\n{}", r.seed, check_text(r));
}

int run(const RunOptions& options) {
  if (options.spec == "-" && options.batch == "-")
    return fail(invalid_argument("--batch", "is - and so is --spec; only one can be"));
  Result<AttentionSpec> spec = read_attention_spec(options.spec);
  if (!spec.ok()) return fail(spec.status());
  if (options.run.check && expr::uses_cuda(spec->hooks.given()))
    return fail(invalid_argument("--check", "cannot go with hooks of unsafe_cuda: the reference evaluates expressions alone"));
  Result<testing::BatchShape> shape = read_batch_arg(*spec, options.batch);
  if (!shape.ok()) return fail(shape.status());
  warn_of(*spec);
  Result<std::shared_ptr<Device>> device = device_of(options.target);
  if (!device.ok()) return fail(device.status());
  Engine engine(engine_allowing(options.run.unsafe_cuda));
  Result<CaseResult> result = run_case(engine, *device, *spec, *shape, options.run);
  if (!result.ok()) return fail(result.status());
  if (options.json) {
    fmt::print("{}\n", to_json(*result).dump(2));
  } else {
    print_report(*result, options.run.check);
  }
  const std::vector<std::string> failures = result->failures();
  for (const std::string& failure : failures) fmt::print(stderr, "lathe: {}\n", failure);
  if (!failures.empty() && result->accuracy) fmt::print(stderr, "lathe: worst row: {}\n", result->accuracy->worst);
  return failures.empty() ? 0 : 1;
}

}  // namespace

void add_run(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<RunOptions>();
  CLI::App* job = app.add_subcommand("run", "Run one batch with random tensors, and check it.");
  job->add_option("--spec", options->spec, "the operation (docs/spec.md)")->required();
  job->add_option("--batch", options->batch, R"(lengths: {"num_kv_heads":8,"qo_lens":[1,128],"kv_lens":[300,512]})")->required();
  job->add_option("--target", options->target, "host: this machine's processor; cuda: its first GPU")
      ->check(CLI::IsMember({"host", "cuda"}))
      ->capture_default_str();
  job->add_option("--seed", options->run.seed, "of the tensors and of the order of pages")->capture_default_str();
  job->add_flag("--check", options->run.check, "compare with an fp64 reference; exit code 1 when a bound is broken");
  add_unsafe_cuda(*job, options->run.unsafe_cuda);
  job->add_flag("--json", options->json, "one JSON object instead of the report");
  job->callback([options, &exit_code] { exit_code = run(*options); });
}

}  // namespace lathe::cli
