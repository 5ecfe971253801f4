#include "lathe/jit/engine.h"

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>

#include "lathe/arch/traits.h"
#include "lathe/base/knobs.h"
#include "lathe/base/log.h"
#include "lathe/base/nvtx.h"
#include "lathe/jit/artifact_entry.h"
#include "lathe/jit/compile_key.h"
#include "lathe/jit/keep_source.h"
#include "lathe/jit/missing_kernel.h"
#include "lathe/jit/nearest_key.h"
#include "lathe/jit/per_process.h"

namespace lathe {
namespace {

constexpr uint32_t kMaxBlockThreads = 1024;

// Identity of a request in memory: what KernelRequest promises decides it. A hit compares all of it and copies none.
struct NameView {
  std::string_view family, arch;
  BytesView canonical;
  bool operator==(const NameView& o) const {
    return family == o.family && arch == o.arch && std::ranges::equal(canonical, o.canonical);
  }
};

struct Name {
  std::string family, arch;
  Bytes canonical;
  explicit Name(const NameView& v) : family(v.family), arch(v.arch), canonical(v.canonical.begin(), v.canonical.end()) {}
  operator NameView() const { return {family, arch, canonical}; }  // NOLINT(google-explicit-constructor)
};

struct NameHash {
  using is_transparent = void;
  size_t operator()(const NameView& n) const {
    size_t h = digest_of(n.canonical).lo;
    h = h * 31 + std::hash<std::string_view>{}(n.family);
    return h * 31 + std::hash<std::string_view>{}(n.arch);
  }
};

struct NameEqual {
  using is_transparent = void;
  bool operator()(const NameView& a, const NameView& b) const { return a == b; }
};

// One request's outcome: pending until its builder fills it in.
struct Slot {
  std::optional<Result<ArtifactPtr>> outcome;  // guarded by State::mutex
  bool rebuilt = false;                        // in place of one that a device refused; set before others see the slot
  std::condition_variable filled;
};

struct State {
  std::mutex mutex;
  std::unordered_map<Name, std::shared_ptr<Slot>, NameHash, NameEqual> table;  // guarded by mutex
  EngineStats stats;                                                           // guarded by mutex, but for .cache
};

// A compiler's verdict is kept. A missing tool may be installed later, memory and time may suffice later, and a refused request
// costs nothing to refuse again.
bool is_remembered(const Status& status) {
  return status.code() != Code::unavailable && status.code() != Code::resource_exhausted && status.code() != Code::invalid_argument;
}

Status check(const KernelRequest& r, bool unsafe_cuda) {
  Problems problems;
  if (r.unsafe_cuda && !unsafe_cuda) {
    problems.add("EngineOptions::unsafe_cuda",
                 "is off, but the hooks hold unsafe_cuda; allowed: expressions, or an engine opened with it on");
  }
  if (!is_identifier(r.family)) problems.add("family", "is not an identifier");
  if (!is_identifier(r.entry)) problems.add("entry", "is not an identifier");
  if (r.canonical.empty()) problems.add("canonical", "is empty");
  if (r.block_threads == 0 || r.block_threads > kMaxBlockThreads || r.block_threads % 32 != 0) {
    problems.add("block_threads", "is " + std::to_string(r.block_threads) + "; allowed are multiples of 32 up to 1024");
  }
  auto traits = arch_traits(r.arch);
  if (!traits.ok()) {
    problems.add(traits.status().where(), traits.status().message());
  } else if (r.shared_bytes > static_cast<uint32_t>(traits->max_shared_bytes)) {
    problems.add("shared_bytes", "is " + std::to_string(r.shared_bytes) + "; " + r.arch + " allows a block up to " +
                                     std::to_string(traits->max_shared_bytes));
  }
  return problems.status();
}

std::string name_of(const KernelRequest& r) {
  return r.family + " " + r.arch + (r.description.empty() ? "" : " [" + r.description + "]");
}

std::string rounded(double ms) {
  char text[32];
  std::snprintf(text, sizeof text, "%.0f ms", ms);
  return text;
}

// Words on the start of a process for a compile; none where there was none.
std::string started_in(double ms) {
  return ms > 0 ? " (and " + rounded(ms) + " to start the compiler)" : std::string();
}

}  // namespace

struct Engine::Impl {
  explicit Impl(EngineOptions options)
      : cache(std::move(options.cache)),
        compiler(std::move(options.compiler)),
        templates(std::move(options.templates)),
        jit(options.jit),
        unsafe_cuda(options.unsafe_cuda) {
    if (compiler == nullptr) compiler = default_compiler();
    if (templates != nullptr) return;
    auto loaded = TemplateStore::from_environment();
    templates_status = loaded.status();
    if (loaded.ok()) templates = std::make_shared<TemplateStore>(*std::move(loaded));
  }

  struct Prepared {
    std::string source, compiler, key;
  };

