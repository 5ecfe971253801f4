#include "lathe/runtime/simt/clock.h"

#include <algorithm>

namespace lathe::simt {
namespace {

Reach joined(const Reach& a, const Reach& b) {
  Reach out{std::max(a.synced, b.synced), 0, 0};
  for (const Reach& r : {a, b}) {
    if (r.released <= out.synced) continue;
    // Two lanes released at different times share the later one: a race may be missed, none is made up.
    out.lanes |= r.lanes;
    out.released = std::max(out.released, r.released);
  }
  return out;
}

}  // namespace

PastPtr joined(const PastPtr& a, const PastPtr& b) {
  if (b == nullptr || a == b) return a;
  if (a == nullptr) return b;
  auto out = std::make_shared<Past>();
  out->reserve(std::max(a->size(), b->size()));
  auto i = a->begin(), j = b->begin();
  while (i != a->end() || j != b->end()) {
    if (j == b->end() || (i != a->end() && i->first < j->first)) {
      out->push_back(*i++);
    } else if (i == a->end() || j->first < i->first) {
      out->push_back(*j++);
    } else {
      out->emplace_back(i->first, joined(i->second, j->second));
      ++i, ++j;
    }
  }
  return out;
}

bool covers(const PastPtr& past, uint32_t warp, int lane, uint32_t clock) {
  if (past == nullptr) return false;
  auto at = std::lower_bound(past->begin(), past->end(), warp, [](const auto& entry, uint32_t w) { return entry.first < w; });
  if (at == past->end() || at->first != warp) return false;
  const Reach& reach = at->second;
  return clock <= reach.synced || (lane >= 0 && (reach.lanes >> lane & 1) != 0 && clock <= reach.released);
}

}  // namespace lathe::simt
