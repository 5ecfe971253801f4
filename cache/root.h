// The cache's root directory: where it lies, and whether it may be trusted. Whoever can write an entry runs code in this process's
// name on the GPU, so a root that others could have filled is not used at all.
#pragma once

#include <optional>
#include <string>

#include "lathe/base/status.h"
#include "lathe/cache/fs.h"

namespace lathe {

/// The root by the environment, read now: LATHE_CACHE_DIR, else $XDG_CACHE_HOME/lathe, else $HOME/.cache/lathe, else .cache/lathe
/// in the home directory of the user database. Never a temporary directory. unavailable when none is set, or when the process runs
/// with raised privileges (its real and effective user differ): then the environment is another user's.
Result<std::string> default_root(Fs& fs);

/// Whose files are believed.
struct Trust {
  uid_t us = 0;         // the effective user
  bool shared = false;  // LATHE_CACHE_SHARED: the group may write, and others' files below the root are believed

  /// Why this root directory is not trusted; nothing when it is. The owner must be us or the superuser, and nobody else may write,
  /// save the group when shared.
  std::optional<std::string> objection_to_root(const struct stat& found) const;
  /// The same for a directory or file below a trusted root; when shared, any owner.
  std::optional<std::string> objection_below(const struct stat& found) const;
};

struct Root {
  Fd dir;                 // stays on this directory, whatever happens to its name
  bool writable = false;  // entries may be published here
};

/// Opens the directory at absolute `path`, which must not itself be a symlink, and checks its trust on the open descriptor. With
/// `write`, makes it and its missing parents (mode 0700, 0770 for the last one when shared). A root that may be read but not
/// written is returned with writable = false. unavailable, with the reason, for everything else.
Result<Root> open_root(Fs& fs, const std::string& path, const Trust& trust, bool write);

/// Opens (or, with `create`, makes and opens) the directory `name` in `dir` below the root. Empty with errno on failure; EPERM when
/// it is not trusted.
Fd open_below(Fs& fs, int dir, const std::string& name, const Trust& trust, bool create);

}  // namespace lathe
