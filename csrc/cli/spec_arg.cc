#include "spec_arg.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "input.h"
#include "lathe/api/append.h"
#include "lathe/api/merge.h"
#include "lathe/spec/json_scan.h"
#include "lathe/spec/text.h"

namespace lathe::cli {
namespace {

constexpr size_t kMaxSpecBytes = 64 * 1024;

// Which family `text` asks for; attention when it does not say.
Result<std::string> op_of(const std::string& text) {
  if (auto problem = json_problem(text)) return invalid_argument("--spec", *problem);
  const auto root = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) return invalid_argument("--spec", "is not a JSON object");
  const auto op = root.find("op");
  if (op == root.end()) return std::string("attention");
  const std::string name = op->is_string() ? op->get<std::string>() : op->dump();
  if (name != "attention" && name != "append" && name != "merge") {
    return invalid_argument("op", fields::in_quotes(name) + " is not allowed; allowed: attention, append, merge");
  }
  return name;
}

template <class Spec>
Result<AnySpec> checked(Result<Spec> spec, const std::string& arch) {
  LATHE_TRY(spec);
  if (!arch.empty()) spec->arch = arch;
  LATHE_TRY(validate(*spec));
  return AnySpec(*std::move(spec));
}

}  // namespace

Result<AnySpec> read_spec(const std::string& argument, const std::string& arch) {
  Result<std::string> text = read_text("--spec", argument, kMaxSpecBytes);
  LATHE_TRY(text);
  Result<std::string> op = op_of(*text);
  LATHE_TRY(op);
  if (*op == "append") return checked(append_spec_from_json(*text), arch);
  if (*op == "merge") return checked(merge_spec_from_json(*text), arch);
  return checked(attention_spec_from_json(*text), arch);
}

Result<AttentionSpec> read_attention_spec(const std::string& argument) {
  Result<AnySpec> spec = read_spec(argument);
  LATHE_TRY(spec);
  if (auto* attention = std::get_if<AttentionSpec>(&*spec)) return *std::move(attention);
  return invalid_argument("op", (std::holds_alternative<MergeSpec>(*spec) ? "\"merge\"" : "\"append\"") +
                                    std::string(" is not allowed here; allowed: attention"));
}

AnySpec with_arch(AnySpec spec, const std::string& arch) {
  std::visit([&](auto& s) { s.arch = arch; }, spec);
  return spec;
}

const std::string& arch_of(const AnySpec& spec) {
  return std::visit([](const auto& s) -> const std::string& { return s.arch; }, spec);
}

std::string text_of(const AnySpec& spec) {
  return std::visit([](const auto& s) { return to_string(s); }, spec);
}

const AttentionHooks& hooks_of(const AnySpec& spec) {
  static const AttentionHooks kNone;
  if (const auto* attention = std::get_if<AttentionSpec>(&spec)) return attention->hooks;
  if (const auto* merge = std::get_if<MergeSpec>(&spec)) return merge->hooks;
  return kNone;
}

void warn_of(const AnySpec& spec) {
  for (const std::string& warning : hooks_of(spec).warnings()) std::fprintf(stderr, "lathe: warning: hooks: %s\n", warning.c_str());
}

Result<AttentionTile> tile_of(const AttentionSpec& spec) {
  Result<ArchTraits> traits = arch_traits(spec.arch);
  LATHE_TRY(traits);
  return resolve_tile(spec, *traits);
}

Result<KernelRequest> request_of(const AnySpec& spec, PrepareOptions options) {
  if (const auto* append = std::get_if<AppendSpec>(&spec)) return append_request(*append);
  if (const auto* merge = std::get_if<MergeSpec>(&spec)) return merge_request(*merge, options);
  const auto& attention = std::get<AttentionSpec>(spec);
  LATHE_TRY(validate(attention));
  Result<AttentionTile> tile = tile_of(attention);
  LATHE_TRY(tile);
  return attention_request(attention, *tile, options);
}

void add_unsafe_cuda(CLI::App& job, bool& unsafe_cuda) {
  job.add_flag("--unsafe-cuda", unsafe_cuda, "allow hooks with CUDA text, which runs as it stands: only of specs that you trust");
}

EngineOptions engine_allowing(bool unsafe_cuda) {
  EngineOptions options;
  options.unsafe_cuda = unsafe_cuda;
  return options;
}

}  // namespace lathe::cli
