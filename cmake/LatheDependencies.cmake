# Third-party libraries, all from Debian packages. Header-only where they end up inside liblathe.so, so that it carries no NEEDED
# entry for them.
find_package(Threads REQUIRED)
# All that is missing at once, by the packages that have it.
set(packages libfmt-dev=fmt/format.h nlohmann-json3-dev=nlohmann/json.hpp libcli11-dev=CLI/CLI.hpp libxxhash-dev=xxhash.h
    libspdlog-dev=spdlog/spdlog.h libkainjow-mustache-dev=kainjow/mustache.hpp libboost-context-dev=boost/context/detail/fcontext.hpp)
if(LATHE_TESTS)
  list(APPEND packages libgtest-dev=gtest/gtest.h)
endif()
if(LATHE_BENCH)
  list(APPEND packages libbenchmark-dev=benchmark/benchmark.h)
endif()
set(missing)
if(SKBUILD)  # pip: the Python module is what it is for
  find_package(Python 3.10 COMPONENTS Interpreter Development.Module QUIET)
  if(NOT Python_FOUND)
    list(APPEND missing libpython3-dev)
  endif()
endif()
foreach(pair IN LISTS packages)
  string(REGEX MATCH "(.*)=(.*)" matched ${pair})
  find_path(header ${CMAKE_MATCH_2} NO_CACHE)
  if(NOT header)
    list(APPEND missing ${CMAKE_MATCH_1})
  endif()
  unset(header)
endforeach()
if(missing)
  list(JOIN missing " " missing)
  # CMake breaks lines, except indented ones.
  message(FATAL_ERROR "Libraries are missing. On Debian:\n  apt-get install ${missing}")
endif()
find_package(fmt REQUIRED)           # use fmt::fmt-header-only
find_package(nlohmann_json REQUIRED) # use nlohmann_json::nlohmann_json
find_package(CLI11 REQUIRED)         # use CLI11::CLI11

add_library(lathe_xxhash INTERFACE)
target_compile_definitions(lathe_xxhash INTERFACE XXH_INLINE_ALL)

add_library(lathe_spdlog INTERFACE)  # header-only, with the external fmt
target_compile_definitions(lathe_spdlog INTERFACE SPDLOG_FMT_EXTERNAL)
target_link_libraries(lathe_spdlog INTERFACE fmt::fmt-header-only)

add_library(lathe_boost_context INTERFACE)
target_link_libraries(lathe_boost_context INTERFACE /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}/libboost_context.a)

# The CUDA headers, which only tests read: the toolkit's, else the Python wheels'. LATHE_CUDA_INCLUDE is false where there are none.
file(GLOB cuda_headers ${CMAKE_CURRENT_LIST_DIR}/../.venv/lib/python3*/site-packages/nvidia/cu13/include)
if(NOT "$ENV{LATHE_IGNORE_TOOLKIT}")
  list(PREPEND cuda_headers /usr/local/cuda/include)
endif()
find_path(LATHE_CUDA_INCLUDE cuda.h PATHS ${cuda_headers} NO_DEFAULT_PATH)

if(LATHE_TESTS)
  find_package(GTest REQUIRED)
endif()
if(LATHE_BENCH)
  find_package(benchmark REQUIRED)
endif()
