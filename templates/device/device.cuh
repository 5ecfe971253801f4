// Everything device code may use, in one include.
#pragma once

#include "device/collectives.cuh"
#include "device/fragment.cuh"
#include "device/gemm.cuh"
#include "device/memory.cuh"
#include "device/pipeline.cuh"
#include "device/primitives.cuh"
#include "device/types.cuh"
