// The matrix unit: mma.m16n8k16 on the registers of a whole warp, with the fragment layouts of the PTX ISA.
#pragma once

#include <array>
#include <cstdint>

namespace lathe::simt {

/// The registers of a warp, one entry per lane.
struct MmaOperands {
  std::array<std::array<uint32_t, 4>, 32> a;
  std::array<std::array<uint32_t, 2>, 32> b;
  std::array<float*, 32> d;  // four floats each, read and written
};

/// Whether `a` is zero in every element, of either sign.
bool is_zero(const MmaOperands& operands);

/// d += a * b, 16x16 by 16x8. Products are exact; each is added to fp32, in the order of k.
void mma_m16n8k16_bf16(const MmaOperands& operands);
void mma_m16n8k16_f16(const MmaOperands& operands);

}  // namespace lathe::simt
