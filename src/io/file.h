/* A call on a file or a name, however it is made: file.c has the essay. Only for the files of this room. */
#ifndef STEL_IO_FILE_H
#define STEL_IO_FILE_H

#include "io/call.h"

/* The plain system call, for whoever may block: a thread of the pool, or a plain one. */
typedef struct stel__file_job {
    stel__job job;
    ssize_t (*call)(struct stel__file_job *f);
    ssize_t result;
} stel__file_job;

/* Have it done: by operation (NULL: there is none), else by f->call on the pool. The kernel's result; and, unless the call
 * has begun already, -ETIMEDOUT and -ECANCELED, when nothing was done. */
ssize_t stel__file_do(stel__waiter *w, stel_operation *operation, stel__file_job *f, bool begun);

#endif
