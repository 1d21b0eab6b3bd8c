# Linking against torch without torch: two empty libraries that carry only the names of torch's own, so that the loader
# finds in them, already loaded by `import torch`, what cpp/torch/abi.h declares. libtorch.so is named too because the
# one CUDA-only symbol, weak, is searched through it. See docs/decisions/0001-stable-abi.md.
foreach(name IN ITEMS torch_cpu torch)
  add_library(ecg_stub_${name} SHARED ${CMAKE_SOURCE_DIR}/cpp/torch/stub.cpp)
  set_target_properties(ecg_stub_${name} PROPERTIES
    OUTPUT_NAME ${name} LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/stubs)
endforeach()
add_library(ecg_torch INTERFACE)
target_link_libraries(ecg_torch INTERFACE ecg_stub_torch_cpu ecg_stub_torch)
# The stubs define nothing, so the linker would drop them.
target_link_options(ecg_torch INTERFACE LINKER:--no-as-needed)
