# lathe_abi: templates/abi for host code, reached as "lathe/abi/x.h". Plain structures shared with rendered sources; no library behind
# them. An include root of its own keeps the rest of templates/ out of sight.
if(NOT TARGET lathe_abi)
  set(lathe_abi_root ${CMAKE_BINARY_DIR}/include-roots/abi)
  file(MAKE_DIRECTORY ${lathe_abi_root}/lathe)
  cmake_path(SET lathe_abi_dir NORMALIZE "${CMAKE_CURRENT_LIST_DIR}/../templates/abi")
  file(CREATE_LINK ${lathe_abi_dir} ${lathe_abi_root}/lathe/abi SYMBOLIC)
  file(CREATE_LINK ${lathe_abi_dir} ${lathe_abi_root}/abi SYMBOLIC)  # how they name each other, as templates do
  add_library(lathe_abi INTERFACE)
  target_include_directories(lathe_abi INTERFACE ${lathe_abi_root})
endif()
