#include "lathe/fake_driver/cubin.h"

#include <elf.h>

#include <cstring>

namespace lathe::testing {
namespace {

// .nv.info is a list of {format, attribute, 16-bit value or payload size, payload where the format is kSized}.
constexpr uint8_t kSized = 4, kParamInfo = 0x17, kMaxThreads = 0x05;
constexpr char kPrefix[] = ".nv.info.";
constexpr unsigned kParamSizeShift = 18;  // of the last word of a kParamInfo payload

template <class T>
T load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

template <class T>
void append(std::vector<std::byte>& out, const T& value) {
  const auto* from = reinterpret_cast<const std::byte*>(&value);
  out.insert(out.end(), from, from + sizeof value);
}

CubinKernel read_info(const std::byte* at, const std::byte* end) {
  CubinKernel kernel;
  std::map<uint16_t, uint32_t> params;
  while (at + 4 <= end) {
    auto format = load<uint8_t>(at), attribute = load<uint8_t>(at + 1);
    auto bytes = load<uint16_t>(at + 2);
    const std::byte* payload = at + 4;
    at = payload + (format == kSized ? bytes : 0);
    if (at > end) break;
    if (attribute == kParamInfo) params[load<uint16_t>(payload + 4)] = load<uint32_t>(payload + 8) >> kParamSizeShift;
    if (attribute == kMaxThreads)
      kernel.max_threads = load<uint32_t>(payload) * load<uint32_t>(payload + 4) * load<uint32_t>(payload + 8);
  }
  for (auto [ordinal, size] : params) kernel.param_bytes.push_back(size);
  return kernel;
}

std::vector<std::byte> make_info(const CubinKernel& kernel) {
  std::vector<std::byte> info;
  auto head = [&](uint8_t attribute) {
    append(info, kSized);
    append(info, attribute);
    append(info, uint16_t{12});
  };
  uint16_t ordinal = 0, offset = 0;
  for (uint32_t size : kernel.param_bytes) {
    head(kParamInfo);
    append(info, uint32_t{0});
    append(info, ordinal++);
    append(info, offset);
    append(info, size << kParamSizeShift);
    offset = static_cast<uint16_t>(offset + size);
  }
  head(kMaxThreads);
  append(info, kernel.max_threads);
  append(info, uint32_t{1});
  append(info, uint32_t{1});
  return info;
}

}  // namespace

std::optional<CubinKernels> read_cubin(const void* image) {
  const auto* base = static_cast<const std::byte*>(image);
  if (image == nullptr || std::memcmp(base, ELFMAG, SELFMAG) != 0) return std::nullopt;
  auto header = load<Elf64_Ehdr>(base);
  auto section = [&](size_t i) { return load<Elf64_Shdr>(base + header.e_shoff + i * header.e_shentsize); };
  Elf64_Shdr names = section(header.e_shstrndx);
  CubinKernels kernels;
  for (size_t i = 0; i < header.e_shnum; ++i) {
    Elf64_Shdr s = section(i);
    std::string name = reinterpret_cast<const char*>(base + names.sh_offset + s.sh_name);
    if (name.rfind(kPrefix, 0) != 0) continue;
    const std::byte* info = base + s.sh_offset;
    kernels[name.substr(std::strlen(kPrefix))] = read_info(info, info + s.sh_size);
  }
  return kernels;
}

std::vector<std::byte> make_cubin(const CubinKernels& kernels) {
  std::vector<std::byte> file(sizeof(Elf64_Ehdr));
  std::vector<Elf64_Shdr> sections(1);
  std::string names(1, '\0');
  for (const auto& [name, kernel] : kernels) {
    std::vector<std::byte> info = make_info(kernel);
    Elf64_Shdr s{};
    s.sh_name = static_cast<Elf64_Word>(names.size());
    s.sh_offset = file.size();
    s.sh_size = info.size();
    sections.push_back(s);
    names += kPrefix + name + '\0';
    file.insert(file.end(), info.begin(), info.end());
  }
  Elf64_Shdr table{};
  table.sh_type = SHT_STRTAB;
  table.sh_name = 0;
  table.sh_offset = file.size();
  table.sh_size = names.size();
  sections.push_back(table);
  for (char c : names) append(file, c);

  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_machine = EM_CUDA;
  header.e_shoff = file.size();
  header.e_shentsize = sizeof(Elf64_Shdr);
  header.e_shnum = static_cast<Elf64_Half>(sections.size());
  header.e_shstrndx = static_cast<Elf64_Half>(sections.size() - 1);
  for (const Elf64_Shdr& s : sections) append(file, s);
  std::memcpy(file.data(), &header, sizeof header);
  return file;
}

}  // namespace lathe::testing
