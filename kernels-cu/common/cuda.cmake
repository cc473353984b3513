# Finds nvcc, as the cache variable TARPON_CUDA (AUTO, ON or OFF) asks, and sets TARPON_HAVE_CUDA.
# Included by native/CMakeLists.txt and by kernels-cu/CMakeLists.txt where that is built alone.

# CUDA is optional; without nvcc the library builds and says why the device is not there.
set(TARPON_HAVE_CUDA OFF)
if(NOT TARPON_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    if(NOT CMAKE_CUDA_ARCHITECTURES)
      # Kernels are compiled for all that TARPON_CUDA_CODE has; tests and benchmarks are not.
      set(CMAKE_CUDA_ARCHITECTURES 80)
      set(TARPON_CUDA_SHIPPED ON)
    endif()
    enable_language(CUDA)
    # CMake 3.25 does not know yet that nvcc speaks C++20.
    if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
    endif()
    find_package(CUDAToolkit REQUIRED)
    set(TARPON_HAVE_CUDA ON)
  elseif(TARPON_CUDA STREQUAL "ON")
    message(FATAL_ERROR "TARPON_CUDA=ON, but nvcc was not found: put it on PATH or set "
                        "CMAKE_CUDA_COMPILER")
  endif()
endif()
