// The version of this library.
#pragma once

namespace lathe {

/// "major.minor.patch", as the CMake project states it. Static storage.
const char* version();

}  // namespace lathe
