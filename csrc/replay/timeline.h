// A picture of one step: what each block of the grid does, when.
#pragma once

#include <span>
#include <string>

#include "lathe/replay/evaluate.h"

namespace lathe {

/// One schedule of the step.
struct TimelineRow {
  std::string title;
  const Assignment* assignment = nullptr;
  Evaluation evaluation;
};

/// A page of HTML with one SVG for each schedule, all to the same scale of time; needs no other file and runs no script. A bar for
/// every piece, in the colour of its request; parts of cut tiles are hatched; a line each at the mean and at the ideal. `title` and
/// the rows' titles may be any text.
std::string timeline_html(const std::string& title, const EvaluatedBatch& batch, std::span<const TimelineRow> rows);

}  // namespace lathe
