# Holds kernels to their registers: no spills, no stack frame, on any architecture.
#
# tarpon_check_ptxas(<cuda target> <table>): ptxas reports on the kernels of a target while it is
# built, at no extra compilation; the test ptxas_<target> fails on a spill or a stack frame, and if
# the report differs from the table that is checked in (refresh it with the command it prints).
# Without nvcc the test is there and skipped.
function(tarpon_check_ptxas target table)
  if(NOT TARPON_HAVE_CUDA)
    add_test(NAME ptxas_${target} COMMAND ${CMAKE_COMMAND} -E echo "skipped: nvcc was not found")
    set_tests_properties(ptxas_${target} PROPERTIES SKIP_REGULAR_EXPRESSION "skipped")
    return()
  endif()
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Xptxas=-v>)
  set_target_properties(${target} PROPERTIES CUDA_COMPILER_LAUNCHER
      "${CMAKE_COMMAND};-P;${TARPON_KERNELS_DIR}/common/ptxas_launcher.cmake;--")
  add_test(NAME ptxas_${target}
           COMMAND ${CMAKE_COMMAND} "-DOBJECTS=$<JOIN:$<TARGET_OBJECTS:${target}>,$<SEMICOLON>>"
                   -DTABLE=${table} -DNVCC_VERSION=${CMAKE_CUDA_COMPILER_VERSION}
                   -P ${TARPON_KERNELS_DIR}/common/ptxas_check.cmake)
endfunction()
