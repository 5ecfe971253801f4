// The --specs argument of `lathe warm`: many specs at once.
#pragma once

#include <string>
#include <vector>

#include "spec_arg.h"

namespace lathe::cli {

struct NamedSpec {
  std::string from;  // where it stands: a file's path, or a list's path and line
  AnySpec spec;
};

/// The specs that `path` stands for: the one of JSON text, which starts with '{'; every *.json file of a folder, by name; the one
/// of a *.json file; or, for any other file, one of each line: JSON text, or the path of a file relative to the list's folder
/// (blank lines and those that start with '#' are passed over). At most 10,000. invalid_argument with the problems of all of them,
/// each after its place.
Result<std::vector<NamedSpec>> read_specs(const std::string& path);

}  // namespace lathe::cli
