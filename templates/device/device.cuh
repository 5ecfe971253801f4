// Everything device code may use, in one include.
#pragma once

#include "device/types.cuh"
#include "device/primitives.cuh"
#include "device/memory.cuh"
#include "device/fragment.cuh"
#include "device/gemm.cuh"
#include "device/pipeline.cuh"
