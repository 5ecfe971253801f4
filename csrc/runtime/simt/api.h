// The table of functions that kernels call (templates/abi/simt.h).
#pragma once

#include "lathe/abi/simt.h"

namespace lathe::simt {

/// Static storage. With `check` every access is looked at by the race checks; bounds are checked in both.
const abi::SimtApi& simt_api(bool check);

}  // namespace lathe::simt
