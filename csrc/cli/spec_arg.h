// The --spec argument: a spec of any family.
#pragma once

#include <string>
#include <variant>

#include "lathe/api/attention.h"
#include "lathe/jit/engine.h"
#include "lathe/plan/attention_tile.h"
#include "lathe/spec/append_spec.h"
#include "lathe/spec/attention_spec.h"
#include "lathe/spec/merge_spec.h"

namespace CLI {
class App;
}

namespace lathe::cli {

using AnySpec = std::variant<AttentionSpec, AppendSpec, MergeSpec>;

/// The spec that `argument` stands for (input.h), by its "op"; without one, attention. Read and validated; `arch`, when not empty,
/// takes the place of the spec's own.
Result<AnySpec> read_spec(const std::string& argument, const std::string& arch = {});

/// As above, for what only attention can do.
Result<AttentionSpec> read_attention_spec(const std::string& argument);

/// `spec` for another arch.
AnySpec with_arch(AnySpec spec, const std::string& arch);
const std::string& arch_of(const AnySpec& spec);
std::string text_of(const AnySpec& spec);

/// The hooks of `spec`; empty ones of an append.
const AttentionHooks& hooks_of(const AnySpec& spec);

/// Prints what is allowed but doubtful in `spec`'s hooks on standard error, a line each.
void warn_of(const AnySpec& spec);

/// What the engine is asked for `spec`, its tile resolved for its arch.
Result<KernelRequest> request_of(const AnySpec& spec, PrepareOptions options = {});

/// --unsafe-cuda, which asks for hooks with CUDA text, and opens the command's engine for them.
void add_unsafe_cuda(CLI::App& job, bool& unsafe_cuda);
EngineOptions engine_allowing(bool unsafe_cuda);

/// The tile of `spec` on its arch.
Result<AttentionTile> tile_of(const AttentionSpec& spec);

}  // namespace lathe::cli
