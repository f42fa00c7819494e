/* SPDX-License-Identifier: Apache-2.0 */
/* The C API of the package that is served. One of another prefix is reached through macros that the build gives
   (device/build.py). */
#ifndef EMBBERT_HEADER
#define EMBBERT_HEADER "embbert.h"
#endif
#include EMBBERT_HEADER
