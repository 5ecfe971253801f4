// What a call of prepare() may ask for.
#pragma once

namespace lathe {

/// What one call of prepare() asks for, beside its spec.
struct PrepareOptions {
  /// Whether the spec's hooks may be unsafe_cuda: text that is compiled as it stands. The engine must allow it as well
  /// (EngineOptions::unsafe_cuda); a spec never says so itself.
  bool unsafe_cuda = false;
};

}  // namespace lathe
