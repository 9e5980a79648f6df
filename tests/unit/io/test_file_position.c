/* A file's own position, moved by several at once: each record goes to one, whole, as if they were threads. And what
 * several write to one file, at the position, at the end, and at places of their own. */
#include "files.h"
#include <stdatomic.h>

enum { RECORDS = 6000, FIBERS = 12, WORDS = 6 }; /* no page ends with a record but each twelve thousand bytes */

typedef struct record {
    uint32_t word[WORDS];
} record;

static atomic_uchar seen[RECORDS];
static atomic_uint next_record;
static int file;

static record record_of(uint32_t number) {
    record r;
    for (int i = 0; i < WORDS; i++)
        r.word[i] = number;
    return r;
}

static void note(const record *r) {
    for (int i = 1; i < WORDS; i++)
        FIBER_ASSERT_EQ(r->word[i], r->word[0]);
    FIBER_ASSERT(r->word[0] < RECORDS);
    atomic_fetch_add(&seen[r->word[0]], 1);
}

static void each_once(void) {
    for (int i = 0; i < RECORDS; i++)
        if (atomic_exchange(&seen[i], 0) != 1) FIBER_FAIL("record %d was not there once", i);
}

static void all(stel_fn *fn) {
    side sides[FIBERS];
    for (int i = 0; i < FIBERS; i++)
        side_start(&sides[i], fn, NULL);
    for (int i = 0; i < FIBERS; i++)
        FIBER_ASSERT_EQ(side_join(&sides[i]), 0);
}

static void check_file(void) {
    record r;
    FIBER_ASSERT_EQ(lseek(file, 0, SEEK_END), RECORDS * sizeof r);
    for (int i = 0; i < RECORDS; i++) {
        FIBER_ASSERT_EQ(pread(file, &r, sizeof r, (off_t)((size_t)i * sizeof r)), sizeof r);
        note(&r);
    }
    each_once();
}

/* ---- reading ---- */

static int read_records(void *arg) {
    record r;
    ssize_t n;
    (void)arg;
    while ((n = stel_read(file, &r, sizeof r)) > 0) {
        FIBER_ASSERT_EQ(n, sizeof r);
        note(&r);
    }
    return (int)n;
}

static int readers(void *arg) {
    (void)arg;
    file = nameless_file(O_RDWR);
    for (uint32_t i = 0; i < RECORDS; i++) {
        record r = record_of(i);
        FIBER_ASSERT_EQ(write(file, &r, sizeof r), sizeof r);
    }
    for (int round = 0; round < 3; round++) {
        if (round < 2) make_cold(file); /* each page's end is then where the memory ends, for whoever comes first */
        FIBER_ASSERT_EQ(lseek(file, 0, SEEK_SET), 0);
        all(read_records);
        each_once();
        FIBER_ASSERT_EQ(lseek(file, 0, SEEK_CUR), RECORDS * sizeof(record));
    }
    FIBER_OK(stel_close(file));
    return 0;
}
BOTH_WAYS(one_position_read, readers)

/* ---- writing ---- */

static int write_records(void *arg) {
    uint32_t number;
    (void)arg;
    while ((number = atomic_fetch_add(&next_record, 1)) < RECORDS / 10) {
        record r[10];
        for (uint32_t i = 0; i < 10; i++)
            r[i] = record_of(number * 10 + i);
        FIBER_ASSERT_EQ(stel_write(file, r, sizeof r), sizeof r);
    }
    return 0;
}

static int writers(void *arg) {
    (void)arg;
    for (int append = 0; append < 2; append++) {
        file = nameless_file(O_RDWR | (append ? O_APPEND : 0));
        atomic_store(&next_record, 0);
        all(write_records);
        if (!append) FIBER_ASSERT_EQ(lseek(file, 0, SEEK_CUR), RECORDS * sizeof(record));
        check_file();
        FIBER_OK(stel_close(file));
    }
    return 0;
}
BOTH_WAYS(one_position_written, writers)

/* One fiber appends: the position is the end, as write(2) leaves it. */
static int position_after_append(void *arg) {
    char back[8];
    (void)arg;
    int fd = nameless_file(O_RDWR | O_APPEND);
    for (int i = 1; i <= 5; i++) {
        FIBER_ASSERT_EQ(lseek(fd, 0, SEEK_SET), 0);
        FIBER_ASSERT_EQ(stel_write(fd, "abc", 3), 3);
        FIBER_ASSERT_EQ(lseek(fd, 0, SEEK_CUR), 3 * i);
        FIBER_ASSERT_EQ(stel_read(fd, back, sizeof back), 0);
    }
    FIBER_OK(stel_close(fd));
    return 0;
}
BOTH_WAYS(the_end_is_the_position, position_after_append)

static int write_in_place(void *arg) {
    uint32_t number;
    (void)arg;
    while ((number = atomic_fetch_add(&next_record, 1)) < RECORDS / 10) {
        record r[10];
        for (uint32_t i = 0; i < 10; i++)
            r[i] = record_of(number * 10 + i);
        FIBER_ASSERT_EQ(stel_pwrite(file, r, sizeof r, (off_t)(number * sizeof r)), sizeof r);
        if (number % 50 == 0) FIBER_OK(stel_fdatasync(file));
    }
    return 0;
}

static int places(void *arg) {
    (void)arg;
    file = nameless_file(O_RDWR);
    atomic_store(&next_record, 0);
    all(write_in_place);
    FIBER_ASSERT_EQ(lseek(file, 0, SEEK_CUR), 0);
    check_file();
    FIBER_OK(stel_close(file));
    return 0;
}
BOTH_WAYS(places_of_their_own, places)

TEST_MAIN("io/file_position", one_position_read, one_position_read_without_rings, one_position_written,
          one_position_written_without_rings, the_end_is_the_position, the_end_is_the_position_without_rings,
          places_of_their_own, places_of_their_own_without_rings)
