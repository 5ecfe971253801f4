// What validate() finds, of a spec that may have been read only in part.
#pragma once

#include <set>
#include <string_view>

#include "lathe/base/status.h"
#include "lathe/spec/append_spec.h"
#include "lathe/spec/attention_spec.h"
#include "lathe/spec/merge_spec.h"

namespace lathe::fields {

/// Paths of the fields whose value in the spec is not the caller's, because theirs could not be read.
using Unread = std::set<std::string_view>;

/// Adds every problem of `spec` that does not depend on a field in `unread`.
void add_problems(const AttentionSpec& spec, const Unread& unread, Problems& problems);
void add_problems(const AppendSpec& spec, const Unread& unread, Problems& problems);
void add_problems(const MergeSpec& spec, const Unread& unread, Problems& problems);

}  // namespace lathe::fields
