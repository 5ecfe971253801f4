// Hooks as CUDA text: refused without both gates, marked in the cache, and equal to the same maths as an expression.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <ostream>

#include "lathe/api/merge.h"
#include "lathe/arch/traits.h"
#include "lathe/expr_testing/hostile_texts.h"
#include "lathe/proof/harness.h"
#include "lathe/proof/merge_case.h"
#include "lathe/spec/expr/json.h"
#include "lathe/spec/expr/lexer.h"
#include "lathe/spec/expr/operators.h"
#include "lathe/spec/expr/parse.h"
#include "lathe/testing/seed.h"

namespace lathe::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr PrepareOptions kAsk{.unsafe_cuda = true};
constexpr const char* kMask = "mask = unsafe_cuda(\"return a0 <= a1;\", kv_pos, q_pos)";

EngineOptions engine_options(bool unsafe_cuda) {
  EngineOptions options;
  options.cache = {};
  options.cache.mode = CacheMode::off;
  options.unsafe_cuda = unsafe_cuda;
  return options;
}
Engine& unsafe_engine() {
  static Engine instance(engine_options(true));
  return instance;
}

AttentionSpec spec_of(const std::string& hooks, LseOut lse = LseOut::ln) {
  AttentionSpec spec;
  spec.head_dim_qk = spec.head_dim_vo = 64;
  spec.group_size = 2;
  spec.lse = lse;
  spec.layout.kind = LayoutKind::ragged;
  spec.split_kv.mode = SplitMode::off;  // so that tiles that are skipped change no rounding
  spec.hooks = *expr::parse(hooks);
  return spec;
}

Result<KernelRequest> request_of(const AttentionSpec& spec, PrepareOptions options = {}) {
  return attention_request(spec, *resolve_tile(spec, *arch_traits("host")), options);
}

struct Twins {
  const char *name, *expression, *text;
};
void PrintTo(const Twins& twins, std::ostream* out) {
  *out << twins.name;
}
const Twins kTwins[] = {
    {"mask", "param W:i32 in [1, 300]; mask = kv_pos <= q_pos && q_pos - kv_pos < W",
     "param W:i32 in [1, 300]; mask = unsafe_cuda(\"const int back = a1 - a0;\\n  return a0 <= a1 && back < a2;\", kv_pos, q_pos, "
     "W)"},
    {"logits", "tensor s:f32[HQ]; mask = kv_pos <= q_pos; logits = score * 0.5 + s[h]",
     "tensor s:f32[HQ]; mask = kv_pos <= q_pos; logits = unsafe_cuda(\"return a0 * 0.5f + a1;\", score, s[h])"},
    {"output", "tensor g:f32[TOK, HQ]; output = d < 8 ? o : o * g[tok, h]",
     "tensor g:f32[TOK, HQ]; output = unsafe_cuda(\"if (a0 < 8) return a1;\\nreturn a1 * a2;\", d, o, g[tok, h])"},
    {"sink", "sink = f32(h) * 0.25", "sink = unsafe_cuda(\"return float(a0) * 0.25f;\", h)"},
    {"queryAndKey", "query = x * 0.5 - rot(x); key = rot(x)",
     "query = unsafe_cuda(\"return a0 * 0.5f - a1;\", x, rot(x)); key = unsafe_cuda(\"return a0;\", rot(x))"},
    {"lseTransform", "lse_transform = lse * 2", "lse_transform = unsafe_cuda(\"return a0 * 2.0f;\", lse)"},
    {"bits", "param u:u32; param f:bool; mask = f || bit(u, kv)",
     "param u:u32; param f:bool; mask = unsafe_cuda(\"return a0 || (a1 >> (a2 & 31) & 1u) != 0;\", f, u, kv)"},
};

class UnsafeCuda : public ::testing::TestWithParam<Twins> {};

