# SPDX-License-Identifier: Apache-2.0
# GCC for @cpu@.
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR @arch@)
set(CMAKE_C_COMPILER @tool_prefix@gcc)
set(CMAKE_CXX_COMPILER @tool_prefix@g++)
set(CMAKE_C_FLAGS_INIT "@cflags@")
set(CMAKE_CXX_FLAGS_INIT "@cflags@")
# An image needs a linker script, so what CMake tries out is a library.
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
