// The main program of a fuzz target where there is no libFuzzer: gives it every file of the folders that are named, once, and every
// beginning of each file. What fuzzing found lies in these folders, so that it stays found.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "fuzz.h"

int main(int argc, char** argv) {
  size_t files = 0, inputs = 0;
  for (int i = 1; i < argc; i++) {
    for (const auto& item : std::filesystem::directory_iterator(argv[i])) {
      std::ifstream in(item.path(), std::ios::binary);
      const std::vector<char> bytes{std::istreambuf_iterator<char>(in), {}};
      const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
      // A copy of the exact size each time, so that a read past its end is seen under a sanitizer.
      for (size_t size = 0; size <= bytes.size(); size += std::max<size_t>(1, bytes.size() / 100)) {
        const std::vector<uint8_t> start(data, data + size);
        LLVMFuzzerTestOneInput(start.data(), start.size());
        inputs++;
      }
      LLVMFuzzerTestOneInput(data, bytes.size());
      files++;
    }
  }
  std::printf("%zu files, %zu inputs\n", files, inputs);
  return files == 0 ? 1 : 0;
}