TEST_P(UnsafeCuda, EqualsTheExpression) {
  std::mt19937_64 rng(mix(seed(), std::hash<std::string>{}(GetParam().name)));
  const auto device = host_device({.seed = rng(), .check = true});
  const AttentionSpec expression = spec_of(GetParam().expression), text = spec_of(GetParam().text);
  Result<Attention> one = Attention::prepare(engine(), device, expression);
  ASSERT_TRUE(one.ok()) << one.status().to_string();
  Result<Attention> other = Attention::prepare(unsafe_engine(), device, text, kAsk);
  ASSERT_TRUE(other.ok()) << other.status().to_string();
  const BatchShape shape{.num_kv_heads = 2, .qo_lens = {1, 70, 3}, .kv_lens = {200, 130, 5}};
  const Batch batch{shape, draw_values(expression, shape, 1.0, rng)};
  const Placement placement{.seed = rng()};
  const BatchImage images[] = {{expression, batch, placement}, {text, batch, placement}};
  const Outcome a = run(device, *one, images[0], shape.num_kv_heads), b = run(device, *other, images[1], shape.num_kv_heads);
  EXPECT_THAT(a.problems, ::testing::IsEmpty());
  EXPECT_THAT(b.problems, ::testing::IsEmpty());
  EXPECT_TRUE(a.o == b.o) << repeat_command();
  EXPECT_TRUE(a.lse == b.lse) << repeat_command();
  const oracle::AttentionOutput expected = oracle::attention(images[0].oracle_input());
  EXPECT_LE(measure(expression, expected, b.o, b.lse, shape).tensor, bounds_of(expression).tensor) << repeat_command();
}
INSTANTIATE_TEST_SUITE_P(, UnsafeCuda, ::testing::ValuesIn(kTwins), [](const auto& twins) { return twins.param.name; });

class CountingCompiler : public Compiler {
 public:
  Result<std::string> identity(const std::string&) override { return std::string("counting"); }
  Result<CompileOutput> compile(const CompileJob&) override {
    ++calls;
    return Status(Code::compile_failed, "not meant to be asked");
  }
  std::vector<std::string> archs() override { return {"host"}; }
  std::string describe() override { return "counting"; }
  int calls = 0;
};

TEST(UnsafeCudaGates, EachIsNamedBeforeAnythingIsCompiled) {
  const auto compiler = std::make_shared<CountingCompiler>();
  for (const bool engine_allows : {false, true}) {
    for (const bool call_asks : {false, true}) {
      EngineOptions options = engine_options(engine_allows);
      options.compiler = compiler;
      Engine engine(options);
      const int before = compiler->calls;
      const Status status = Attention::prepare(engine, host_device(), spec_of(kMask), {.unsafe_cuda = call_asks}).status();
      EXPECT_EQ(compiler->calls - before, engine_allows && call_asks ? 1 : 0);
      if (engine_allows && call_asks) continue;
      EXPECT_EQ(status.code(), Code::invalid_argument);
      EXPECT_THAT(status.to_string(),
                  HasSubstr(call_asks ? "EngineOptions::unsafe_cuda: is off" : "PrepareOptions::unsafe_cuda is off"));
    }
  }
}

// Every call of an engine that takes a request, and not only the one that compiles.
TEST(UnsafeCudaGates, NoCallOfAnEngineGetsPast) {
  const Engine engine(engine_options(false));
  Result<KernelRequest> request = request_of(spec_of(kMask), kAsk);
  ASSERT_TRUE(request.ok());
  EXPECT_TRUE(request->unsafe_cuda);
  EXPECT_EQ(request->spec, "") << "no command is told that would be refused";
  EXPECT_THAT(engine.source(*request).status().to_string(), HasSubstr("EngineOptions::unsafe_cuda"));
  EXPECT_THAT(engine.key(*request).status().to_string(), HasSubstr("EngineOptions::unsafe_cuda"));
  Engine built(engine_options(false));
  EXPECT_THAT(built.build(*request).status().to_string(), HasSubstr("EngineOptions::unsafe_cuda"));
  EngineOptions without_jit = engine_options(false);
  without_jit.jit = false;
  EXPECT_THAT(Engine(without_jit).build(*request).status().to_string(), HasSubstr("EngineOptions::unsafe_cuda"));
  // A call that asks for it in vain changes nothing for expressions.
  EXPECT_FALSE(request_of(spec_of("mask = kv_pos <= q_pos"), kAsk)->unsafe_cuda);
}

MergeSpec merge_of(const std::string& hooks) {
  return {.head_dim = 64, .hooks = *expr::parse(hooks)};
}
constexpr const char* kOutput = "tensor g: f32[TOK, HQ]; output = unsafe_cuda(\"return a0 * a1 + 1.0f;\", o, g[tok, h])";

