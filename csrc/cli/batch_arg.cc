#include "batch_arg.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "input.h"
#include "lathe/base/bytes.h"
#include "lathe/spec/json_scan.h"
#include "lathe/spec/text.h"

namespace lathe::cli {
namespace {

constexpr size_t kMaxBatchBytes = size_t{4} << 20;
constexpr size_t kMaxRequests = 65536;
constexpr size_t kListed = 8;  // problems of one list that are told one by one
constexpr std::array kKeys{"num_kv_heads", "qo_lens", "kv_lens", "window", "sm_scale", "soft_cap"};

std::string text_of(const nlohmann::json& node) {
  return fields::shown(node.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

class Reader {
 public:
  Reader(const nlohmann::json& root, Problems& problems) : root_(root), problems_(problems) {}

  void check_keys() {
    size_t unknown = 0;
    for (const auto& [key, value] : root_.items()) {
      if (std::ranges::find(kKeys, key) != kKeys.end() || ++unknown > kListed) continue;
      problems_.add(fields::shown(key), "unknown field; allowed: num_kv_heads, qo_lens, kv_lens, window, sm_scale, soft_cap");
    }
    if (unknown > kListed) problems_.add("batch", std::to_string(unknown - kListed) + " more unknown fields");
  }

  void integer(const std::string& name, const nlohmann::json& node, int64_t min, int32_t& value) {
    const bool fits = node.is_number_unsigned()  ? node.get<uint64_t>() <= INT32_MAX
                      : node.is_number_integer() ? node.get<int64_t>() >= INT32_MIN
                                                 : false;
    if (fits && node.get<int64_t>() >= min) {
      value = node.get<int32_t>();
    } else {
      problems_.add(name, text_of(node) + " is not allowed; allowed: whole numbers " + std::to_string(min) + "..2147483647");
    }
  }

  void lengths(const char* name, std::vector<int32_t>& out) {
    const nlohmann::json* node = required(name);
    if (node == nullptr) return;
    if (!node->is_array() || node->empty() || node->size() > kMaxRequests) {
      problems_.add(name, (node->is_array() ? "has " + std::to_string(node->size()) + " entries" : "is " + text_of(*node)) +
                              "; allowed: a list of 1.." + std::to_string(kMaxRequests) + " lengths");
      return;
    }
    out.resize(node->size());
    const size_t before = problems_.size();
    for (size_t i = 0; i < out.size() && problems_.size() < before + kListed; ++i) {
      integer(std::string(name) + "[" + std::to_string(i) + "]", (*node)[i], 0, out[i]);
    }
  }

  void positive(const char* name, const nlohmann::json& node, float& value) {
    const double number = node.is_number() ? node.get<double>() : 0;
    value = static_cast<float>(number);
    if (!(value > 0) || !std::isfinite(value)) {
      problems_.add(name, text_of(node) + " is not allowed; allowed: finite numbers above 0");
    }
  }

  const nlohmann::json* find(const char* name) const {
    const auto at = root_.find(name);
    return at == root_.end() ? nullptr : &*at;
  }
  const nlohmann::json* required(const char* name) {
    const nlohmann::json* node = find(name);
    if (node == nullptr) problems_.add(name, "is missing");
    return node;
  }

 private:
  const nlohmann::json& root_;
  Problems& problems_;
};

// Arguments whose presence the spec decides.
void read_options(const AttentionSpec& spec, Reader& reader, testing::BatchShape& shape, Problems& problems) {
  const nlohmann::json* window = reader.find("window");
  if (spec.windowed() && window == nullptr) {
    problems.add("window", std::string("is missing; the spec's mask is ") + name_of(spec.mask) + ", which needs its width, >= 1");
  } else if (!spec.windowed() && window != nullptr) {
    problems.add("window", std::string("is given, but the spec's mask is ") + name_of(spec.mask) + ", which has no window");
  } else if (window != nullptr) {
    reader.integer("window", *window, 1, shape.window);
  }
  const nlohmann::json* cap = reader.find("soft_cap");
  if (spec.soft_cap && cap == nullptr) {
    problems.add("soft_cap", "is missing; the spec has soft_cap, which needs its value, > 0");
  } else if (!spec.soft_cap && cap != nullptr) {
    problems.add("soft_cap", "is given, but the spec has no soft_cap");
  } else if (cap != nullptr) {
    reader.positive("soft_cap", *cap, shape.soft_cap);
  }
  if (const nlohmann::json* scale = reader.find("sm_scale")) reader.positive("sm_scale", *scale, shape.sm_scale);
}

// What no single field says wrong.
void check_sizes(const AttentionSpec& spec, const testing::BatchShape& shape, Problems& problems) {
  const int64_t heads = int64_t{shape.num_kv_heads} * spec.group_size;
  if (heads > INT32_MAX) {
    problems.add("num_kv_heads", "times group_size is " + std::to_string(heads) + " query heads, must be below 2^31");
  }
  for (const auto& [name, total] : {std::pair{"qo_lens", shape.qo_tokens()}, std::pair{"kv_lens", shape.kv_tokens()}}) {
    if (total >= INT32_MAX) problems.add(name, "sum to " + std::to_string(total) + " tokens, must be below 2^31 - 1");
  }
  if (!problems.empty()) return;
  const int64_t needed = memory_needed(spec, shape);
  if (needed > kMaxBatchMemory) {
    problems.add("batch", "needs about " + (needed == INT64_MAX ? "2^63" : std::to_string(needed >> 20) + " MiB") +
                              " of memory to build, run and check; allowed: at most " + std::to_string(kMaxBatchMemory >> 20) +
                              " MiB");
  }
}

}  // namespace

int64_t memory_needed(const AttentionSpec& spec, const testing::BatchShape& shape) {
  // Numbers of a tensor exist as drawn, as laid out, in device memory, and as read back; results also as doubles of the reference,
  // with their spread.
  constexpr int64_t kCopies = 5, kElementBytes = 2, kReferenceBytes = 16;
  const int64_t page = spec.layout.kind == LayoutKind::paged ? spec.layout.page_size : 1;
  const auto batch = static_cast<int64_t>(shape.batch());
  int64_t slots = 4 * page, longest = 0;
  for (int32_t n : shape.kv_lens) {
    slots += round_up<int64_t>(n, page);
    longest = std::max<int64_t>(longest, n);
  }
  const int64_t dims = int64_t{spec.head_dim_qk} + spec.head_dim_vo;
  const auto sum = [](std::optional<int64_t> a, std::optional<int64_t> b) { return a && b ? checked_add(*a, *b) : std::nullopt; };
  const auto product = [](std::optional<int64_t> a, int64_t b) { return a ? checked_mul(*a, b) : std::nullopt; };
  const auto rows = product(shape.qo_tokens() + 2, int64_t{shape.num_kv_heads} * spec.group_size);
  const auto queries = product(rows, dims * kElementBytes * kCopies + spec.head_dim_vo * kReferenceBytes);
  const auto keys = product(product(slots, shape.num_kv_heads), dims * kElementBytes * kCopies);
  const bool table = spec.layout.kind == LayoutKind::paged && spec.layout.index == PageIndex::table;
  const auto entries = product(table ? batch * (ceil_div(longest, page) + 1) : ceil_div(slots, page), 4 * kCopies);
  return sum(sum(queries, keys), entries).value_or(INT64_MAX);
}

Result<testing::BatchShape> batch_from_json(const AttentionSpec& spec, std::string_view json) {
  if (json.size() > kMaxBatchBytes) {
    return invalid_argument("batch", "is longer than " + std::to_string(kMaxBatchBytes) + " bytes, the most that is read");
  }
  if (auto problem = json_problem(json)) return invalid_argument("batch", *problem);
  const nlohmann::json root = nlohmann::json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) return invalid_argument("batch", text_of(root) + " is not allowed; allowed: a JSON object");

  Problems problems;
  testing::BatchShape shape;
  Reader reader(root, problems);
  reader.check_keys();
  if (const nlohmann::json* heads = reader.required("num_kv_heads")) reader.integer("num_kv_heads", *heads, 1, shape.num_kv_heads);
  reader.lengths("qo_lens", shape.qo_lens);
  reader.lengths("kv_lens", shape.kv_lens);
  read_options(spec, reader, shape, problems);
  if (!shape.qo_lens.empty() && !shape.kv_lens.empty() && shape.qo_lens.size() != shape.kv_lens.size()) {
    problems.add("kv_lens", "has " + std::to_string(shape.kv_lens.size()) + " entries, qo_lens has " +
                                std::to_string(shape.qo_lens.size()) + "; both have one per request");
  }
  if (problems.empty()) check_sizes(spec, shape, problems);
  if (!problems.empty()) return problems.status();
  return shape;
}

Result<testing::BatchShape> read_batch_arg(const AttentionSpec& spec, const std::string& argument) {
  Result<std::string> text = read_text("--batch", argument, kMaxBatchBytes);
  LATHE_TRY(text);
  return batch_from_json(spec, *text);
}

}  // namespace lathe::cli
