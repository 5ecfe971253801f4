#include "lathe/runtime/simt/report.h"

#include "lathe/runtime/simt/module.h"

namespace lathe::simt {

Status report(const Fault& fault, const Module& module, const std::string& kernel) {
  std::string text = fault.what;
  for (const Party& party : fault.parties) {
    text += "\n  " + party.text;
    if (party.site != 0) text += " at " + module.place(party.site);
  }
  return {Code::launch_failed, text, kernel};
}

}  // namespace lathe::simt
