# ecg_add_kernels(<target> <sources...>): the same sources once per instruction-set level, each in its own namespace
# (ECG_ISA); ecgcore/kernels/cpu_level.h chooses among them at run time. Never -march=native.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(ECG_CPU_LEVELS baseline avx2 avx512)
else()
  set(ECG_CPU_LEVELS baseline)
endif()
set(ECG_MARCH_avx2 -march=x86-64-v3)
set(ECG_MARCH_avx512 -march=x86-64-v4 -mprefer-vector-width=512)

function(ecg_add_kernels target)
  add_library(${target} INTERFACE)
  target_include_directories(${target} INTERFACE ${CMAKE_SOURCE_DIR}/cpp/include)
  list(LENGTH ECG_CPU_LEVELS count)
  if(count GREATER 1)
    target_compile_definitions(${target} INTERFACE ECG_X86_LEVELS)
  endif()
  foreach(level IN LISTS ECG_CPU_LEVELS)
    add_library(${target}_${level} OBJECT ${ARGN})
    target_link_libraries(${target}_${level} PRIVATE ecg_options)
    target_include_directories(${target}_${level} PRIVATE ${CMAKE_SOURCE_DIR}/cpp/include)
    target_compile_definitions(${target}_${level} PRIVATE ECG_ISA=${level}
      $<TARGET_PROPERTY:${target},INTERFACE_COMPILE_DEFINITIONS>)
    # Contraction to FMA is wanted; errno and floating-point traps are not used.
    target_compile_options(${target}_${level} PRIVATE
      $<IF:$<BOOL:${ECGCORE_SANITIZE}>,-O1,-O3> -fno-math-errno -fno-trapping-math -ffp-contract=fast ${ECG_MARCH_${level}})
    target_sources(${target} INTERFACE $<TARGET_OBJECTS:${target}_${level}>)
  endforeach()
endfunction()
