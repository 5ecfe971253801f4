// What ptxas -v says of a cubin.
#pragma once

#include <string_view>

namespace lathe {

struct PtxasFacts {
  int registers = 0;    // most of any entry
  int spill_bytes = 0;  // stores + loads, summed over functions
};

/// Reads the facts out of a compile log; lines of another form are passed over.
PtxasFacts parse_ptxas_log(std::string_view log);

}  // namespace lathe
