#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "case_report.h"
#include "demo.h"
#include "lathe/base/version.h"
#include "table.h"

namespace lathe::cli {
namespace {

using Json = nlohmann::ordered_json;

Json build_json(const DemoKernel::Build& build) {
  return {{"origin", name_of(build.origin)}, {"ms", build.ms}};
}

std::string range_of(const testing::BatchShape& shape, const std::vector<int32_t>& lens, bool prefill) {
  int32_t least = INT32_MAX, most = 0;
  for (size_t i = 0; i < lens.size(); ++i) {
    if ((shape.qo_lens[i] > 1) != prefill) continue;
    least = std::min(least, lens[i]);
    most = std::max(most, lens[i]);
  }
  return least == most ? std::to_string(most) : fmt::format("{} to {}", least, most);
}

std::string batch_text(const Demo& demo, const CaseResult& r) {
  const auto prefills = std::ranges::count_if(r.shape.qo_lens, [](int32_t n) { return n > 1; });
  const auto decodes = static_cast<int64_t>(r.shape.batch()) - prefills;
  std::vector<std::vector<std::string>> rows;
  if (prefills > 0) {
    rows.push_back(
        {plural(static_cast<uint64_t>(prefills), "prefill chunk"),
         range_of(r.shape, r.shape.qo_lens, true) + " query tokens, " + range_of(r.shape, r.shape.kv_lens, true) + " keys"});
  }
  if (decodes > 0) {
    rows.push_back({plural(static_cast<uint64_t>(decodes), "decode"),
                    "1 query token each, " + range_of(r.shape, r.shape.kv_lens, false) + " keys"});
  }
  std::string text = "The batch: what a serving engine has at hand in one step\n" + table(rows);
  const std::string scaled = demo.scale == 1 ? "" : fmt::format(", divided by {}", demo.scale);
  text += paragraph("Lengths: " + demo.lengths + scaled + ".");
  return text + paragraph(fmt::format("Shape of Llama 3: {} query heads on {} KV heads, head dim {}, pages of {}, {}.",
                                      r.shape.num_kv_heads * r.spec.group_size, r.shape.num_kv_heads, r.spec.head_dim_qk,
                                      r.spec.layout.page_size, lathe::name_of(r.spec.q_dtype)));
}

// Which kernels were compiled only, and why: "sm_90a, sm_80: compiled, not executed: this machine has no GPU that can be used."
std::string not_run_text(const Demo& demo) {
  std::vector<std::pair<std::string, std::string>> archs_of;  // why -> archs, in order
  for (const DemoKernel& k : demo.kernels) {
    if (!k.status.ok() || k.not_run.empty()) continue;
    if (archs_of.empty() || archs_of.back().first != k.not_run) archs_of.push_back({k.not_run, ""});
    archs_of.back().second += (archs_of.back().second.empty() ? "" : ", ") + k.arch;
  }
  std::string text;
  for (const auto& [why, archs] : archs_of) text += paragraph(archs + ": compiled, not executed: " + why + ".");
  return text;
}

std::string kernels_text(const Demo& demo) {
  std::vector<std::vector<std::string>> rows{
      {"target", "by", "first build", "disk hit", "memory hit", "binary", "on this machine"}};
  std::string skipped;
  for (const DemoKernel& k : demo.kernels) {
    if (!k.status.ok()) {
      skipped += paragraph(k.arch + " skipped: " + k.status.to_string());
      continue;
    }
    const auto cell = [](const DemoKernel::Build& b, Origin expected) {
      return in_ms(b.ms) + (b.origin == expected ? "" : std::string(" (") + name_of(b.origin) + ")");
    };
    rows.push_back({k.arch, k.arch == "host" ? "C++" : "NVRTC", cell(k.first, Origin::compiled), cell(k.second, Origin::disk),
                    cell(k.third, Origin::memory), in_bytes(k.artifact->binary.size()),
                    k.not_run.empty() ? "executed" : "compiled only"});
  }
  std::string text = "The kernels: one source, compiled for each target at run time\n";
  if (rows.size() > 1) text += table(rows);
  text += not_run_text(demo) + skipped + "\n";
  text += paragraph("GPU compiler: " + demo.gpu_compiler) + paragraph("C++ compiler: " + demo.host_compiler) +
          paragraph("GPU: " + demo.gpu);
  for (const DemoKernel& k : demo.kernels) {
    if (k.status.ok()) text += fmt::format("  key of {:<7} {}\n", k.arch, k.artifact->key_hex);
  }
  return text;
}

}  // namespace

Json to_json(const Demo& demo) {
  Json kernels = Json::array();
  for (const DemoKernel& k : demo.kernels) {
    if (!k.status.ok()) {
      kernels.push_back({{"arch", k.arch}, {"error", k.status.to_string()}});
      continue;
    }
    const Artifact& a = *k.artifact;
    kernels.push_back({{"arch", k.arch},
                       {"key", a.key_hex},
                       {"compiler", a.compiler},
                       {"compile_ms", a.compile_ms},
                       {"registers", a.registers},
                       {"spill_bytes", a.spill_bytes},
                       {"smem_bytes", a.shared_bytes},
                       {"binary_bytes", a.binary.size()},
                       {"first_build", build_json(k.first)},
                       {"second_build", build_json(k.second)},
                       {"third_build", build_json(k.third)},
                       {"executed", k.not_run.empty()},
                       {"not_run", k.not_run.empty() ? Json(nullptr) : Json(k.not_run)}});
  }
  return {{"version", version()},
          {"passed", demo.passed()},
          {"lengths", demo.lengths},
          {"scale", demo.scale},
          {"found", {{"gpu_compiler", demo.gpu_compiler}, {"host_compiler", demo.host_compiler}, {"gpu", demo.gpu}}},
          {"kernels", kernels},
          {"error", demo.status.ok() ? Json(nullptr) : Json(demo.status.to_string())},
          {"run", demo.result ? to_json(*demo.result) : Json(nullptr)},
          {"strict_run", demo.strict ? to_json(*demo.strict) : Json(nullptr)},
          {"total_ms", demo.total_ms}};
}

std::string report(const Demo& demo) {
  std::string text = fmt::format("Lathe {}: from a spec to a checked result\n\n", version());
  if (!demo.result) return text + kernels_text(demo) + "\n" + paragraph("FAILED: " + demo.status.to_string(), 0);
  const CaseResult& r = *demo.result;
  text += "The spec\n" + paragraph(lathe::to_string(r.spec)) + "\n";
  text += batch_text(demo, r) + "\n";
  text += kernels_text(demo) + "\n";
  text += "The schedule: the batch cut into work items of near equal cost\n" + schedule_text(r) + "\n";
  text += "The run\n" + run_text(r) + "\n";
  text += "The check: against attention in fp64, written apart from the kernels\n" + check_text(r) + "\n";
  if (demo.strict) {
    text += fmt::format("The strict run: the same with lengths divided by {}, every access checked\n", demo.strict_scale);
    text += strict_text(*demo.strict) + "\n";
  }
  if (!demo.status.ok()) text += paragraph("FAILED: " + demo.status.to_string(), 0);
  return text + fmt::format("{} in {}.\n", demo.passed() ? "All correct," : "FAILED,", in_ms(demo.total_ms));
}

}  // namespace lathe::cli
