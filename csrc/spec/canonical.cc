// Canonical bytes (docs/spec.md describes the form): domain, NUL, version, then tag, length and value of every field with a tag.
// Integers are little-endian.
#include <bit>
#include <cstring>

#include "lathe/spec/fields.h"

namespace lathe {
namespace {

using namespace fields;

static_assert(std::endian::native == std::endian::little, "integers are written as they lie in memory");

class Writer {
 public:
  explicit Writer(Bytes& out) : out_(out) { out_.reserve(256); }

  void start(const char* domain, uint16_t version) {
    put(domain, std::strlen(domain) + 1);
    put(&version, sizeof(version));
  }

  template <class T, class Rule>
  void operator()(const Field& field, const T& value, const Rule&) {
    if (field.tag == 0) return;
    if constexpr (std::is_same_v<T, AttentionHooks>) {
      if (value.empty()) return;  // as before there were hooks
    }
    if constexpr (std::is_same_v<T, KvScale> || std::is_same_v<T, KvZero>) {
      if (value == T::none) return;  // as before there were scales
    }
    put(&field.tag, sizeof(field.tag));
    size_t at = out_.size();
    uint32_t length = 0;
    put(&length, sizeof(length));
    put_value(value);
    length = static_cast<uint32_t>(out_.size() - at - sizeof(length));
    std::memcpy(out_.data() + at, &length, sizeof(length));
  }

 private:
  void put(const void* data, size_t size) {
    const auto* bytes = static_cast<const std::byte*>(data);
    out_.insert(out_.end(), bytes, bytes + size);
  }

  template <class E>
  requires std::is_enum_v<E>
  void put_value(E value) {
    static_assert(sizeof(E) == 1);
    put(&value, 1);
  }
  void put_value(int32_t value) { put(&value, sizeof(value)); }
  void put_value(bool value) { put(&value, 1); }
  void put_value(const std::string& value) { put(value.data(), value.size()); }
  void put_value(const SplitSpec& value) {
    put_value(value.mode);
    put_value(value.tokens);
  }
  void put_value(const TileSpec& value) {
    put_value(value.automatic);
    put_value(value.warps);
    put_value(value.stages);
    for (const TileClass& c : value.classes) {
      put_value(c.q);
      put_value(c.kv);
    }
  }

  void put_value(const AttentionHooks& value) { put(value.key_bytes().data(), value.key_bytes().size()); }

  Bytes& out_;
};

template <class Spec>
Bytes bytes_of(const Spec& spec) {
  Bytes out;
  Writer writer(out);
  writer.start(kOp<Spec>, kVersion<Spec>);
  visit_fields(spec, writer);
  return out;
}

}  // namespace

Bytes canonical_bytes(const AttentionSpec& spec) {
  return bytes_of(spec);
}
Bytes canonical_bytes(const AppendSpec& spec) {
  return bytes_of(spec);
}
Bytes canonical_bytes(const MergeSpec& spec) {
  return bytes_of(spec);
}

}  // namespace lathe
