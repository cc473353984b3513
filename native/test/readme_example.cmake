# Compiles the first C block of README.md as C11 against tarpon.h and libtarpon, and runs it.
# Called by ctest, see CMakeLists.txt: cmake -DREADME= -DCC= -DINCLUDE= -DLIBRARY= -DWORK= -DFLAGS=
#   -P readme_example.cmake
file(READ ${README} text)
if(NOT text MATCHES "\n```c\n(([^`]|`[^`])*)\n```")
  message(FATAL_ERROR "${README} has no block of C")
endif()
file(MAKE_DIRECTORY ${WORK})
file(WRITE ${WORK}/example.c "${CMAKE_MATCH_1}\n")

get_filename_component(directory ${LIBRARY} DIRECTORY)
separate_arguments(flags UNIX_COMMAND "${FLAGS}")
execute_process(
  COMMAND ${CC} -std=c11 -pedantic -Wall -Wextra -Werror ${flags} -I ${INCLUDE} example.c
          -o example ${LIBRARY} -Wl,-rpath,${directory}
  WORKING_DIRECTORY ${WORK} RESULT_VARIABLE code)
if(NOT code EQUAL 0)
  message(FATAL_ERROR "The C example of README.md does not compile: ${code}")
endif()
execute_process(COMMAND ./example WORKING_DIRECTORY ${WORK} RESULT_VARIABLE code
                OUTPUT_VARIABLE output)
if(NOT code EQUAL 0 OR NOT output MATCHES "^y\\[0\\] = ")
  message(FATAL_ERROR "The C example of README.md ended with ${code} and printed \"${output}\"")
endif()
message("${output}")
