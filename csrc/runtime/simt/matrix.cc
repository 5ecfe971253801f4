#include "lathe/runtime/simt/matrix.h"

#include <bit>
#include <cstring>

namespace lathe::simt {
namespace {

constexpr int kM = 16, kN = 8, kK = 16;

// Both conversions have no branches, so that loops of them vectorise.
float bf16_value(uint32_t bits) {
  return std::bit_cast<float>(bits << 16);
}

float f16_value(uint32_t bits) {
  // Scaling by 2^112 rebases the exponent, and is exact for subnormals too; infinity and NaN need the largest exponent instead.
  const float rebased = std::bit_cast<float>((bits & 0x7fff) << 13) * 0x1p112f;
  const uint32_t special = (bits & 0x7c00) == 0x7c00 ? 0x7f800000u : 0;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(rebased) | special | (bits & 0x8000) << 16);
}

template <float (*VALUE)(uint32_t)>
void multiply(const MmaOperands& operands) {
  // Unpacked in the order of the registers first, which is plain streaming, then put in place.
  float a[32][4][2], b[32][2][2];
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      a[lane][i][0] = VALUE(operands.a[lane][i] & 0xffff);
      a[lane][i][1] = VALUE(operands.a[lane][i] >> 16);
    }
    for (int i = 0; i < 2; ++i) {
      b[lane][i][0] = VALUE(operands.b[lane][i] & 0xffff);
      b[lane][i][1] = VALUE(operands.b[lane][i] >> 16);
    }
  }
  // Lane l = 4g + t holds a[g + 8(i%2)][2t + 8(i/2) + {0,1}], b[2t + 8i + {0,1}][g] and d[g + 8(i/2)][2t + i%2].
  float left[kM][kK], right[kK][kN], sum[kM][kN];
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) std::memcpy(&left[g + 8 * (i % 2)][2 * t + 8 * (i / 2)], a[lane][i], 8);
    for (int i = 0; i < 2; ++i) {
      right[2 * t + 8 * i][g] = b[lane][i][0];
      right[2 * t + 8 * i + 1][g] = b[lane][i][1];
    }
    std::memcpy(&sum[g][2 * t], operands.d[lane], 8);
    std::memcpy(&sum[g + 8][2 * t], operands.d[lane] + 2, 8);
  }
  for (int m = 0; m < kM; ++m) {
    float row[kN];
    std::memcpy(row, sum[m], sizeof(row));
    for (int k = 0; k < kK; ++k) {
      for (int n = 0; n < kN; ++n) row[n] += left[m][k] * right[k][n];
    }
    std::memcpy(sum[m], row, sizeof(row));
  }
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    std::memcpy(operands.d[lane], &sum[g][2 * t], 8);
    std::memcpy(operands.d[lane] + 2, &sum[g + 8][2 * t], 8);
  }
}

}  // namespace

void mma_m16n8k16_bf16(const MmaOperands& operands) {
  multiply<bf16_value>(operands);
}

void mma_m16n8k16_f16(const MmaOperands& operands) {
  multiply<f16_value>(operands);
}

}  // namespace lathe::simt
