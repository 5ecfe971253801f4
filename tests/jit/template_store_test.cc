#include "lathe/jit/template_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "lathe/testing/temp_dir.h"
#include "support.h"

namespace lathe {
namespace {

using ::testing::HasSubstr;
using testing::TempDir;

void write(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

TEST(TemplateStore, EmbeddedEqualsTheFolder) {
  auto folder = TemplateStore::from_directory(TEMPLATES);
  ASSERT_TRUE(folder.ok()) << folder.status().to_string();
  auto files = folder->files();
  std::erase_if(files, [](const auto& file) { return file.first.ends_with(".md"); });  // words for people stay outside the library
  EXPECT_FALSE(files.empty());
  const auto& embedded = TemplateStore::embedded().files();
  EXPECT_EQ(embedded.size(), files.size());
  for (const auto& [path, text] : files) {
    const std::string* inside = TemplateStore::embedded().find(path);
    ASSERT_NE(inside, nullptr) << path;
    EXPECT_TRUE(*inside == text) << path << " differs from the file: was it changed since the build?";
  }
}

TEST(TemplateStore, ReadsEveryRegularFile) {
  TempDir dir;
  write(dir / "a.cuh", "a\n");
  write(dir / "kernels/x/kernel.cu", std::string("quote \" )\" \\ ; [ ] ${X} @X@ \xc3\xa9\n"));
  write(dir / ".hidden", "no");
  write(dir / "a.cuh~", "no");
  write(dir / ".git/config", "no");
  std::filesystem::create_symlink("/etc/passwd", dir / "link");
  auto store = TemplateStore::from_directory(dir.path());
  ASSERT_TRUE(store.ok()) << store.status().to_string();
  EXPECT_EQ(store->files().size(), 2u);
  ASSERT_NE(store->find("a.cuh"), nullptr);
  EXPECT_EQ(*store->find("a.cuh"), "a\n");
  EXPECT_THAT(*store->find("kernels/x/kernel.cu"), HasSubstr("${X} @X@"));
  EXPECT_EQ(store->find("link"), nullptr);
}

TEST(TemplateStore, RefusesBadFolders) {
  TempDir dir;
  EXPECT_THAT(TemplateStore::from_directory(dir / "none").status().to_string(), HasSubstr("cannot be read"));
  EXPECT_THAT(TemplateStore::from_directory(dir.path()).status().to_string(), HasSubstr("holds no templates"));
  write(dir / "a\"b.cuh", "x");
  EXPECT_THAT(TemplateStore::from_directory(dir.path()).status().to_string(), HasSubstr("whose name has other characters"));
  std::filesystem::remove(dir / "a\"b.cuh");
  write(dir / "big.cuh", std::string((4 << 20) + 1, 'x'));
  EXPECT_THAT(TemplateStore::from_directory(dir.path()).status().to_string(), HasSubstr("over 4 MiB"));
}

TEST(TemplateStore, EnvironmentNamesTheFolder) {
  TempDir dir;
  write(dir / "mine.cuh", "mine\n");
  testing::ScopedEnv env("LATHE_TEMPLATE_DIR", dir.path().c_str());
  auto store = TemplateStore::from_environment();
  ASSERT_TRUE(store.ok());
  EXPECT_NE(store->find("mine.cuh"), nullptr);
}

TEST(TemplateStore, BadFolderFailsTheBuildNotTheProcess) {
  testing::ScopedEnv env("LATHE_TEMPLATE_DIR", "/nonexistent");
  EngineOptions options = testing::tiny_engine(host_compiler());
  options.templates = nullptr;
  Engine engine(options);
  EXPECT_THAT(engine.build(testing::tiny_request("host")).status().to_string(), HasSubstr("/nonexistent"));
}

TEST(TemplateStore, WithReplacesOneFile) {
  TemplateStore store = testing::store_of({{"a", "1"}, {"b", "2"}});
  TemplateStore other = store.with("a", "9");
  EXPECT_EQ(*other.find("a"), "9");
  EXPECT_EQ(*other.find("b"), "2");
  EXPECT_EQ(*store.find("a"), "1");
}

}  // namespace
}  // namespace lathe
