// What every kernel uses, in one include. Beside it: device/collectives.cuh.
#pragma once

#include "device/fragment.cuh"
#include "device/gemm.cuh"
#include "device/memory.cuh"
#include "device/pipeline.cuh"
#include "device/primitives.cuh"
#include "device/types.cuh"
