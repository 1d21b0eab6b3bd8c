# Options every native target shares.
add_library(ecg_options INTERFACE)
target_compile_options(ecg_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wshadow -Werror -Wno-psabi>
  # No path of the building machine in messages or debug information.
  "$<$<COMPILE_LANGUAGE:CXX>:-ffile-prefix-map=${CMAKE_SOURCE_DIR}/=>")
if(ECGCORE_SANITIZE)
  # Checks of memory as calls, not inline: the unrolled kernels compile four times faster.
  target_compile_options(ecg_options INTERFACE
    "$<$<COMPILE_LANGUAGE:CXX>:SHELL:-fsanitize=address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=undefined -g1 --param asan-instrumentation-with-call-threshold=0>")
  target_link_options(ecg_options INTERFACE -fsanitize=address,undefined)
endif()
