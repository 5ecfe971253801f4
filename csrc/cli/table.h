// Figures and tables for people.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace lathe::cli {

/// Columns as wide as their widest cell, two blanks apart, each line after `indent` blanks; the last column is not padded. Cells
/// are ASCII.
std::string table(const std::vector<std::vector<std::string>>& rows, size_t indent = 2);

/// `text` broken at blanks into lines of at most `columns`, each after `indent` blanks.
std::string paragraph(const std::string& text, size_t indent = 2, size_t columns = 78);

double ms_since(std::chrono::steady_clock::time_point start);
std::string in_ms(double milliseconds);                   ///< "1.2 s", "431 ms", "1.24 ms", "0.8 us"
std::string in_bytes(uint64_t bytes);                     ///< "912 B", "31.2 KB", "4.0 MB"; powers of 1024
std::string with_commas(uint64_t n);                      ///< "1,234,567"
std::string plural(uint64_t n, const std::string& noun);  ///< "1 item", "2 items"

}  // namespace lathe::cli
