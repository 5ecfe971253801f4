#include <cstdint>
#include <cstdio>
#include <vector>

#include "lathe/api/lathe.h"

using lathe::must, lathe::Tensor;

int main() {
  lathe::AttentionSpec spec{.group_size = 4, .layout = {.kind = lathe::LayoutKind::ragged}, .mask = lathe::Mask::causal};
  lathe::Engine engine;
  auto device = lathe::host_device();  // on a GPU: must(lathe::cuda_device(0))
  auto attention = must(lathe::Attention::prepare(engine, device, spec));
  // Two requests, one new token after 299 others and a prompt of 19, with 2 kv heads and so 8 query heads.
  std::vector<int32_t> qo_indptr{0, 1, 20}, kv_indptr{0, 300, 319};
  auto plan = must(attention.plan({.qo_indptr = qo_indptr, .kv_indptr = kv_indptr}, 2));
  auto memory = must(device->allocate(8 << 20));             // 4 MB of workspace, then 1 MB each for q, k, v and o
  must(device->fill(memory.get(), 0x3f, 8 << 20, nullptr));  // 0x3f3f is 0.746 in bf16
  must(attention.upload(plan, memory.get(), 4 << 20, nullptr));
  auto tensor = [&](int i, int64_t n, int64_t heads) { return Tensor::contiguous(&memory.get()[(4 + i) << 20], {n, heads, 128}); };
  lathe::AttentionArgs args{.q = tensor(0, 20, 8), .k = tensor(1, 319, 2), .v = tensor(2, 319, 2), .o = tensor(3, 20, 8)};
  must(attention.run(args, plan, memory.get(), nullptr));
  uint16_t first = 0;
  must(device->copy_out(&first, args.o.data, sizeof first, nullptr));
  must(device->synchronize(nullptr));
  std::printf("o[0] = 0x%04x: equal values average to themselves\n", first);
  return first == 0x3f3f ? 0 : 1;
}
