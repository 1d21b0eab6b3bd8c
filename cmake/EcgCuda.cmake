# Decides whether the CUDA half is built: sets ECGCORE_WITH_CUDA, or ECGCORE_CUDA_OFF_REASON.
string(TOLOWER "${ECGCORE_CUDA}" _ecg_cuda)
if(NOT _ecg_cuda MATCHES "^(auto|on|off)$")
  message(FATAL_ERROR "ECGCORE_CUDA must be auto, on or off, got '${ECGCORE_CUDA}'")
endif()

set(ECGCORE_WITH_CUDA OFF)
set(ECGCORE_CUDA_OFF_REASON "built with ECGCORE_CUDA=off")
if(NOT _ecg_cuda STREQUAL "off")
  if(NOT DEFINED ENV{CUDACXX} AND NOT DEFINED CMAKE_CUDA_COMPILER)
    find_program(ECGCORE_NVCC nvcc
      HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
    if(ECGCORE_NVCC)
      # The variable, not CMAKE_CUDA_COMPILER: with that set, check_language skips its trial.
      set(ENV{CUDACXX} "${ECGCORE_NVCC}")
    endif()
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(ECGCORE_WITH_CUDA ON)
  elseif(_ecg_cuda STREQUAL "on")
    message(FATAL_ERROR "ECGCORE_CUDA=on, but there is no working CUDA compiler: put nvcc on PATH or "
      "set CUDACXX or CUDA_HOME, or build without CUDA by ECGCORE_CUDA=off")
  else()
    set(ECGCORE_CUDA_OFF_REASON "no working CUDA compiler (nvcc) was found when ecgcore was built")
    message(STATUS "ecgcore: no working nvcc, building CPU kernels only")
  endif()
endif()

if(ECGCORE_WITH_CUDA)
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 90-virtual)
  endif()
  enable_language(CUDA)
  # Up to 3.25.1 CMake does not know that nvcc has C++20.
  if(NOT DEFINED CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  endif()
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
  find_package(CUDAToolkit REQUIRED)
  # tests/test_cuda_build.py compiles every kernel with the same flags for more architectures.
  set(ECG_NVCC_OPTIONS
    --Werror=all-warnings -Xcompiler=-Wall,-Wextra,-Werror,-Wno-psabi
    "-Xcompiler=-ffile-prefix-map=${CMAKE_SOURCE_DIR}/=")
endif()
