// What the compile worker and its owner say to each other: docs/compile-worker.md. A frame is a 32-bit length and that many bytes;
// integers are little-endian, strings carry a 32-bit length.
#pragma once

#include <string>
#include <vector>

#include "lathe/base/bytes.h"
#include "lathe/base/status.h"
#include "lathe/jit/compiler.h"
#include "lathe/jit/process.h"

namespace lathe {

/// Raised when a message changes; a worker of another version is refused.
inline constexpr uint32_t kWorkerProtocol = 1;
/// Upper bound of a frame, so that a stray length cannot make the reader allocate without bound.
inline constexpr uint32_t kMaxFrameBytes = uint32_t{256} << 20;

/// The worker's first message.
struct WorkerHello {
  uint32_t protocol = kWorkerProtocol;
  Status status;                   // why it cannot work, e.g. the library cannot be opened
  std::vector<std::string> archs;  // what it compiles for
};

enum class WorkerAsk : uint8_t { compile = 1, version = 2 };

// Encoding never fails. Decoding is total: nothing for bytes that are not exactly one such message.
Bytes encode(const WorkerHello& hello);
Bytes encode(WorkerAsk ask, const CompileJob& job);
Bytes encode(const Result<CompileOutput>& outcome);
std::optional<WorkerHello> decode_hello(BytesView bytes);
std::optional<std::pair<WorkerAsk, CompileJob>> decode_job(BytesView bytes);
std::optional<Result<CompileOutput>> decode_outcome(BytesView bytes);

enum class Transfer : uint8_t { done, closed, timed_out, refused };  // refused: a length above kMaxFrameBytes

/// Sends or receives one frame over a socket, without SIGPIPE, until `deadline`. The socket may be blocking or not.
Transfer send_frame(int socket, BytesView payload, Clock::time_point deadline);
Transfer receive_frame(int socket, Bytes& payload, Clock::time_point deadline);

}  // namespace lathe
