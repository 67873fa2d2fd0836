# libustack, built beside bpftrace: what src/ustack_helper.cpp and
# src/ast/ustack_codegen.cpp translate to and from. Included before any target
# of src/ is made, so that all of them link it.
if(NOT USTACK_INCLUDE_DIR OR NOT USTACK_LIBRARY)
  message(FATAL_ERROR "USTACK_INCLUDE_DIR and USTACK_LIBRARY must name libustack: "
    "build through the fork's own CMakeLists.txt")
endif()

find_library(USTACK_LIBDW dw REQUIRED)
find_library(USTACK_LIBELF elf REQUIRED)
find_library(USTACK_LIBBPF bpf REQUIRED)
find_library(USTACK_LIBLZMA lzma REQUIRED)
find_package(Threads REQUIRED)
include_directories(${USTACK_INCLUDE_DIR})
link_libraries(${USTACK_LIBRARY}
  ${USTACK_LIBDW} ${USTACK_LIBELF} ${USTACK_LIBBPF} ${USTACK_LIBLZMA} Threads::Threads)
