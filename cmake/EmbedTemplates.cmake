# embed_templates(<variable> <folder>): sets <variable> to a C++ source, made at build time, that holds every file below <folder>.
# A file that is added, removed or changed makes it anew. Run as a script, this file is also the generator:
#   cmake -D FOLDER=<folder> -D OUT=<file.cc> -P EmbedTemplates.cmake
function(template_files variable folder)
  set(watch CONFIGURE_DEPENDS)
  if(CMAKE_SCRIPT_MODE_FILE)
    set(watch)  # a script has nothing to configure again
  endif()
  file(GLOB_RECURSE found ${watch} LIST_DIRECTORIES false RELATIVE ${folder} ${folder}/*)
  list(FILTER found EXCLUDE REGEX "(^|/)\\.|~$")  # editors' litter
  list(FILTER found EXCLUDE REGEX "\\.md$")
  list(SORT found)
  set(${variable} ${found} PARENT_SCOPE)
endfunction()

function(embed_templates variable folder)
  template_files(files ${folder})
  list(TRANSFORM files PREPEND ${folder}/ OUTPUT_VARIABLE inputs)
  set(out ${CMAKE_CURRENT_BINARY_DIR}/embedded_templates.cc)
  # The list itself is an input: a removed file must be noticed too.
  file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/embedded_templates.list CONTENT "${files}\n" @ONLY)
  add_custom_command(OUTPUT ${out}
    COMMAND ${CMAKE_COMMAND} -D FOLDER=${folder} -D OUT=${out} -P ${CMAKE_CURRENT_FUNCTION_LIST_FILE}
    DEPENDS ${inputs} ${CMAKE_CURRENT_BINARY_DIR}/embedded_templates.list ${CMAKE_CURRENT_FUNCTION_LIST_FILE}
    COMMENT "Embedding templates"
    VERBATIM)
  set(${variable} ${out} PARENT_SCOPE)
endfunction()

if(CMAKE_SCRIPT_MODE_FILE)
  template_files(files ${FOLDER})
  list(LENGTH files count)
  set(text "#include \"lathe/jit/embedded_templates.h\"\n\n#include <array>\n\nnamespace lathe {\nnamespace {\n\n")
  string(APPEND text "constexpr std::array<EmbeddedTemplate, ${count}> kTemplates{{\n")
  foreach(name IN LISTS files)
    file(READ ${FOLDER}/${name} content)
    string(FIND "${content}" ")lathe_text\"" clash)
    if(NOT clash EQUAL -1)
      message(FATAL_ERROR "${name} holds the text that ends an embedded template")
    endif()
    string(APPEND text "    {\"${name}\", R\"lathe_text(${content})lathe_text\"},\n")
  endforeach()
  string(APPEND text "}};\n\n}  // namespace\n\nstd::span<const EmbeddedTemplate> embedded_templates() {\n  return kTemplates;\n}\n\n}  // namespace lathe\n")
  file(WRITE ${OUT} "${text}")
endif()
