// Stands in for lathe-compile-worker and breaks the talk in the way its first argument names.
#include <signal.h>
#include <unistd.h>

#include <string>

#include "lathe/jit/worker/message.h"

using namespace lathe;

int main(int, char** argv) {
  const std::string mode = argv[1];
  const auto soon = Clock::now() + std::chrono::seconds(20);
  if (mode == "/silent") sleep(60);
  if (mode == "/leaves") return 7;
  if (mode == "/garbage") return write(1, "nonsense", 8) == 8 ? 0 : 1;
  if (mode == "/huge") {
    uint32_t size = 0xffffffff;
    return write(1, &size, sizeof size) == 4 ? 0 : 1;
  }
  WorkerHello hello;
  hello.archs = {"sm_80"};
  if (mode == "/old") hello.protocol = kWorkerProtocol - 1;
  if (send_frame(0, encode(hello), soon) != Transfer::done) return 1;
  if (mode == "/dies-idle") return 0;
  Bytes frame;
  receive_frame(0, frame, soon);
  if (mode == "/nonsense-answer") send_frame(0, frame, soon);
  if (mode == "/half-answer") {
    uint32_t size = 1000;
    if (write(1, &size, sizeof size) != 4) return 1;
  }
  sleep(1);
}
