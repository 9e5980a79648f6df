/* digest: the FNV-1a digest of every file below the paths that are given, many files at a time.
 *
 * The idea: files never hold up a worker, and a semaphore says how many are open at once. stel_open and stel_read on
 * regular files work on other threads and only the fiber waits; for calls of other libraries that wait for the disk,
 * as fts_read here, there is stel_offload. One fiber a file, but the next one is spawned only when a permit is free: a
 * million files need neither a million descriptors nor a million stacks. A file that cannot be read is told of and
 * stops nobody.
 *
 *     cc digest.c $(pkg-config --cflags --libs stellane-fiber) -o digest
 *     ./digest /etc/hosts /usr/include
 *
 * It prints a line a file, sorted by path, whatever order they were read in; failures go to stderr and make the exit
 * code 1. Symbolic links below the paths, and what is no regular file, are passed over.
 *
 *     af63dc4c8601ec8c  /usr/include/a.h
 *     digest: /etc/shadow: permission denied (EACCES) */
#define _DEFAULT_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <stellane/stellane.h>
#include <string.h>

enum { FILES_AT_ONCE = 16, BLOCK_BYTES = 16384 };

struct file {
    struct digest *all;
    char *path;
    int code;
    uint64_t fnv;
};

struct digest {
    char **roots;
    struct file *files;
    size_t count, room;
    stel_sem permits; /* files that may be open now */
};

static int add(struct digest *all, const char *path, int code) {
    if (all->count == all->room) {
        size_t room = all->room ? 2 * all->room : 64;
        struct file *files = realloc(all->files, room * sizeof *files);
        if (!files) return -ENOMEM;
        all->files = files;
        all->room = room;
    }
    char *copy = strdup(path);
    if (!copy) return -ENOMEM;
    all->files[all->count++] = (struct file){ all, copy, code, 0 };
    return 0;
}

/* Runs on a thread of the offload pool, as walking directories waits for the disk. On a thread errno is what it always
 * was; in a fiber it would be old news after any call that may wait. */
static int walk(void *arg) {
    struct digest *all = arg;
    FTS *tree = fts_open(all->roots, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, NULL);
    if (!tree) return -errno;
    int rc = 0;
    const FTSENT *entry;
    while (rc == 0 && (errno = 0, entry = fts_read(tree)) != NULL) {
        if (entry->fts_info == FTS_F)
            rc = add(all, entry->fts_path, 0);
        else if (entry->fts_info == FTS_NS || entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR)
            rc = add(all, entry->fts_path, -entry->fts_errno);
        else if (entry->fts_info == FTS_SLNONE)
            rc = add(all, entry->fts_path, -ENOENT);
    }
    if (rc == 0 && errno != 0) rc = -errno;
    fts_close(tree);
    return rc;
}

static int digest_file(void *arg) {
    struct file *file = arg;
    unsigned char block[BLOCK_BYTES];
    uint64_t fnv = UINT64_C(0xcbf29ce484222325);
    ssize_t n = 0;
    int fd = stel_open(file->path, O_RDONLY, 0);
    if (fd >= 0) {
        while ((n = stel_read(fd, block, sizeof block)) > 0)
            for (ssize_t i = 0; i < n; i++)
                fnv = (fnv ^ block[i]) * UINT64_C(0x100000001b3);
        stel_close(fd);
    }
    file->code = fd < 0 ? fd : (int)n;
    file->fnv = fnv;
    stel_sem_release(&file->all->permits);
    return 0; /* whatever became of this file, the others go on */
}

static int digest_all(struct digest *all) {
    STEL_SCOPE(files);
    for (size_t i = 0; i < all->count; i++) {
        if (all->files[i].code < 0) continue; /* the walk could not get at it */
        int rc = stel_sem_acquire(&all->permits);
        if (rc == 0) rc = stel_scope_spawn(&files, digest_file, &all->files[i]);
        if (rc < 0) return rc;
    }
    return stel_scope_join(&files);
}

static int by_path(const void *a, const void *b) {
    return strcmp(((const struct file *)a)->path, ((const struct file *)b)->path);
}

static int app(void *arg) {
    struct digest *all = arg;
    int walked, rc = stel_offload(&walked, walk, all);
    if (rc == 0) rc = walked;
    if (rc == 0) rc = digest_all(all);
    return rc;
}

/* How many could not be read. */
static int print(struct digest *all) {
    int failed = 0;
    if (all->count) qsort(all->files, all->count, sizeof *all->files, by_path);
    for (size_t i = 0; i < all->count; i++) {
        const struct file *file = &all->files[i];
        if (file->code == 0) {
            printf("%016" PRIx64 "  %s\n", file->fnv, file->path);
        } else {
            fprintf(stderr, "digest: %s: %s\n", file->path, stel_strerror(file->code));
            failed++;
        }
    }
    return failed;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: digest path...\n");
        return 2;
    }
    struct digest all = { .roots = argv + 1 };
    stel_sem_init(&all.permits, FILES_AT_ONCE);
    int rc = stel_run(app, &all), failed = 0;
    if (rc < 0)
        fprintf(stderr, "digest: %s\n", stel_strerror(rc));
    else
        failed = print(&all);
    for (size_t i = 0; i < all.count; i++)
        free(all.files[i].path);
    free(all.files);
    return rc < 0 || failed > 0;
}