// A merge is no way around.
TEST(UnsafeCudaGates, OfAMergeEachIsNamedBeforeAnythingIsCompiled) {
  const auto compiler = std::make_shared<CountingCompiler>();
  for (const bool engine_allows : {false, true}) {
    for (const bool call_asks : {false, true}) {
      EngineOptions options = engine_options(engine_allows);
      options.compiler = compiler;
      Engine engine(options);
      const int before = compiler->calls;
      const Status status = Merge::prepare(engine, host_device(), merge_of(kOutput), {.unsafe_cuda = call_asks}).status();
      EXPECT_EQ(compiler->calls - before, engine_allows && call_asks ? 1 : 0);
      if (engine_allows && call_asks) continue;
      EXPECT_EQ(status.code(), Code::invalid_argument);
      EXPECT_THAT(status.to_string(),
                  HasSubstr(call_asks ? "EngineOptions::unsafe_cuda: is off" : "PrepareOptions::unsafe_cuda is off"));
    }
  }
  Engine closed(engine_options(false));
  const Result<KernelRequest> request = merge_request(merge_of(kOutput), kAsk);
  ASSERT_TRUE(request.ok());
  EXPECT_TRUE(request->unsafe_cuda);
  EXPECT_EQ(request->spec, "");
  EXPECT_FALSE(merge_request(merge_of("output = o * 2"), kAsk)->unsafe_cuda);
  for (const Status& status : {closed.source(*request).status(), closed.key(*request).status(), closed.build(*request).status()})
    EXPECT_THAT(status.to_string(), HasSubstr("EngineOptions::unsafe_cuda"));
  EXPECT_THAT(*Engine(engine_options(true)).source(*request), HasSubstr("{\nreturn a0 * a1 + 1.0f;\n}"));
  // Where a merge knows no such hook, text of it does not pass either.
  EXPECT_FALSE(merge_request(merge_of(kMask), kAsk).ok());
}

TEST(UnsafeCudaGates, OfAMergeItEqualsTheExpression) {
  std::mt19937_64 rng(seed());
  const auto device = host_device({.seed = rng(), .check = true});
  Result<Merge> merge = Merge::prepare(unsafe_engine(), device, merge_of(kOutput), kAsk);
  ASSERT_TRUE(merge.ok()) << merge.status().to_string();
  EXPECT_TRUE(merge->kernel().artifact()->unsafe_cuda);
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(MergeCase(merge_of("tensor g: f32[TOK, HQ]; output = o * g[tok, h] + 1"), rng).run(device, *merge), "")
        << repeat_command();
}

