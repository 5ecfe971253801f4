# lathe_library(<name> DIR <folder> SOURCES <files...> [DEPS <lathe libraries...>] [PRIVATE <targets...>])
#
# One static library per folder. Headers are reached as "lathe/<name>/x.h" through an include root that holds this folder alone
# (a link in the build tree), so a library sees another's headers only when it names it in DEPS: a wrong include does not compile.
function(lathe_library name)
  cmake_parse_arguments(L "" "DIR" "SOURCES;DEPS;PRIVATE" ${ARGN})
  set(root ${CMAKE_BINARY_DIR}/include-roots/${name})
  file(MAKE_DIRECTORY ${root}/lathe)
  file(CREATE_LINK ${L_DIR} ${root}/lathe/${name} SYMBOLIC)
  add_library(lathe_${name} STATIC ${L_SOURCES})
  target_include_directories(lathe_${name} PUBLIC ${root})
  # The warnings are tuned for GCC; clang compiles this for fuzzing alone.
  if(NOT LATHE_FUZZ)
    target_compile_options(lathe_${name} PRIVATE -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Werror)
  endif()
  foreach(dep IN LISTS L_DEPS)
    target_link_libraries(lathe_${name} PUBLIC lathe_${dep})
  endforeach()
  target_link_libraries(lathe_${name} PRIVATE ${L_PRIVATE})
  lathe_compile_together(lathe_${name})
endfunction()

# Has up to twelve of a target's files compiled as one, which takes a third of the time. No two of them may give one name two meanings.
function(lathe_compile_together target)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ${LATHE_UNITY} UNITY_BUILD_BATCH_SIZE 12)
endfunction()
