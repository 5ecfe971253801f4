include(GoogleTest)

# lathe_test(<name> SOURCES <files...> [LIBS <targets...>] [LABELS <one label>] [TIMEOUT <seconds>])
#
# One GoogleTest program, <name>, of which every test runs alone through ctest as <name>.<Suite>.<Test>. LABELS full marks what only
# `./x test --full` runs, LABELS gpu what needs a device. Tests are discovered when ctest starts, not while building: a program that
# cannot start fails its own test, not the build. All programs may include lathe/testing/ (tests/support: temporary folders, seeds).
function(lathe_test name)
  cmake_parse_arguments(T "" "TIMEOUT;LABELS" "SOURCES;LIBS" ${ARGN})
  if(NOT T_SOURCES)
    message(FATAL_ERROR "lathe_test(${name}): SOURCES is empty")
  endif()
  if(T_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "lathe_test(${name}): unknown arguments ${T_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 300)
  endif()
  add_executable(${name} ${T_SOURCES})
  target_link_libraries(${name} PRIVATE lathe_testing ${T_LIBS} GTest::gmock GTest::gtest GTest::gtest_main)
  target_compile_options(${name} PRIVATE -Wall -Wextra -Wshadow -Werror)
  gtest_discover_tests(${name}
    TEST_PREFIX "${name}."
    DISCOVERY_MODE PRE_TEST
    DISCOVERY_TIMEOUT 120
    PROPERTIES TIMEOUT ${T_TIMEOUT} LABELS "${T_LABELS}")
endfunction()
