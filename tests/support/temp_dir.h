// A temporary folder that outlives a failed test.
#pragma once

#include <filesystem>

namespace lathe::testing {

/// Makes a fresh folder, private to this user; on destruction removes it, unless the running test has failed: then it stays and its
/// path is printed. Not copyable; one test owns it.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::filesystem::path& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

/// Makes temporary folders of this program on a file system in memory, where there is one: some disk file systems flush each file
/// that is replaced, which is slow and seldom tests anything.
void prefer_memory_disk();

}  // namespace lathe::testing
