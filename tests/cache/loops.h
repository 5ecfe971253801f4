// Long trials of many processes on one root, by their length: short ones in every run, long ones under --full. Each reports its
// failures to the running test and prints its figures.
#pragma once

#include <chrono>

namespace lathe::testing {

/// A writer is killed at a random moment, `kills` times; no reader ever sees a wrong byte. At least half of the kills must come
/// between the making of a temporary file and its rename.
void kill_writers(int kills);

/// `processes` at once miss one key and compile it; `trials` times. With `locks`: exactly one compiles. Else the file system has no
/// locks and shows no process what another has made: each, which asks several times, compiles at most once.
void cold_start(int processes, int trials, bool locks);

/// The holder of a lock is killed: the waiter goes on within a second; or stopped: within its bound. `trials` times each.
void lose_lock_holder(int trials);

/// Writers over the size limit and readers for `seconds`, while the size is looked at: no reader is disturbed, and each finds
/// something. One half with one writer, whose own trimming keeps the size within the limit and one entry; the other with two
/// writers and a trimmer that never rests.
void trim_against_readers(std::chrono::seconds seconds);

/// Two writers, two readers and a trimmer, of which one chosen at random is killed and started again, or stopped, or goes on;
/// `events` times. No reader ever sees a wrong byte; afterwards the cache works, within its limit.
void kill_and_stop(int events);

/// Two versions of the layout store and find the same keys in one root, `operations` times in all: neither ever gets the other's.
void share_between_versions(int operations);

}  // namespace lathe::testing
