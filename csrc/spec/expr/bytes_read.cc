#include "lathe/spec/expr/bytes_read.h"

#include <cfloat>
#include <cmath>
#include <cstring>
#include <string>
#include <string_view>

#include "lathe/spec/expr/names.h"
#include "lathe/spec/expr/simplify.h"

namespace lathe::expr {
namespace {

constexpr size_t kMostNodes = kMaxNodes * kHooks;

/// Takes numbers off the front of bytes that anybody may have written. After the first that is not there or not allowed it has
/// failed, and gives zeros.
class ByteReader {
 public:
  explicit ByteReader(BytesView bytes) : left_(bytes) {}

  bool ok() const { return ok_; }
  bool at_end() const { return left_.empty(); }
  void require(bool holds) { ok_ = ok_ && holds; }

  template <class T>
  T number() {
    T value{};
    require(left_.size() >= sizeof(T));
    if (!ok_) return value;
    std::memcpy(&value, left_.data(), sizeof(T));
    left_ = left_.subspan(sizeof(T));
    return value;
  }
  /// A whole number below `end`.
  template <class T>
  T below(size_t end) {
    const T value = number<T>();
    require(value < end);
    return ok_ ? value : T{};
  }
  bool flag() { return below<uint8_t>(2) == 1; }
  template <class E>
  E one_of(size_t count) {
    return static_cast<E>(below<uint8_t>(count));
  }
  std::string text(size_t size) {
    require(size <= left_.size());
    if (!ok_) return {};
    std::string out(reinterpret_cast<const char*>(left_.data()), size);
    left_ = left_.subspan(size);
    return out;
  }
  void text(std::string_view expected) {
    for (char c : expected) require(number<char>() == c);
  }

 private:
  BytesView left_;
  bool ok_ = true;
};

Param read_param(ByteReader& in, size_t index) {
  Param param;
  param.name = "p" + std::to_string(index);
  param.type = in.one_of<Type>(static_cast<size_t>(Type::f32) + 1);
  const bool has_range = in.flag();
  std::array<double, 2> range{in.number<double>(), in.number<double>()};
  // Ends of a range of f32 are printed as such.
  for (double end : range) in.require(std::isinf(end) || std::fabs(end) <= FLT_MAX);
  if (has_range) param.range = range;
  return param;
}

Tensor read_tensor(ByteReader& in, size_t index, size_t params) {
  Tensor tensor;
  tensor.name = "t" + std::to_string(index);
  tensor.elem = in.one_of<Elem>(static_cast<size_t>(Elem::boolean) + 1);
  tensor.summary = in.flag();
  tensor.sorted = in.flag();
  const auto axes = in.below<uint8_t>(kMaxAxes + 1);
  for (size_t i = 0; i < axes; ++i) {
    TensorAxis axis;
    axis.axis = in.one_of<Axis>(static_cast<size_t>(Axis::param) + 1);
    axis.value = in.number<uint32_t>();
    in.require(axis.axis != Axis::param || axis.value < params);
    tensor.axes.push_back(axis);
  }
  return tensor;
}

void require_operand_count(ByteReader& in, const Node& node) {
  in.require(node.op == Op::read   ? node.arity >= 1 && node.arity <= kMaxAxes
             : node.op == Op::cuda ? node.arity <= kMaxOperands
                                   : node.arity == info(node.op).arity);
}

Node read_node(ByteReader& in, Hooks& hooks) {
  Node node;
  node.op = in.one_of<Op>(kOps);
  node.type = in.one_of<Type>(static_cast<size_t>(Type::f32) + 1);
  node.arity = in.number<uint8_t>();
  node.value = in.number<uint32_t>();
  require_operand_count(in, node);
  if (node.op == Op::input) in.require(node.value < kInputs);
  if (node.op == Op::param) in.require(node.value < hooks.params.size());
  if (node.op == Op::read) in.require(node.value < hooks.tensors.size());
  if (!in.ok()) return {};
  for (size_t i = 0; i < node.arity; ++i) {
    node.args[i] = in.below<Id>(hooks.graph.size());
    in.require(hooks.graph.size() > 0 && hooks.graph[node.args[i]].op != Op::cuda);  // it is a whole hook
  }
  if (node.op != Op::cuda) return node;
  const std::string text = in.text(in.below<uint32_t>(kMaxCudaBytes + 1));
  in.require(cuda_problem(text).empty());
  if (in.ok()) in.require(hooks.graph.add_text(text) == node.value);
  return node;
}

}  // namespace

std::optional<Hooks> hooks_from_bytes(BytesView bytes) {
  ByteReader in(bytes);
  in.text(kBytesDomain);
  in.require(in.number<uint8_t>() == 0);
  in.require(in.number<uint16_t>() == kBytesVersion);
  Hooks hooks;
  hooks.normalizer = in.one_of<Normalizer>(static_cast<size_t>(Normalizer::none) + 1);
  hooks.rotary.interleaved = in.flag();
  hooks.rotary.dims = in.number<uint32_t>();
  const auto params = in.below<uint32_t>(kMaxDeclarations + 1);
  for (size_t i = 0; i < params; ++i) hooks.params.push_back(read_param(in, i));
  const auto tensors = in.below<uint32_t>(kMaxDeclarations + 1);
  for (size_t i = 0; i < tensors; ++i) hooks.tensors.push_back(read_tensor(in, i, params));
  const auto nodes = in.below<uint32_t>(kMostNodes + 1);
  for (Id id = 0; id < nodes && in.ok(); ++id) {
    const Node node = read_node(in, hooks);
    if (in.ok()) in.require(hooks.graph.add(node) == id);  // of equal nodes there is one
  }
  for (Id& root : hooks.roots) {
    root = in.number<Id>();
    in.require(root == kNone || root < hooks.graph.size());
  }
  if (!in.ok() || !in.at_end()) return std::nullopt;
  return hooks;
}

}  // namespace lathe::expr