  Result<std::string> source(const KernelRequest& request) const {
    LATHE_TRY(check(request, unsafe_cuda));
    LATHE_TRY(templates_status);
    auto traits = arch_traits(request.arch);
    LATHE_TRY(traits);
    const std::string root = "kernels/" + request.family + "/kernel.cu";
    if (request.printed.empty()) return render(*templates, root, request.data, traits->device_folders);
    return render(templates->with(request.printed), root, request.data, traits->device_folders);
  }

  Result<Prepared> prepare(const KernelRequest& request) const {
    auto text = source(request);
    LATHE_TRY(text);
    auto identity = compiler->identity(request.arch);
    LATHE_TRY(identity);
    std::string key = compile_key(request, *text, *identity);
    return Prepared{*std::move(text), *std::move(identity), std::move(key)};
  }

  // A build that memory does not answer.
  Result<ArtifactPtr> build_cold(const KernelRequest& request, State& state, Origin& origin) {
    if (!jit) return find_made_by_any(request, state, origin, {});
    auto prepared = prepare(request);
    if (prepared.status().code() == Code::unavailable && templates_status.ok()) {
      return find_made_by_any(request, state, origin, prepared.status());
    }
    LATHE_TRY(prepared);
    KeyLock lock;  // held until the kernel is stored, so that other processes find it
    if (auto entry = cache.find_or_lock(prepared->key, lock)) {
      if (auto artifact = from_disk(*std::move(entry), request, state, origin)) return artifact;
    }
    origin = Origin::compiled;
    return compile(request, *prepared, state);
  }

  // Null when the entry does not fit.
  ArtifactPtr from_disk(Entry entry, const KernelRequest& request, State& state, Origin& origin) {
    auto artifact = from_entry(std::move(entry), request);
    if (!artifact) {
      log(LogLevel::detail, name_of(request) + ": the disk cache's entry does not fit");
      return nullptr;
    }
    origin = Origin::disk;
    log(LogLevel::detail, name_of(request) + ": from the disk cache, key " + artifact->key_hex);
    std::lock_guard lock(state.mutex);
    ++state.stats.disk_hits;
    return std::make_shared<const Artifact>(*std::move(artifact));
  }

  // Without a compiler the end of the key, which names it, is not known. `missing`: why there is none; ok when it is not to be
  // used.
  Result<ArtifactPtr> find_made_by_any(const KernelRequest& request, State& state, Origin& origin, const Status& missing) {
    auto text = source(request);
    LATHE_TRY(text);
    if (auto entry = cache.find_prefix(compile_key_prefix(request, *text))) {
      if (auto artifact = from_disk(*std::move(entry), request, state, origin)) return artifact;
    }
    {
      std::lock_guard lock(state.mutex);
      ++state.stats.misses;
    }
    return not_there(request, missing);
  }

  Status not_there(const KernelRequest& request, const Status& missing) const {
    std::string where = cache.on_disk() ? "the cache " + cache.root() : "the cache (" + cache.why_off() + ")";
    for (const Bundle& bundle : cache.bundles()) where += ", the bundle " + bundle.path();
    for (const Status& trouble : cache.bundle_troubles()) where += "; a bundle is not used: " + trouble.to_string();
    const std::string why = missing.ok() ? "LATHE_JIT=off forbids compiling it" : missing.to_string();
    return {Code::unavailable, "this kernel is not in " + where + "; " + why, name_of(request), how_to_add(request)};
  }

  Result<ArtifactPtr> compile(const KernelRequest& request, Prepared& prepared, State& state) {
    if (log_enabled(LogLevel::info)) log(LogLevel::info, name_of(request) + ": compiling; " + why_missed(cache, prepared.key));
    const NvtxRange range([&] { return "lathe compile " + name_of(request); });
    auto output = compiler->compile({prepared.source, request.family, request.arch});
    {
      std::lock_guard lock(state.mutex);
      ++state.stats.misses;
      ++state.stats.compiles;
      if (output.ok()) state.stats.compile_ms += output->milliseconds;
      if (output.ok()) state.stats.start_ms += output->start_milliseconds;
    }
    if (!output.ok()) return explain(output.status(), request, prepared);

    Artifact a;
    a.key_hex = digest_of(std::as_bytes(std::span(prepared.key))).hex();
    a.family = request.family;
    a.description = request.description;
    a.arch = request.arch;
    a.entry = request.entry;
    a.compiler = prepared.compiler;
    a.block_threads = request.block_threads;
    a.shared_bytes = request.shared_bytes;
    a.unsafe_cuda = request.unsafe_cuda;
    a.registers = output->registers;
    a.spill_bytes = output->spill_bytes;
    a.ptx_bytes = output->ptx_bytes;
    a.compile_ms = output->milliseconds;
    a.binary = std::move(output->binary);
    if (log_enabled(LogLevel::trace)) {
      std::string path = keep_source(cache, request, prepared.key, prepared.source, output->log);
      if (!path.empty()) log(LogLevel::trace, name_of(request) + ": source, key and log kept in " + path);
    }
    a.key = std::move(prepared.key);
    const bool kept = cache.store(to_entry(a));
    log(LogLevel::info, name_of(request) + ": compiled in " + rounded(a.compile_ms) + started_in(output->start_milliseconds) +
                            ", " + std::to_string(a.registers) + " registers, " + std::to_string(a.spill_bytes) +
                            " spilled bytes, " + std::to_string(a.binary.size()) + " bytes, key " + a.key_hex + ", " +
                            (kept ? "kept as " + cache.path_of(a.key) : "kept in memory only"));
    return std::make_shared<const Artifact>(std::move(a));
  }

