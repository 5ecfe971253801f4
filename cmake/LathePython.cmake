# What the Python module is built with: LATHE_HAS_PYTHON is true where the interpreter's headers and pybind11 are found, in .venv before
# anywhere else. A module that is loaded into an interpreter without a sanitizer cannot have one.
set(LATHE_HAS_PYTHON OFF)
file(GLOB stamps CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/../.venv/.stamp-*)  # wheels that come later are noticed
if(NOT CMAKE_CXX_FLAGS MATCHES "-fsanitize=")
  if(NOT DEFINED Python_EXECUTABLE AND EXISTS ${CMAKE_CURRENT_LIST_DIR}/../.venv/bin/python)
    cmake_path(SET venv_python NORMALIZE ${CMAKE_CURRENT_LIST_DIR}/../.venv/bin/python)
    set(Python_EXECUTABLE ${venv_python})
  endif()
  find_package(Python 3.10 COMPONENTS Interpreter Development.Module QUIET)
  if(Python_FOUND)
    execute_process(COMMAND ${Python_EXECUTABLE} -m pybind11 --cmakedir OUTPUT_VARIABLE pybind11_dir OUTPUT_STRIP_TRAILING_WHITESPACE
                    ERROR_QUIET)
    set(PYBIND11_FINDPYTHON ON)
    find_package(pybind11 3 CONFIG QUIET PATHS ${pybind11_dir})
    set(LATHE_HAS_PYTHON ${pybind11_FOUND})
  endif()
  if(SKBUILD AND Python_FOUND AND NOT LATHE_HAS_PYTHON)  # pip without build isolation
    message(FATAL_ERROR "pybind11 is missing:\n  pip install 'pybind11>=3'")
  elseif(NOT LATHE_HAS_PYTHON)
    message(STATUS "No Python module: Python's headers (python3-dev) or pybind11 are missing")
  endif()
endif()

# PyTorch, for its operators: LATHE_TORCH is its folder, or false. Found without importing it, and without its CMake files, which want a
# CUDA toolkit where PyTorch was built with one. Only headers and libraries of the stable ABI are used.
set(LATHE_TORCH LATHE_TORCH-NOTFOUND)
if(LATHE_HAS_PYTHON)
  execute_process(COMMAND ${Python_EXECUTABLE} -c
    "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '', end='')"
    OUTPUT_VARIABLE torch_folder ERROR_QUIET)
  if(torch_folder AND EXISTS ${torch_folder}/include/torch/csrc/stable/device.h)  # PyTorch 2.10
    set(LATHE_TORCH ${torch_folder})
  else()
    message(STATUS "No PyTorch operators: PyTorch 2.10 or later is not installed")
  endif()
endif()
