// A case's result as JSON and as words.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "lathe/cli/case.h"

namespace lathe::cli {

nlohmann::ordered_json to_json(const CaseResult& result);
nlohmann::ordered_json to_json(const testing::BatchShape& shape);

/// "4 requests, 131 query tokens, 829 keys, 32 query heads on 8 KV heads"
std::string sizes_of(const AttentionSpec& spec, const testing::BatchShape& shape);

std::string run_text(const CaseResult& result);       ///< where it ran, time, what the executor counted; lines
std::string strict_text(const CaseResult& result);    ///< what the executor found with every check on; lines
std::string schedule_text(const CaseResult& result);  ///< the schedule drawn, and its tile classes; lines
std::string check_text(const CaseResult& result);     ///< errors beside their bounds, the worst row, failures; lines

}  // namespace lathe::cli
