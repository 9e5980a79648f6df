/* stellane/stellane.h: everything. */
#ifndef STELLANE_STELLANE_H
#define STELLANE_STELLANE_H

#include <stellane/base.h>
#include <stellane/chan.h>
#include <stellane/fiber.h>
#include <stellane/io.h>
#include <stellane/runtime.h>
#include <stellane/scope.h>
#include <stellane/sync.h>

#endif
