// The rule that kernel code reaches memory and other threads through templates/device/ alone, checked on rendered sources: only
// then does the host executor see every access, and only then can a kernel move to another arch unread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lathe::testing {

struct Violation {
  std::string file;  // template path below templates/, as #line directives name it
  int line = 0;
  std::string what;
};

/// What `source`, a rendered translation unit with #line directives, does outside device/ that it must not do:
///  - inline assembly, CUDA built-ins, compiler built-ins and any other name that begins with two underscores;
///  - static (other than static constexpr and static member functions), thread_local and volatile storage, reinterpret_cast, new,
///  delete, goto, std;
///  - preprocessor directives other than #line and #pragma once, #pragma unroll;
///  - dereferences: ->, unary *, and [] on anything that is not declared as an array. A name counts as an array in the file that
///    declares it so and nowhere as a pointer; after a dot, in any file. A cast in parentheses before * counts as a dereference,
///    and so does a second star.
/// Text before the first #line counts as kernel code.
std::vector<Violation> banned_tokens(std::string_view source);

/// "file:line: what", one per line.
std::string to_string(const std::vector<Violation>& violations);

}  // namespace lathe::testing
