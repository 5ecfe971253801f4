// The log: one dial (LATHE_DEBUG) and one sink that an embedding program may replace.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace lathe {

enum class LogLevel : uint8_t { error, warning, info, detail, trace };  // info = LATHE_DEBUG 1 (the default), detail = 2, trace = 3

using LogCallback = std::function<void(LogLevel, std::string_view message)>;

/// Replaces the sink (standard error by default); an empty callback restores the default. Thread-safe; the callback may be called
/// from any thread and must not call back into the log.
void set_log_callback(LogCallback callback);

/// Whether a message of this level reaches the sink: errors and warnings always, others by LATHE_DEBUG (read once).
bool log_enabled(LogLevel level);

void log(LogLevel level, std::string_view message);

/// Logs a warning the first time `topic` is seen in this process, and nothing after.
void warn_once(std::string_view topic, std::string_view message);

}  // namespace lathe
