#include "lathe/api/calibrate.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "lathe/api/attention.h"
#include "lathe/base/version.h"

namespace lathe {
namespace {

constexpr int32_t kKvHeads = 8, kGroup = 4, kPage = 16;
constexpr uint64_t kPageSeed = 1;
// Every byte of q, k and v: as bf16 a small number, so that scores and outputs are ordinary numbers too.
constexpr uint8_t kFill = 0x3c;

// A batch of requests of one kind.
struct Experiment {
  std::string name;
  int32_t requests = 0, qo_len = 0, kv_len = 0;
  bool cached = false;
};

// How the grid's blocks fall into lists that all do the same (docs/planner.md, "Replicas"): a batch of as many requests as there
// are lists, or a multiple, gives every block as much.
struct Grid {
  explicit Grid(int32_t num_ctas)
      : lists(num_ctas / std::gcd(kKvHeads, num_ctas)), heads(kKvHeads / std::gcd(kKvHeads, num_ctas)) {}

  /// `tiles` decodes for each block, or the next number that comes out even, of `keys` keys together.
  Experiment decode(const std::string& what, int32_t tiles, int32_t keys) const {
    const int32_t requests = std::max(1, tiles / heads), each = std::max(kPage, keys / (requests * heads) / kPage * kPage);
    return {what + ", " + std::to_string(requests * heads) + " x " + std::to_string(each) + " keys", requests * lists, 1, each,
            false};
  }
  /// `blocks` tall tiles of each of its heads for each block, against the same `keys` keys.
  Experiment prefill(int32_t tile_rows, int32_t blocks, int32_t keys) const {
    return {"prefill, " + std::to_string(blocks * heads) + " x " + std::to_string(keys) + " keys", 1,
            lists * blocks * (tile_rows / kGroup), keys, true};
  }

  int32_t lists, heads;
};

// The tensors and the plan of one experiment.
class Launcher {
 public:
  Launcher(std::shared_ptr<Device> device, const Attention& attention) : device_(std::move(device)), attention_(attention) {}

  Status prepare(const Experiment& e, Stream stream) {
    std::vector<int32_t> qo_indptr, kv_indptr, last_page_len(static_cast<size_t>(e.requests), (e.kv_len - 1) % kPage + 1);
    const int32_t pages = ceil_div(e.kv_len, kPage);
    for (int32_t b = 0; b <= e.requests; ++b) {
      qo_indptr.push_back(b * e.qo_len);
      kv_indptr.push_back(b * pages);
    }
    AttentionBatch batch;
    batch.qo_indptr = qo_indptr, batch.kv_indptr = kv_indptr, batch.last_page_len = last_page_len;
    Result<PlannedAttention> plan = attention_.plan(batch, kKvHeads);
    LATHE_TRY(plan);
    plan_ = *std::move(plan);
    LATHE_TRY(place_tensors(int64_t{e.requests} * e.qo_len, int64_t{e.requests} * pages, stream));
    LATHE_TRY(allocate(workspace_, plan_.plan.workspace.total(), stream));
    LATHE_TRY(attention_.upload(plan_, workspace_.get(), plan_.plan.workspace.total(), stream));
    return device_->synchronize(stream);
  }
  Status run(Stream stream) const { return attention_.run(args_, plan_, workspace_.get(), stream); }
  const PlannedAttention& plan() const { return plan_; }

 private:
  Status allocate(std::shared_ptr<std::byte>& memory, size_t bytes, Stream stream) {
    Result<std::shared_ptr<std::byte>> made = device_->allocate(bytes);
    LATHE_TRY(made);
    memory = *std::move(made);
    return device_->fill(memory.get(), kFill, bytes, stream);
  }

  Status place_tensors(int64_t tokens, int64_t pages, Stream stream) {
    const int64_t dim = attention_.spec().head_dim_qk, heads = kKvHeads * kGroup;
    const auto q_bytes = static_cast<size_t>(tokens * heads * dim * 2),
               kv_bytes = static_cast<size_t>(pages * kPage * kKvHeads * dim * 2);
    LATHE_TRY(allocate(q_, q_bytes, stream));
    LATHE_TRY(allocate(o_, q_bytes, stream));
    LATHE_TRY(allocate(k_, kv_bytes, stream));
    LATHE_TRY(allocate(v_, kv_bytes, stream));
    // Pages in random order, as a server's are after a while.
    std::vector<int32_t> ids(static_cast<size_t>(pages));
    std::iota(ids.begin(), ids.end(), 0);
    std::shuffle(ids.begin(), ids.end(), std::mt19937_64(kPageSeed));
    LATHE_TRY(allocate(ids_, ids.size() * sizeof(int32_t), stream));
    LATHE_TRY(device_->copy_in(ids_.get(), ids.data(), ids.size() * sizeof(int32_t), stream));
    LATHE_TRY(device_->synchronize(stream));  // until `ids` has been read
    args_.q = Tensor::contiguous(q_.get(), {tokens, heads, dim});
    args_.o = Tensor::contiguous(o_.get(), {tokens, heads, dim});
    args_.k = Tensor::contiguous(k_.get(), {pages, kPage, kKvHeads, dim});
    args_.v = Tensor::contiguous(v_.get(), {pages, kPage, kKvHeads, dim});
    args_.kv_indices = reinterpret_cast<const int32_t*>(ids_.get());
    args_.num_kv_indices = pages;
    return {};
  }

