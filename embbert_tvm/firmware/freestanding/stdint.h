/* SPDX-License-Identifier: Apache-2.0 */
/* GCC's own, which its stdint.h takes only where it is told that there is no C library. */
#include <stdint-gcc.h>
