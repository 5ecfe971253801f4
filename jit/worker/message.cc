#include "lathe/jit/worker/message.h"

#include <poll.h>
#include <sys/socket.h>

#include <bit>
#include <cerrno>
#include <cstring>

namespace lathe {
namespace {

static_assert(std::endian::native == std::endian::little, "messages are written as they lie in memory");

// Each message begins with its kind, so that one is never read as another.
enum class Kind : uint8_t { hello = 1, job, outcome };

class Writer {
 public:
  explicit Writer(Kind kind) { number(kind); }
  template <class T>
  requires std::is_trivially_copyable_v<T>
  void number(T value) {
    auto* bytes = reinterpret_cast<const std::byte*>(&value);
    out_.insert(out_.end(), bytes, bytes + sizeof value);
  }
  void string(BytesView bytes) {
    number(static_cast<uint32_t>(bytes.size()));
    out_.insert(out_.end(), bytes.begin(), bytes.end());
  }
  void string(const std::string& text) { string(std::as_bytes(std::span(text))); }
  void status(const Status& s) {
    number(static_cast<uint8_t>(s.code()));
    string(s.message());
    string(s.where());
    string(s.hint());
  }
  Bytes take() && { return std::move(out_); }

 private:
  Bytes out_;
};

// Reads in the writer's order; after the first lack of bytes, everything reads as empty and whole() is false.
class Reader {
 public:
  Reader(Kind kind, BytesView bytes) : left_(bytes) { broken_ = number<Kind>() != kind; }
  template <class T>
  requires std::is_trivially_copyable_v<T> T number() {
    T value{};
    BytesView bytes = take(sizeof value);
    if (bytes.size() == sizeof value) std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  }
  BytesView bytes() { return take(number<uint32_t>()); }
  std::string string() {
    BytesView b = bytes();
    return {reinterpret_cast<const char*>(b.data()), b.size()};
  }
  Status status() {
    auto code = number<uint8_t>();
    if (code > static_cast<uint8_t>(Code::internal)) broken_ = true;
    std::string message = string(), where = string(), hint = string();
    if (broken_ || code == 0) return {};
    return {static_cast<Code>(code), std::move(message), std::move(where), std::move(hint)};
  }
  bool broken() const { return broken_; }
  bool whole() const { return !broken_ && left_.empty(); }

 private:
  BytesView take(size_t count) {
    if (broken_ || count > left_.size()) {
      broken_ = true;
      return {};
    }
    BytesView out = left_.first(count);
    left_ = left_.subspan(count);
    return out;
  }
  BytesView left_;
  bool broken_ = false;
};

// Waits until the socket can be read (or written). False when the deadline passed.
bool wait_for(int socket, short events, Clock::time_point deadline) {
  for (;;) {
    pollfd p{socket, events, 0};
    int ready = poll(&p, 1, milliseconds_until(deadline));
    if (ready > 0) return true;
    if (ready == 0 && Clock::now() >= deadline) return false;
    if (ready < 0 && errno != EINTR) return true;  // the next call on the socket reports it
  }
}

bool try_later(int error) {
  return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

Transfer send_all(int socket, BytesView bytes, Clock::time_point deadline) {
  while (!bytes.empty()) {
    if (!wait_for(socket, POLLOUT, deadline)) return Transfer::timed_out;
    ssize_t n = send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && try_later(errno)) continue;
    if (n <= 0) return Transfer::closed;
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return Transfer::done;
}

Transfer receive_all(int socket, std::span<std::byte> into, Clock::time_point deadline) {
  while (!into.empty()) {
    if (!wait_for(socket, POLLIN, deadline)) return Transfer::timed_out;
    ssize_t n = recv(socket, into.data(), into.size(), MSG_DONTWAIT);
    if (n < 0 && try_later(errno)) continue;
    if (n <= 0) return Transfer::closed;
    into = into.subspan(static_cast<size_t>(n));
  }
  return Transfer::done;
}

}  // namespace

Bytes encode(const WorkerHello& hello) {
  Writer w(Kind::hello);
  w.number(hello.protocol);
  w.status(hello.status);
  w.number(static_cast<uint32_t>(hello.archs.size()));
  for (const std::string& arch : hello.archs) w.string(arch);
  return std::move(w).take();
}

std::optional<WorkerHello> decode_hello(BytesView bytes) {
  Reader r(Kind::hello, bytes);
  WorkerHello hello;
  hello.protocol = r.number<uint32_t>();
  hello.status = r.status();
  auto count = r.number<uint32_t>();
  for (uint32_t i = 0; i < count && !r.broken(); ++i) hello.archs.push_back(r.string());
  if (!r.whole()) return std::nullopt;
  return hello;
}

Bytes encode(WorkerAsk ask, const CompileJob& job) {
  Writer w(Kind::job);
  w.number(static_cast<uint8_t>(ask));
  w.string(job.source);
  w.string(job.name);
  w.string(job.arch);
  return std::move(w).take();
}

std::optional<std::pair<WorkerAsk, CompileJob>> decode_job(BytesView bytes) {
  Reader r(Kind::job, bytes);
  auto ask = r.number<uint8_t>();
  CompileJob job;
  job.source = r.string();
  job.name = r.string();
  job.arch = r.string();
  if (!r.whole() || ask < 1 || ask > 2) return std::nullopt;
  return std::pair(static_cast<WorkerAsk>(ask), std::move(job));
}

Bytes encode(const Result<CompileOutput>& outcome) {
  Writer w(Kind::outcome);
  w.status(outcome.status());
  if (outcome.ok()) {
    w.string(outcome->binary);
    w.string(outcome->log);
    w.number(outcome->milliseconds);
    w.number(outcome->registers);
    w.number(outcome->spill_bytes);
    w.number(outcome->ptx_bytes);
  }
  return std::move(w).take();
}

std::optional<Result<CompileOutput>> decode_outcome(BytesView bytes) {
  Reader r(Kind::outcome, bytes);
  Status status = r.status();
  if (!status.ok()) {
    if (!r.whole()) return std::nullopt;
    return Result<CompileOutput>(std::move(status));
  }
  CompileOutput out;
  BytesView binary = r.bytes();
  out.binary.assign(binary.begin(), binary.end());
  out.log = r.string();
  out.milliseconds = r.number<double>();
  out.registers = r.number<int>();
  out.spill_bytes = r.number<int>();
  out.ptx_bytes = r.number<int64_t>();
  if (!r.whole()) return std::nullopt;
  return Result<CompileOutput>(std::move(out));
}

Transfer send_frame(int socket, BytesView payload, Clock::time_point deadline) {
  if (payload.size() > kMaxFrameBytes) return Transfer::refused;
  auto size = static_cast<uint32_t>(payload.size());
  Transfer sent = send_all(socket, std::as_bytes(std::span(&size, 1)), deadline);
  return sent == Transfer::done ? send_all(socket, payload, deadline) : sent;
}

Transfer receive_frame(int socket, Bytes& payload, Clock::time_point deadline) {
  uint32_t size = 0;
  Transfer got = receive_all(socket, std::as_writable_bytes(std::span(&size, 1)), deadline);
  if (got != Transfer::done) return got;
  if (size > kMaxFrameBytes) return Transfer::refused;
  payload.resize(size);
  return receive_all(socket, payload, deadline);
}

}  // namespace lathe
