/* Part of host.h. Two timers that make a row of sleeps cheaper: pilot.c says how. */
#ifndef STEL_HOST_PILOT_H
#define STEL_HOST_PILOT_H

#include <stdbool.h>
#include <stdint.h>

/* A worker's own, zeroed at first. */
typedef struct stel__pilots {
    int fd[2];
    int64_t at[2]; /* what each is armed for */
    bool made, refused;
} stel__pilots;

/* The calling thread is about to sleep until `until`, and after that probably until `then`. */
void stel__pilots_ahead(stel__pilots *p, int64_t until, int64_t then);
void stel__pilots_close(stel__pilots *p);

#endif
