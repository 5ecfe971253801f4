#include "lathe/runtime/simt/matrix.h"

#include <bit>
#include <cstring>

namespace lathe::simt {
namespace {

constexpr int kM = 16, kN = 8, kK = 16;
using Row = float __attribute__((vector_size(kN * sizeof(float))));  // of b and d

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
void unpack(const uint32_t* words, int count, float* low, float* high) {
  for (int i = 0; i < count; ++i) {
    low[i] = VALUE(words[i] & 0xffff);
    high[i] = VALUE(words[i] >> 16);
  }
}

void load(Row& row, const float* from) {  // not returned: that would be another calling convention with and without AVX
  std::memcpy(&row, from, sizeof(row));
}

// Lane l = 4g + t holds a[g + 8(i%2)][2t + 8(i/2) + {0,1}], b[2t + 8i + {0,1}][g] and d[g + 8(i/2)][2t + i%2] in its registers i.
template <float (*VALUE)(uint32_t)>
void multiply(const MmaOperands& operands) {
  // By half of the register, lane and register.
  float a[2][32][4], b[2][32][2];
  unpack<VALUE>(operands.a[0].data(), 32 * 4, &a[0][0][0], &a[1][0][0]);
  unpack<VALUE>(operands.b[0].data(), 32 * 2, &b[0][0][0], &b[1][0][0]);
  float right[kK][kN], sum[kM][kN];
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) right[2 * t + 8 * (i / 2) + i % 2][g] = b[i % 2][lane][i / 2];
    std::memcpy(&sum[g][2 * t], operands.d[lane], 2 * sizeof(float));
    std::memcpy(&sum[g + 8][2 * t], operands.d[lane] + 2, 2 * sizeof(float));
  }
  for (int g = 0; g < 8; ++g) {
    Row upper, lower, row;
    load(upper, sum[g]);
    load(lower, sum[g + 8]);
    for (int k = 0; k < kK; ++k) {
      const float* left = a[k % 2][4 * g + k % 8 / 2];
      load(row, right[k]);
      upper += row * left[k / 8 * 2];
      lower += row * left[k / 8 * 2 + 1];
    }
    std::memcpy(sum[g], &upper, sizeof(upper));
    std::memcpy(sum[g + 8], &lower, sizeof(lower));
  }
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    std::memcpy(operands.d[lane], &sum[g][2 * t], 2 * sizeof(float));
    std::memcpy(operands.d[lane] + 2, &sum[g + 8][2 * t], 2 * sizeof(float));
  }
}

}  // namespace

bool is_zero(const MmaOperands& operands) {
  uint32_t bits = 0;
  for (const auto& lane : operands.a) {
    for (uint32_t word : lane) bits |= word;
  }
  return (bits & 0x7fff7fffu) == 0;
}

void mma_m16n8k16_bf16(const MmaOperands& operands) {
  multiply<bf16_value>(operands);
}

void mma_m16n8k16_f16(const MmaOperands& operands) {
  multiply<f16_value>(operands);
}

}  // namespace lathe::simt
