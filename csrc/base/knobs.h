// The environment variables Lathe reads, all of them, in one table: README's list, `lathe env` and the readers follow from it.
#pragma once

#include <optional>
#include <span>
#include <string>

namespace lathe {

struct Knob {
  const char* name;    // "LATHE_CACHE_DIR"
  const char* values;  // what is allowed, for people
  const char* preset;  // what holds when it is unset, for people
  const char* doc;     // one sentence
};

/// Every knob, sorted by name.
std::span<const Knob> knobs();

/// The value of a knob named in the table, read now; nothing when unset or empty, or when the process runs with raised privileges
/// (secure_getenv). Asking for a name that is not in the table aborts: it is a bug.
std::optional<std::string> knob(const char* name);

/// As above for whole numbers; a value that is not one counts as unset (and is warned about once, by the log).
std::optional<long long> knob_int(const char* name);

/// True when set to anything but "0", "off", "false" or "no".
bool knob_on(const char* name);

}  // namespace lathe
