# ecg_add_kernels(<target> <sources...>): the same sources once per instruction-set level, each in its own namespace
# (ECG_ISA); ecgcore/kernels/cpu_level.h chooses among them at run time. Never -march=native. Those named behind BF16
# are compiled for one level more, which multiplies bfloat16, and those behind AMX for two, the second of which multiplies
# whole tiles of it.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(ECG_CPU_LEVELS baseline avx2 avx512)
  set(ECG_BF16_LEVELS avx512_bf16 amx_bf16)
else()
  set(ECG_CPU_LEVELS baseline)
endif()
set(ECG_MARCH_avx2 -march=x86-64-v3)
set(ECG_MARCH_avx512 -march=x86-64-v4 -mprefer-vector-width=512)
set(ECG_MARCH_avx512_bf16 ${ECG_MARCH_avx512} -mavx512bf16)
set(ECG_MARCH_amx_bf16 ${ECG_MARCH_avx512_bf16} -mamx-tile -mamx-bf16)

function(ecg_add_kernels target)
  cmake_parse_arguments(PARSE_ARGV 1 only "" "" "BF16;AMX")
  add_library(${target} INTERFACE)
  target_include_directories(${target} INTERFACE ${CMAKE_SOURCE_DIR}/cpp/include)
  if(ECG_BF16_LEVELS)
    target_compile_definitions(${target} INTERFACE ECG_X86_LEVELS)
  endif()
  foreach(level IN LISTS ECG_CPU_LEVELS ECG_BF16_LEVELS)
    set(sources ${only_AMX})
    if(NOT level STREQUAL amx_bf16)
      list(APPEND sources ${only_BF16})
    endif()
    if(NOT level IN_LIST ECG_BF16_LEVELS)
      list(APPEND sources ${only_UNPARSED_ARGUMENTS})
    endif()
    add_library(${target}_${level} OBJECT ${sources})
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
