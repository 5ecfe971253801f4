#include "lathe/jit/elf_build_id.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <optional>

#include "lathe/base/bytes.h"
#include "lathe/cache/entry.h"
#include "lathe/jit/process.h"

namespace lathe {
namespace {

// A T at `offset` of `bytes`, or nothing where it does not fit.
template <class T>
std::optional<T> read_at(BytesView bytes, uint64_t offset) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) return std::nullopt;
  T out;
  std::memcpy(&out, bytes.data() + offset, sizeof(T));
  return out;
}

std::string hex(BytesView bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (std::byte b : bytes) {
    out += kDigits[std::to_integer<unsigned>(b) >> 4];
    out += kDigits[std::to_integer<unsigned>(b) & 15];
  }
  return out;
}

// The GNU build id in one segment of notes.
std::optional<std::string> build_id_in(BytesView notes) {
  constexpr uint32_t kMaxIdBytes = 64;
  uint64_t at = 0;
  while (auto note = read_at<Elf64_Nhdr>(notes, at)) {
    uint64_t name = at + sizeof(Elf64_Nhdr);
    uint64_t desc = name + round_up<uint64_t>(note->n_namesz, 4);
    uint64_t next = desc + round_up<uint64_t>(note->n_descsz, 4);
    if (next > notes.size()) return std::nullopt;
    bool gnu = note->n_namesz == 4 && std::memcmp(notes.data() + name, "GNU", 4) == 0;
    if (gnu && note->n_type == NT_GNU_BUILD_ID && note->n_descsz > 0 && note->n_descsz <= kMaxIdBytes) {
      return hex(notes.subspan(desc, note->n_descsz));
    }
    at = next;
  }
  return std::nullopt;
}

std::optional<std::string> build_id_of(BytesView file) {
  auto header = read_at<Elf64_Ehdr>(file, 0);
  if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 || header->e_ident[EI_CLASS] != ELFCLASS64) return std::nullopt;
  for (uint64_t i = 0; i < header->e_phnum; ++i) {
    auto at = checked_add<uint64_t>(header->e_phoff, i * sizeof(Elf64_Phdr));
    auto segment = at ? read_at<Elf64_Phdr>(file, *at) : std::nullopt;
    if (!segment) return std::nullopt;
    if (segment->p_type != PT_NOTE || segment->p_offset > file.size() || segment->p_filesz > file.size() - segment->p_offset)
      continue;
    if (auto id = build_id_in(file.subspan(segment->p_offset, segment->p_filesz))) return id;
  }
  return std::nullopt;
}

}  // namespace

Result<std::string> build_of_file(const std::string& path) {
  auto failed = [&] { return Status(Code::unavailable, "cannot be read", path); };
  OwnedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info {};
  if (fd.get() < 0 || fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode) || info.st_size == 0) return failed();
  auto size = static_cast<size_t>(info.st_size);
  void* map = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (map == MAP_FAILED) return failed();
  BytesView file(static_cast<const std::byte*>(map), size);
  auto id = build_id_of(file);
  std::string text = id ? "build-id " + *id : "digest " + digest_of(file).hex();
  munmap(map, size);
  return text;
}

}  // namespace lathe
