# lathe_bench(<name> SOURCES <files...> [LIBS <targets...>])
#
# One Google Benchmark program, <name>_bench; `./x bench` runs every program of that ending.
function(lathe_bench name)
  cmake_parse_arguments(B "" "" "SOURCES;LIBS" ${ARGN})
  add_executable(${name}_bench ${B_SOURCES})
  target_link_libraries(${name}_bench PRIVATE ${B_LIBS} benchmark::benchmark benchmark::benchmark_main)
  target_compile_options(${name}_bench PRIVATE -Wall -Wextra -Wshadow -Werror)
endfunction()
