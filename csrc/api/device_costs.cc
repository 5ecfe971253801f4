#include "device_costs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "lathe/base/knobs.h"
#include "lathe/base/log.h"
#include "lathe/base/version.h"
#include "lathe/spec/text.h"

namespace lathe {
namespace {

struct Descriptor {
  explicit Descriptor(int number) : fd(number) {}
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  const int fd;
};

std::string reason_of(int error) {
  return "cannot be read: " + std::string(strerrordesc_np(error));
}

std::string words_of(const Status& status) {
  return status.where().empty() ? status.message() : status.where() + ": " + status.message();
}

}  // namespace

Result<CostsFile> read_costs_file(const std::string& path) {
  const std::string name = fields::shown(path, 256);
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));  // a pipe without a writer must not hold us
  struct stat found {};
  if (file.fd < 0 || fstat(file.fd, &found) != 0) return invalid_argument(name, reason_of(errno));
  if (!S_ISREG(found.st_mode)) return invalid_argument(name, "is not a regular file");
  std::string text;
  char buffer[65536];
  for (ssize_t got = 1; got != 0 && text.size() <= kMaxCostsFileBytes;) {  // one byte too many tells a file that goes on
    got = read(file.fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return invalid_argument(name, reason_of(errno));
    text.append(buffer, static_cast<size_t>(got));
  }
  Result<CostsFile> costs = costs_from_json(text);
  if (costs) return costs;
  return invalid_argument(name, words_of(costs.status()));
}

Status check_stamp(const CostsStamp& stamp, const DeviceInfo& device) {
  Problems problems;
  const auto check = [&](const char* what, const std::string& is, const std::string& must) {
    if (is != must) problems.add(what, "is " + fields::shown(is, 256) + ", here " + must);
  };
  check("lathe", stamp.lathe, version());
  check("device.name", stamp.device, device.name);
  check("device.arch", stamp.arch, device.arch);
  check("device.multiprocessors", std::to_string(stamp.multiprocessors), std::to_string(device.num_sms));
  return problems.status();
}

AttentionCosts device_costs(const DeviceInfo& device, const ArchTraits& arch, int32_t num_ctas) {
  const auto path = knob("LATHE_COSTS");
  const AttentionCosts estimates = attention_costs(arch, device.num_sms, num_ctas);
  if (!path) return estimates;
  const Result<CostsFile> file = read_costs_file(*path);
  const Status stamp = file ? check_stamp(file->stamp, device) : Status();
  if (file && stamp.ok()) return attention_costs(file->costs, device.num_sms, num_ctas);
  const std::string why = file ? words_of(stamp) : file.status().message();
  warn_once("LATHE_COSTS/" + *path, "LATHE_COSTS=" + fields::shown(*path, 256) + " is not used, plans follow estimates: " + why +
                                        " (`lathe calibrate` measures anew)");
  return estimates;
}

}  // namespace lathe
