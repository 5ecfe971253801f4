#include "lathe/base/version.h"

namespace lathe {

const char* version() {
  return LATHE_VERSION;
}

}  // namespace lathe
