// From the hooks of a spec to what the engine compiles of them.
#pragma once

#include <string>

#include "lathe/api/prepare_options.h"
#include "lathe/base/status.h"
#include "lathe/jit/engine.h"
#include "lathe/spec/attention_hooks.h"

namespace lathe {

/// Has `request` print `hooks` as the file `path` of templates. Refuses those with unsafe_cuda unless `options` ask for it, and
/// marks the request where there is some.
Status print_hooks(const AttentionHooks& hooks, PrepareOptions options, const std::string& path, KernelRequest& request);

}  // namespace lathe