// The corpus of hostile strings as texts, by every way in that there is: text, JSON, C++, a spec's JSON and its canonical form.
TEST(UnsafeCudaGates, NoHostileTextReachesSource) {
  const Engine closed(engine_options(false)), open(engine_options(true));
  size_t tried = 0, read = 0, merges = 0;
  const auto expect_refused = [&](const Result<expr::Hooks>& hooks) {
    ++tried;
    if (!hooks.ok()) return;
    AttentionSpec spec = spec_of("");
    spec.hooks = *hooks;
    if (!validate(spec).ok()) return;
    ++read;
    // As a spec that came from outside, too.
    const Result<AttentionSpec> sent = attention_spec_from_json(to_json(spec));
    ASSERT_TRUE(sent.ok()) << sent.status().to_string();
    for (const AttentionSpec& given : {spec, *sent}) {
      EXPECT_FALSE(request_of(given).ok());
      EXPECT_FALSE(closed.source(*request_of(given, kAsk)).ok());
    }
  };
  const auto expect_merge_refused = [&](const Result<expr::Hooks>& hooks) {
    if (!hooks.ok()) return;
    MergeSpec spec;
    spec.hooks = *hooks;
    if (!validate(spec).ok()) return;
    ++merges;
    const Result<MergeSpec> sent = merge_spec_from_json(to_json(spec));
    ASSERT_TRUE(sent.ok()) << sent.status().to_string();
    for (const MergeSpec& given : {spec, *sent}) {
      EXPECT_FALSE(merge_request(given).ok());
      EXPECT_FALSE(closed.source(*merge_request(given, kAsk)).ok());
    }
  };
  for (const std::string& s : expr::testing::hostile_strings()) {
    const std::string call = "unsafe_cuda(" + expr::quoted_text(s) + ", score)";
    expect_refused(expr::parse("logits = " + call));
    expect_refused(expr::parse("logits = unsafe_cuda(\"" + s + "\", score)"));
    expect_refused(
        expr::hooks_from_json(nlohmann::json{{"logits", call}}.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace)));
    expect_refused(expr::make_hooks({{expr::Hook::logits, expr::unsafe_cuda(s, {expr::score})}}));
    expect_merge_refused(expr::parse("output = unsafe_cuda(" + expr::quoted_text(s) + ", o)"));
    expect_merge_refused(expr::make_hooks({{expr::Hook::output, expr::unsafe_cuda(s, {expr::o})}}));
  }
  EXPECT_GT(read, 2'000u);
  EXPECT_GT(merges, 1'000u);
  std::cout << tried << " texts, " << read << " of them hooks, " << merges << " hooks of merges; none in source\n";
  // With both gates they do arrive, as they are.
  const Result<std::string> source = open.source(*request_of(spec_of(kMask), kAsk));
  ASSERT_TRUE(source.ok()) << source.status().to_string();
  EXPECT_THAT(*source, HasSubstr("{\nreturn a0 <= a1;\n}"));
}

TEST(UnsafeCudaGates, TheTextIsPartOfTheKey) {
  const Engine open(engine_options(true));
  const auto key = [&](const char* text) {
    return *open.key(*request_of(spec_of(std::string("mask = unsafe_cuda(\"") + text + "\", kv_pos, q_pos)"), kAsk));
  };
  EXPECT_NE(key("return a0 <= a1;"), key("return a0  <= a1;"));
  EXPECT_EQ(key("return a0 <= a1;"), key("return a0 <= a1;"));
}

// Directives are read as those of templates are. That is no fence: text may do what it likes.
TEST(UnsafeCudaGates, AnIncludeIsOneOfTemplatesOrRefused) {
  const Engine open(engine_options(true));
  const auto source = [&](const char* text) {
    return open.source(*request_of(spec_of(std::string("mask = unsafe_cuda(\"") + text + "\")"), kAsk));
  };
  EXPECT_FALSE(source("\\n#include \\\"/etc/passwd\\\"\\nreturn true;").ok());
  EXPECT_FALSE(source("\\n#include <stdio.h>\\nreturn true;").ok());
}

TEST(UnsafeCudaGates, TheCacheEntryIsMarked) {
  char name[] = "/tmp/lathe-unsafe-XXXXXX";
  const std::filesystem::path root = mkdtemp(name);
  EngineOptions options = engine_options(true);
  options.cache.mode = CacheMode::read_write;
  options.cache.root = root;
  const std::string plain = "mask = kv_pos <= q_pos";
  {
    Engine engine(options);
    for (const std::string& hooks : {std::string(kMask), plain}) {
      const Status status = Attention::prepare(engine, host_device(), spec_of(hooks), kAsk).status();
      ASSERT_TRUE(status.ok()) << status.to_string();
    }
    size_t marked = 0, seen = 0;
    for (const DiskCache::Listing& entry : engine.cache().list()) {
      const auto metadata = nlohmann::json::parse(engine.cache().read_file(entry.name)->metadata);
      const bool is_text = metadata["description"].get<std::string>().find("unsafe_cuda") != std::string::npos;
      EXPECT_EQ(metadata.value("unsafe_cuda", false), is_text) << metadata.dump();
      ++seen, marked += is_text ? 1 : 0;
    }
    EXPECT_EQ(seen, 2u);
    EXPECT_EQ(marked, 1u);
  }
  options.jit = false;
  EXPECT_THAT(Engine(options).build(*request_of(spec_of(std::string(kMask) + "; sink = 1"), kAsk)).status().to_string(),
              HasSubstr("lathe compile --unsafe-cuda"));
  options.jit = true;
  // What is in the cache is had by the same two gates.
  Engine again(options);
  Result<Attention> attention = Attention::prepare(again, host_device(), spec_of(kMask), kAsk);
  ASSERT_TRUE(attention.ok());
  EXPECT_EQ(attention->origin(), Origin::disk);
  EXPECT_TRUE(attention->kernel().artifact()->unsafe_cuda);
  EXPECT_FALSE(Attention::prepare(again, host_device(), spec_of(kMask)).ok());
  options.unsafe_cuda = false;
  Engine closed(options);
  EXPECT_FALSE(Attention::prepare(closed, host_device(), spec_of(kMask), kAsk).ok());
  EXPECT_TRUE(Attention::prepare(closed, host_device(), spec_of(plain)).ok());
  std::filesystem::remove_all(root);
}

}  // namespace
}  // namespace lathe::testing
