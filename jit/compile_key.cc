#include "lathe/jit/compile_key.h"

#include <algorithm>
#include <span>

namespace lathe {
namespace {

constexpr std::string_view kDomain = "lathe kernel";

void put_length(std::string& out, size_t length) {
  for (int shift = 0; shift < 32; shift += 8) out += static_cast<char>(length >> shift & 0xff);
}

void put(std::string& out, std::string_view name, std::string_view value) {
  put_length(out, name.size());
  out += name;
  put_length(out, value.size());
  out += value;
}

std::optional<std::string_view> take(std::string_view& in) {
  if (in.size() < 4) return std::nullopt;
  size_t length = 0;
  for (size_t i = 0; i < 4; ++i) length |= size_t{static_cast<unsigned char>(in[i])} << 8 * i;
  in.remove_prefix(4);
  if (length > in.size()) return std::nullopt;
  std::string_view value = in.substr(0, length);
  in.remove_prefix(length);
  return value;
}

std::string printed(std::string_view value) {
  bool text = std::all_of(value.begin(), value.end(), [](char c) { return c >= ' ' && c <= '~'; });
  if (text) return std::string(value);
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex = "0x";
  for (unsigned char c : value) (hex += kDigits[c >> 4]) += kDigits[c & 15];
  return hex;
}

}  // namespace

std::string compile_key(const KernelRequest& request, std::string_view source, std::string_view compiler) {
  std::string key = compile_key_prefix(request, source);
  put(key, "compiler", compiler);
  return key;
}

std::string compile_key_prefix(const KernelRequest& request, std::string_view source) {
  std::string key;
  put(key, "domain", kDomain);
  put(key, "codegen", std::to_string(kCodegenVersion));
  put(key, "family", request.family);
  put(key, "entry", request.entry);
  put(key, "arch", request.arch);
  put(key, "block_threads", std::to_string(request.block_threads));
  put(key, "shared_bytes", std::to_string(request.shared_bytes));
  put(key, "canonical", {reinterpret_cast<const char*>(request.canonical.data()), request.canonical.size()});
  put(key, "source_bytes", std::to_string(source.size()));
  put(key, "source_xxh3", digest_of(std::as_bytes(std::span(source))).hex());
  return key;
}

std::optional<std::vector<KeyField>> key_fields(std::string_view key) {
  std::vector<KeyField> fields;
  while (!key.empty()) {
    auto name = take(key);
    auto value = name ? take(key) : std::nullopt;
    if (!value) return std::nullopt;
    fields.push_back({printed(*name), printed(*value)});
  }
  return fields;
}

std::optional<std::string_view> key_bytes(std::string_view key, std::string_view name) {
  while (auto found = take(key)) {
    auto value = take(key);
    if (!value || *found == name) return value;
  }
  return std::nullopt;
}

std::string key_text(std::string_view key) {
  const auto fields = key_fields(key);
  if (!fields) return "not a key of a kernel\n";
  std::string text;
  for (const KeyField& field : *fields) text += field.name + ": " + field.value + "\n";
  return text;
}

}  // namespace lathe
