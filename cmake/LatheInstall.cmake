# `cmake --install`: what C++ programs build against. Headers keep the names that they have in the tree, below a folder of their own;
# the package files know places relative to themselves alone, so the whole prefix may be moved.
include(GNUInstallDirs)
set(headers ${CMAKE_INSTALL_INCLUDEDIR}/lathe-${PROJECT_VERSION_MAJOR})
set(config ${CMAKE_INSTALL_LIBDIR}/cmake/lathe)

install(TARGETS lathe LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
install(TARGETS lathe-cli lathe-compile-worker RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT development)
foreach(pair base=csrc/base spec=csrc/spec arch=csrc/arch plan=csrc/plan cache=cache jit=jit runtime=csrc/runtime api=csrc/api abi=templates/abi)
  string(REGEX MATCH "(.*)=(.*)" matched ${pair})
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/${CMAKE_MATCH_2}/ DESTINATION ${headers}/lathe/${CMAKE_MATCH_1} COMPONENT development
          FILES_MATCHING PATTERN "*.h" PATTERN "testing" EXCLUDE PATTERN "worker" EXCLUDE)
endforeach()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/templates/abi/ DESTINATION ${headers}/abi COMPONENT development FILES_MATCHING PATTERN "*.h")

install(FILES ${PROJECT_SOURCE_DIR}/csrc/capi/lathe.h DESTINATION ${headers} COMPONENT development)

include(CMakePackageConfigHelpers)
set(library ${CMAKE_INSTALL_LIBDIR}/${CMAKE_SHARED_LIBRARY_PREFIX}lathe${CMAKE_SHARED_LIBRARY_SUFFIX})
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/latheConfig.cmake.in ${PROJECT_BINARY_DIR}/latheConfig.cmake
  INSTALL_DESTINATION ${config} PATH_VARS headers library)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/latheConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/latheConfig.cmake ${PROJECT_BINARY_DIR}/latheConfigVersion.cmake DESTINATION ${config}
        COMPONENT development)

file(RELATIVE_PATH to_prefix /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
configure_file(${CMAKE_CURRENT_LIST_DIR}/lathe.pc.in ${PROJECT_BINARY_DIR}/lathe.pc @ONLY)
configure_file(${CMAKE_CURRENT_LIST_DIR}/lathe-c.pc.in ${PROJECT_BINARY_DIR}/lathe-c.pc @ONLY)  # without C++'s flags
install(FILES ${PROJECT_BINARY_DIR}/lathe.pc ${PROJECT_BINARY_DIR}/lathe-c.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)
