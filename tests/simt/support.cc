#include "support.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "lathe/jit/compiler.h"
#include "lathe/jit/render.h"

namespace lathe::testing {
namespace {

constexpr char kPath[] = "kernels/probe/kernel.cu";

}  // namespace

Probe::Probe(std::string body) : text_(kHeader + body) {
  auto store = TemplateStore::embedded().with(kPath, text_);
  auto source = render(store, kPath, {}, arch_traits("host")->device_folders);
  EXPECT_TRUE(source.ok()) << source.status().to_string();
  if (!source) return;
  auto output = host_compiler()->compile({*source, "probe", "host"});
  EXPECT_TRUE(output.ok()) << output.status().to_string();
  if (output) binary_ = output->binary;
}

ArtifactPtr Probe::artifact(const std::string& name) const {
  auto artifact = std::make_shared<Artifact>();
  artifact->key = name;
  artifact->family = artifact->description = "probe";
  artifact->arch = "host";
  artifact->entry = name;
  artifact->binary = binary_;
  return artifact;
}

std::string Probe::place(const std::string& marker) const {
  const size_t at = text_.find("// " + marker + "\n");
  EXPECT_NE(at, std::string::npos) << marker;
  return std::string("templates/") + kPath + ":" + std::to_string(1 + std::count(text_.begin(), text_.begin() + at, '\n'));
}

SimtOptions checked(uint64_t seed) {
  SimtOptions options;
  options.seed = seed;
  options.check = true;
  options.step_limit = 50'000'000;
  return options;
}

SimtOptions unchecked(int threads) {
  SimtOptions options;
  options.threads = threads;
  options.step_limit = 50'000'000;
  return options;
}

Outcome run(const Probe& probe, const std::string& name, Memory& memory, Shape shape, Device& device, uint32_t n) {
  auto kernel = device.load(probe.artifact(name));
  if (!kernel) return {kernel.status(), {}};
  Args args{memory.in.data(), memory.out.data(), memory.work.data(), n};
  std::byte params[sizeof(args)];
  std::memcpy(params, &args, sizeof(args));
  auto bytes = [](const std::vector<uint32_t>& v) { return v.size() * sizeof(uint32_t); };
  const std::vector<BufferArg> buffers{{"in", memory.in.data(), bytes(memory.in), BufferArg::Use::input},
                                       {"out", memory.out.data(), bytes(memory.out), BufferArg::Use::output},
                                       {"work", memory.work.data(), bytes(memory.work), memory.work_use}};
  Launch launch;
  launch.grid.x = shape.grid;
  launch.block.x = shape.threads;
  launch.shared_bytes = shape.shared;
  launch.resident_grid = shape.resident;
  launch.params = params;
  launch.buffers = buffers;
  Status status = device.launch(**kernel, launch, nullptr);
  return {status, device.counters()};
}

Outcome run(const Probe& probe, const std::string& name, Memory& memory, Shape shape, const SimtOptions& options, uint32_t n) {
  return run(probe, name, memory, shape, *host_device(options), n);
}

}  // namespace lathe::testing