  // Builds what `slot`, which stands in the table, waits for.
  Result<ArtifactPtr> fill(const KernelRequest& request, State& state, Slot& slot, Origin* origin) {
    Origin from = Origin::compiled;
    Result<ArtifactPtr> outcome = build_cold(request, state, from);
    if (origin != nullptr) *origin = from;
    {
      std::lock_guard lock(state.mutex);
      slot.outcome = outcome;
      if (!outcome.ok()) ++state.stats.failures;
      const NameView name{request.family, request.arch, request.canonical};
      if (!is_remembered(outcome.status())) state.table.erase(state.table.find(name));
    }
    slot.filled.notify_all();
    return outcome;
  }

  // The compiler's verdict with the kernel and the compiler's options named, and all that repeats the compile kept.
  Status explain(const Status& status, const KernelRequest& request, const Prepared& prepared) const {
    std::string path = keep_source(cache, request, prepared.key, prepared.source, status.message());
    std::string hint = status.hint();
    if (!path.empty()) hint += (hint.empty() ? "" : "; ") + ("source, key and log are kept in " + path);
    log(LogLevel::info, name_of(request) + ": not compiled: " + status.message().substr(0, status.message().find('\n')));
    return {status.code(), status.message() + "\ncompiled with " + prepared.compiler,
            status.where().empty() ? name_of(request) : status.where() + ", " + name_of(request), hint};
  }

  DiskCache cache;
  std::shared_ptr<Compiler> compiler;
  std::shared_ptr<const TemplateStore> templates;
  Status templates_status;
  const bool jit, unsafe_cuda;
  PerProcess<State> states{[] { return std::make_unique<State>(); }};
};

bool jit_of_environment() {
  const std::string jit = knob("LATHE_JIT").value_or("on");
  // Whoever set it meant to forbid something.
  if (jit != "on" && jit != "off") warn_once("LATHE_JIT", "LATHE_JIT=" + jit + " is not on or off: taken as off");
  return jit == "on";
}

Engine::Engine(EngineOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}
Engine::~Engine() = default;

Result<ArtifactPtr> Engine::build(const KernelRequest& request, Origin* origin) {
  State& state = impl_->states.get();
  const NameView name{request.family, request.arch, request.canonical};
  std::shared_ptr<Slot> slot;
  {
    std::unique_lock lock(state.mutex);
    if (auto it = state.table.find(name); it != state.table.end()) {
      slot = it->second;
      slot->filled.wait(lock, [&] { return slot->outcome.has_value(); });
      if (slot->outcome->ok()) ++state.stats.memory_hits;
      if (origin != nullptr) *origin = Origin::memory;
      return *slot->outcome;
    }
    slot = std::make_shared<Slot>();
    state.table.emplace(name, slot);
  }

  return impl_->fill(request, state, *slot, origin);
}

Result<ArtifactPtr> Engine::rebuild(const KernelRequest& request, const ArtifactPtr& refused, Origin* origin) {
  if (refused == nullptr) return invalid_argument("refused", "null");
  State& state = impl_->states.get();
  const NameView name{request.family, request.arch, request.canonical};
  auto fresh = std::make_shared<Slot>();
  fresh->rebuilt = true;
  {
    std::lock_guard lock(state.mutex);
    auto it = state.table.find(name);
    const bool ours =
        it != state.table.end() && it->second->outcome && it->second->outcome->ok() && **it->second->outcome == refused;
    if (ours && it->second->rebuilt) {
      return Status{Code::unavailable, "it was built anew already, and refused again", name_of(request)};
    }
    if (ours) it->second = fresh;
    if (it == state.table.end()) it = state.table.emplace(name, fresh).first;
    if (it->second != fresh) fresh = nullptr;
  }
  if (fresh == nullptr) return build(request, origin);  // another thread was first
  impl_->cache.reject(refused->key, refused->binary);
  return impl_->fill(request, state, *fresh, origin);
}

Result<std::string> Engine::source(const KernelRequest& request) const {
  return impl_->source(request);
}

Result<std::string> Engine::key(const KernelRequest& request) const {
  auto prepared = impl_->prepare(request);
  LATHE_TRY(prepared);
  return std::move(prepared->key);
}

bool Engine::jit() const {
  return impl_->jit;
}

EngineStats Engine::stats() const {
  State& state = impl_->states.get();
  EngineStats stats;
  {
    std::lock_guard lock(state.mutex);
    stats = state.stats;
  }
  stats.cache = impl_->cache.stats();
  return stats;
}

const DiskCache& Engine::cache() const {
  return impl_->cache;
}

Compiler& Engine::compiler() const {
  return *impl_->compiler;
}

}  // namespace lathe
