/* SPDX-License-Identifier: Apache-2.0 */
/* The C API of the package that is served, under the names that main.c has for it. */
#ifndef SERVER_MODEL_H
#define SERVER_MODEL_H

#include "sdkconfig.h"

#include "@prefix@.h"

#ifdef CONFIG_@symbol@_PROFILE
#define EMBBERT_PROFILE @steps@
#endif
@server_defines@
#endif
