#include "lathe/base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <memory>
#include <mutex>
#include <set>

namespace lathe {
namespace {

// The process has one log, as it has one standard error; this is the one mutable object with static storage in the library.
struct Sink {
  std::mutex mutex;
  LogCallback callback;
  std::set<std::string, std::less<>> warned;
  spdlog::logger logger{"lathe", std::make_shared<spdlog::sinks::stderr_sink_mt>()};
  int dial = 1;

  Sink() {
    logger.set_pattern("[lathe %l] %v");
    logger.set_level(spdlog::level::trace);
    if (const char* text = secure_getenv("LATHE_DEBUG"); text != nullptr && *text != '\0') dial = std::atoi(text);
  }
};

Sink& sink() {
  static Sink* the_sink = new Sink;  // never destroyed: threads may log while the process exits
  return *the_sink;
}

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::error:
      return spdlog::level::err;
    case LogLevel::warning:
      return spdlog::level::warn;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::detail:
      return spdlog::level::debug;
    case LogLevel::trace:
      return spdlog::level::trace;
  }
  return spdlog::level::info;
}

}  // namespace

void set_log_callback(LogCallback callback) {
  std::lock_guard lock(sink().mutex);
  sink().callback = std::move(callback);
}

bool log_enabled(LogLevel level) {
  return level <= LogLevel::warning || static_cast<int>(level) - 1 <= sink().dial;
}

void log(LogLevel level, std::string_view message) {
  if (!log_enabled(level)) return;
  LogCallback callback;
  {
    std::lock_guard lock(sink().mutex);
    callback = sink().callback;
  }
  if (callback) return callback(level, message);
  sink().logger.log(spdlog_level(level), "{}", message);
}

void warn_once(std::string_view topic, std::string_view message) {
  {
    std::lock_guard lock(sink().mutex);
    if (!sink().warned.emplace(topic).second) return;
  }
  log(LogLevel::warning, message);
}

}  // namespace lathe