  std::shared_ptr<Device> device_;
  const Attention& attention_;
  PlannedAttention plan_;
  AttentionArgs args_;
  std::shared_ptr<std::byte> q_, k_, v_, o_, ids_, workspace_;
};

// Takes the times of one kernel's experiments.
Status measure(const std::shared_ptr<Device>& device, const Attention& attention, const std::vector<Experiment>& experiments,
               const TimingOptions& timing, std::vector<CalibrationSample>& samples) {
  Result<CudaStream> stream = CudaStream::create(*device);
  LATHE_TRY(stream);
  for (const Experiment& e : experiments) {
    Launcher launcher(device, attention);
    LATHE_TRY(launcher.prepare(e, stream->handle()));
    TimingOptions options = timing;
    if (e.cached) options.flush_bytes = 0;  // what the launch before has read is still there
    Result<Timing> times = time_launches(
        *device, [&] { return launcher.run(stream->handle()); }, stream->handle(), options);
    LATHE_TRY(times);
    CalibrationSample sample = sample_of(attention.plan_shape(kKvHeads), launcher.plan().plan, device->info().num_sms);
    sample.name = "head dim " + std::to_string(attention.spec().head_dim_qk) + ", " + e.name;
    sample.cached = e.cached;
    sample.picoseconds = quantile(times->device_us, 0.5) * 1e6;
    samples.push_back(std::move(sample));
  }
  return {};
}

Status measure_head_dim(Engine& engine, const std::shared_ptr<Device>& device, int32_t head_dim, const CalibrateOptions& options,
                        std::vector<CalibrationSample>& samples) {
  AttentionSpec spec;
  spec.group_size = kGroup;
  spec.head_dim_qk = spec.head_dim_vo = head_dim;
  spec.layout.page_size = kPage;
  spec.split_kv.mode = SplitMode::off;
  Result<Attention> whole = Attention::prepare(engine, device, spec);
  LATHE_TRY(whole);
  const Grid grid(whole->num_ctas());
  const int32_t keys = options.keys_per_block, rows = whole->tile().classes[0].q;
  std::vector<Experiment> experiments;
  for (int32_t tiles : {1, 4, 16, 64}) experiments.push_back(grid.decode("decode", tiles, keys));
  for (int32_t tiles : {1, 16}) experiments.push_back(grid.decode("decode", tiles, keys / 4));
  for (auto [blocks, part] : {std::pair{1, 8}, {1, 2}, {2, 4}, {4, 8}})
    experiments.push_back(grid.prefill(rows, blocks, keys / part));
  LATHE_TRY(measure(device, *whole, experiments, options.timing, samples));

  for (int32_t parts : {32, 128}) {
    const int32_t tokens = std::max(kPage, keys / parts);
    spec.split_kv = {SplitMode::fixed, tokens};
    Result<Attention> cut = Attention::prepare(engine, device, spec);
    LATHE_TRY(cut);
    const std::string what = "decode in parts of " + std::to_string(tokens);
    LATHE_TRY(measure(device, *cut, {grid.decode(what, 1, keys), grid.decode(what, 4, keys), grid.decode(what, 1, keys / 4)},
                      options.timing, samples));
  }
  return {};
}

}  // namespace

Result<std::vector<CalibrationSample>> measure_attention_costs(Engine& engine, const std::shared_ptr<Device>& device,
                                                               const CalibrateOptions& options) {
  constexpr int32_t kLeastKeys = 1024, kMostKeys = 1 << 20;
  const int32_t keys = options.keys_per_block;
  if (device == nullptr) return invalid_argument("device", "is null");
  if (keys < kLeastKeys || keys > kMostKeys || (keys & (keys - 1)) != 0)
    return invalid_argument("keys_per_block", "is " + std::to_string(keys) + "; must be a power of two in " +
                                                  std::to_string(kLeastKeys) + ".." + std::to_string(kMostKeys));
  if (options.timing.repeats < 1)
    return invalid_argument("timing.repeats", "is " + std::to_string(options.timing.repeats) + ", must be >= 1");
  if (device->info().arch == "host") return invalid_argument("device", "is the host executor; costs are those of a GPU");
  std::vector<CalibrationSample> samples;
  for (int32_t head_dim : {64, 128}) LATHE_TRY(measure_head_dim(engine, device, head_dim, options, samples));
  return samples;
}

CostsStamp costs_stamp(const DeviceInfo& device, std::string date) {
  return {version(), device.name, device.arch, device.num_sms, device.driver, std::move(date)};
}

}  // namespace lathe
