#include "lathe/jit/render.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lathe/jit/template_tags.h"
#include "support.h"

namespace lathe {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using testing::store_of;

const std::vector<std::string> kFolders{"device/here"};

Result<std::string> render_root(const std::string& text, const TemplateData& data = {}) {
  return render(store_of({{"k.cu", text}}), "k.cu", data, kFolders);
}

TemplateData item(int n) {
  TemplateData data;
  data.emplace("n", n);
  return data;
}

// The text without #line directives and blank lines.
std::string code(const Result<std::string>& rendered) {
  EXPECT_TRUE(rendered.ok()) << rendered.status().to_string();
  if (!rendered.ok()) return {};
  std::istringstream in(*rendered);
  std::string out;
  for (std::string line; std::getline(in, line);) {
    if (!line.empty() && !line.starts_with("#line")) out += line + "\n";
  }
  return out;
}

TEST(Render, EachKindOfValue) {
  TemplateData data;
  data.emplace("i", -5);
  data.emplace("big", int64_t{9'000'000'000});
  data.emplace("yes", true);
  data.emplace("no", false);
  data.emplace("name", TemplateValue::identifier("half_t"));
  data.emplace("items", std::vector<TemplateData>{item(1), item(2)});
  auto text = render_root(
      "i=<%i%> big=<% big %> yes=<%yes%> no=<%no%> name=<%name%>\n<%#items%>\nn=<%n%> of <%i%>\n<%/items%>\n"
      "<%#yes%>taken<%/yes%><%#no%>left<%/no%><%^no%>inverse<%/no%><%! a comment %>\n",
      data);
  EXPECT_EQ(code(text), "i=-5 big=9000000000 yes=true no=false name=half_t\nn=1 of -5\nn=2 of -5\ntakeninverse\n");
}

TEST(Render, NothingIsEscaped) {
  EXPECT_EQ(code(render_root("a < b && c > \"d\" {{x}} {{{y}}} & ' % \\\n")), "a < b && c > \"d\" {{x}} {{{y}}} & ' % \\\n");
}

TEST(Render, IsDeterministic) {
  TemplateData data;
  data.emplace("items", std::vector<TemplateData>{item(1), item(2)});
  const std::string root = "<%#items%>\nint a<%n%>;\n<%/items%>\n";
  auto first = render_root(root, data);
  ASSERT_TRUE(first.ok());
  for (int i = 0; i < 20; ++i) EXPECT_EQ(*render_root(root, data), *first);
}

struct Refused {
  const char* text;
  const char* says;
};

TEST(Render, RefusesTemplatesThatAreNotStrict) {
  TemplateData data;
  data.emplace("n", 1);
  data.emplace("f", true);
  data.emplace("empty", std::vector<TemplateData>{});
  data.emplace("items", std::vector<TemplateData>{item(1)});
  const std::string uses = "<%n%><%f%><%#items%><%n%><%/items%><%#empty%><%/empty%>\n";
  ASSERT_TRUE(render_root(uses, data).ok());
  const Refused cases[] = {
      {"<%unknown%>", "no value is given for 'unknown'"},
      {"<%^f%>\n<%unknown%>\n<%/f%>", "no value is given for 'unknown'"},  // in a branch that is not taken
      {"<%#items%><%m%><%/items%>", "no value is given for 'm'"},
      {"<%items%>", "is a list and cannot be printed"},
      {"<%#n%><%/n%>", "needs a boolean or a list"},
      {"<%^n%><%/n%>", "needs a boolean or a list"},
      {"<%&n%>", "is not <%name%>"},
      {"<%>n%>", "is not <%name%>"},
      {"<%{n}%>", "is not <%name%>"},
      {"<%=[ ]=%>", "is not <%name%>"},
      {"<%.%>", "is not <%name%>"},
      {"<%a.b%>", "is not <%name%>"},
      {"<%%>", "is not <%name%>"},
      {"<%n n%>", "is not <%name%>"},
      {"<%int%>", "is not <%name%>"},
      {"<%n", "not closed on its line"},
      {"<%n\n%>", "not closed on its line"},
      {"<%#f%>", "section 'f' is not closed"},
      {"<%/f%>", "was not opened"},
      {"<%#f%><%#items%><%/f%><%/items%>", "section 'items' is open where 'f' is closed"},
      {"a\001b", "control character"},
      {"a\rb", "control character"},
  };
  for (const Refused& c : cases) {
    auto rendered = render_root(uses + c.text + "\n", data);
    ASSERT_FALSE(rendered.ok()) << c.text;
    EXPECT_EQ(rendered.status().code(), Code::invalid_argument) << c.text;
    EXPECT_THAT(rendered.status().to_string(), HasSubstr(c.says)) << c.text;
    EXPECT_THAT(rendered.status().to_string(), HasSubstr("templates/k.cu:")) << c.text;
  }
}

TEST(Render, NamesTheLineOfTheMistake) {
  auto rendered = render_root("a\nb\n  <%oops%>\n");
  EXPECT_EQ(rendered.status().where(), "templates/k.cu:3");
}

TEST(Render, SaysAllProblemsAtOnce) {
  auto rendered = render_root("<%a%>\n<%b%>\n");
  EXPECT_THAT(rendered.status().message(), HasSubstr("'a'"));
  EXPECT_THAT(rendered.status().message(), HasSubstr("'b'"));
}

TEST(Render, RefusesUnusedKeys) {
  TemplateData data;
  data.emplace("spare", 1);
  auto rendered = render_root("x\n", data);
  EXPECT_EQ(rendered.status().where(), "spare");
  EXPECT_THAT(rendered.status().message(), HasSubstr("no tag of the template uses it"));
}

TEST(Render, RefusesUnusedKeysOfItems) {
  TemplateData data;
  data.emplace("items", std::vector<TemplateData>{item(1)});
  EXPECT_EQ(render_root("<%#items%>x<%/items%>\n", data).status().where(), "n");
}

TEST(Render, RefusesKeysThatOnlySomeItemsHave) {
  TemplateData data;
  data.emplace("items", std::vector<TemplateData>{item(1), {}});
  EXPECT_THAT(render_root("<%#items%><%n%><%/items%>\n", data).status().message(), HasSubstr("some items"));
}

TEST(Render, KeysOfTheBranchNotTakenCountAsUsed) {
  TemplateData data;
  data.emplace("f", false);
  data.emplace("page", 16);
  EXPECT_EQ(code(render_root("<%#f%><%page%><%/f%>x\n", data)), "x\n");
}

TEST(Render, RefusesMissingRoot) {
  auto rendered = render(store_of({}), "kernels/none/kernel.cu", {}, kFolders);
  EXPECT_THAT(rendered.status().message(), HasSubstr("templates/kernels/none/kernel.cu does not exist"));
}

TEST(Include, DeviceFolderFirstThenRootEachOnce) {
  auto store = store_of({
      {"k.cu", "#include \"a.h\"\n #  include\t\"lib/b.h\"  // why\n#include \"a.h\"\nend\n"},
      {"a.h", "root a\n"},
      {"device/here/a.h", "#pragma once\n#include \"lib/b.h\"\nhere a\n"},
      {"lib/b.h", "b"},
  });
  EXPECT_EQ(code(render(store, "k.cu", {}, kFolders)), "b\nhere a\nend\n");
  EXPECT_EQ(code(render(store, "k.cu", {}, {})), "root a\nb\nend\n");
}

TEST(Include, DeviceMeansTheArchsOwnFile) {
  auto store = store_of({{"k.cu", "#include \"device/p.h\"\n#include \"p.h\"\n#include \"device/common.h\"\n"},
                         {"device/common.h", "common\n"},
                         {"device/here/p.h", "here\n"},
                         {"device/there/p.h", "there\n"}});
  EXPECT_EQ(code(render(store, "k.cu", {}, {"device/here"})), "here\ncommon\n");
  EXPECT_EQ(code(render(store, "k.cu", {}, {"device/there", "device/here"})), "there\ncommon\n");
}

TEST(Include, CyclesEnd) {
  auto store = store_of(
      {{"k.cu", "#include \"a.h\"\nk\n"}, {"a.h", "#include \"b.h\"\na\n"}, {"b.h", "#include \"a.h\"\n#include \"k.cu\"\nb\n"}});
  EXPECT_EQ(code(render(store, "k.cu", {}, kFolders)), "b\na\nk\n");
}

TEST(Include, OnlyMustacheFilesAreFilledIn) {
  TemplateData data;
  data.emplace("n", 3);
  auto store = store_of({{"k.cu", "#include \"config.mustache\"\n#include \"plain.h\"\n"},
                         {"config.mustache", "n=<%n%>\n"},
                         {"plain.h", "a <%n%> b\n"}});
  EXPECT_EQ(code(render(store, "k.cu", data, kFolders)), "n=3\na <%n%> b\n");
}

TEST(Include, SectionsChooseFiles) {
  auto store =
      store_of({{"k.cu", "<%#f%>\n#include \"a.h\"\n<%/f%>\n<%^f%>\n#include \"b.h\"\n<%/f%>\n"}, {"a.h", "a\n"}, {"b.h", "b\n"}});
  for (bool f : {true, false}) {
    TemplateData data;
    data.emplace("f", f);
    EXPECT_EQ(code(render(store, "k.cu", data, kFolders)), f ? "a\n" : "b\n");
  }
}

TEST(Include, RefusesEverythingElse) {
  const Refused cases[] = {
      {"#include <vector>", "only #include \"file of templates/\""},
      {"#include </etc/passwd>", "only #include"},
      {"#include MACRO", "only #include"},
      {"#include", "only #include"},
      {"#include \"a.h", "only #include"},
      {"#include \"/etc/passwd\"", "no such file in templates/device/here, templates"},
      {"#include \"../a.h\"", "no such file"},
      {"#include \"lib/../a.h\"", "no such file"},
      {"#include \"a.h\" \\", "text follows"},
      {"#include \"a.h\" int x;", "text follows"},
      {"#include_next \"a.h\"", "not allowed"},
      {"#import \"a.h\"", "not allowed"},
      {"#embed \"a.h\"", "not allowed"},
      {"%:include \"a.h\"", "not allowed"},
      {"#/**/include \"a.h\"", "not allowed"},
      {"#\\", "not allowed"},
      {"#line 7 \"x\"", "not allowed"},
      {"#if 1\n#include \"a.h\"\n#endif", "cannot stand inside #if"},
      {"#endif", "#endif without #if"},
      {"#ifdef X", "an #if is not closed"},
  };
  for (const Refused& c : cases) {
    auto rendered = render(store_of({{"k.cu", std::string("ok\n") + c.text + "\n"}, {"a.h", "a\n"}}), "k.cu", {}, kFolders);
    ASSERT_FALSE(rendered.ok()) << c.text;
    EXPECT_THAT(rendered.status().to_string(), HasSubstr(c.says)) << c.text;
    EXPECT_THAT(rendered.status().where(), HasSubstr("templates/k.cu")) << c.text;
  }
}

// Reads #line directives as a compiler does, and gives each line of code its file and line.
std::map<std::string, std::string> positions(const std::string& text) {
  std::map<std::string, std::string> out;
  std::istringstream in(text);
  std::string file = "?";
  int number = 1;
  for (std::string line; std::getline(in, line); ++number) {
    if (line.starts_with("#line ")) {
      std::istringstream directive(line.substr(6));
      directive >> number >> file;
      --number;
    } else if (!line.empty()) {
      out[line] = file + ":" + std::to_string(number);
    }
  }
  return out;
}

TEST(LineDirectives, EveryLineKnowsItsTemplate) {
  TemplateData data;
  data.emplace("f", false);
  data.emplace("items", std::vector<TemplateData>{item(1), item(2)});
  auto store = store_of({
      {"k.cu",
       "one\n#include \"a.h\"\nthree\n<%#f%>\nfive\nsix\nseven\neight\nnine\nten\n<%/f%>\ntwelve\n<%#items%>\nfourteen "
       "<%n%>\n<%/items%>\nsixteen\n"},
      {"a.h", "a1\n\n#pragma once\n#include \"b.h\"\n\n\n\n\n\n\n\na12\n"},
      {"b.h", "b1\nb2"},
  });
  auto text = render(store, "k.cu", data, kFolders);
  ASSERT_TRUE(text.ok()) << text.status().to_string();
  const std::map<std::string, std::string> wanted{
      {"one", "\"templates/k.cu\":1"},      {"a1", "\"templates/a.h\":1"},           {"b1", "\"templates/b.h\":1"},
      {"b2", "\"templates/b.h\":2"},        {"a12", "\"templates/a.h\":12"},         {"three", "\"templates/k.cu\":3"},
      {"twelve", "\"templates/k.cu\":12"},  {"fourteen 1", "\"templates/k.cu\":14"}, {"fourteen 2", "\"templates/k.cu\":14"},
      {"sixteen", "\"templates/k.cu\":16"},
  };
  EXPECT_EQ(positions(*text), wanted) << *text;
}

TEST(LineDirectives, BothCompilersPointIntoTheTemplate) {
  TemplateData data;
  data.emplace("f", true);
  auto store = store_of({
      {"k.cu", "#include \"a.h\"\n<%#f%>\nint fine;\n<%/f%>\n\nint k = wrong_in_root;\n"},
      {"a.h", "#pragma once\n\n\nint a = wrong_in_header;\n"},
  });
  auto text = render(store, "k.cu", data, kFolders);
  ASSERT_TRUE(text.ok()) << text.status().to_string();
  auto host = host_compiler()->compile({*text, "wrong", "host"});
  EXPECT_EQ(host.status().code(), Code::compile_failed);
  EXPECT_THAT(host.status().message(), HasSubstr("templates/a.h:4"));
  EXPECT_THAT(host.status().message(), HasSubstr("templates/k.cu:6"));
  if (!testing::have_nvrtc()) GTEST_SKIP() << "no NVRTC";
  auto gpu = nvrtc_compiler()->compile({*text, "wrong", "sm_80"});
  EXPECT_EQ(gpu.status().code(), Code::compile_failed);
  EXPECT_THAT(gpu.status().message(), HasSubstr("templates/a.h(4)"));
  EXPECT_THAT(gpu.status().message(), HasSubstr("templates/k.cu(6)"));
}

}  // namespace
}  // namespace lathe
