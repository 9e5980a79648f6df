/* sendfile and splice: bytes that the kernel moves from one descriptor to another.
 *
 * The trouble. Neither call has a flag that keeps it from waiting. SPLICE_F_NONBLOCK is for pipes only; a socket waits
 * unless O_NONBLOCK is set, and we set that on nothing that is not ours; a file waits for its disk. So each side of a
 * move is one of these:
 *
 *   PIPE      SPLICE_F_NONBLOCK is enough, whatever its own flags say
 *   READY     O_NONBLOCK is set: the kernel says EAGAIN
 *   FILE      never says EAGAIN; waits for the disk when it is read and the page is not in memory, or when written
 *   BLOCKING  a socket, a tty or the like without O_NONBLOCK
 *
 * What is done with them:
 *
 *   reading a FILE     in place while the piece is in memory: first and last byte are tried with RWF_NOWAIT, which costs
 *                      two cheap calls a piece. Else the piece is moved by the offload pool; reading ahead then makes
 *                      the next ones warm. A page in the middle that is not there costs the worker one read of the disk
 *   writing a FILE     on the pool
 *   reading BLOCKING   poll says when there is something; the move itself on the pool, as somebody else may be faster
 *   writing BLOCKING   splice: as reading, in pieces of PIPE_BUF, for which there is room when poll says so.
 *                      sendfile: through a buffer and send, which has a flag. It can do that because the position in the
 *                      file is put back to what was sent; what was read from a pipe cannot be put back
 *
 * A plain thread makes the pool's moves itself.
 *
 * Both raise SIGPIPE, and cannot be told not to: see sigpipe.c. That is three more calls a piece, hence large pieces; but
 * a piece is also what the other fibers of a worker wait for.
 *
 * Dropped: always through a buffer. It is simple and never waits; over loopback it even needs less CPU time (64 MiB: 21
 * to 25 ms for both ends, the kernel's way 34 to 41, as it hands over single pages where the copy makes large ones). But
 * who calls sendfile does so for a network card that fetches the pages itself, and there the copy is what costs. Also
 * dropped: asking cachestat(2) whether every page is there (6.5 and later, and not for everybody's files); tee into a
 * pipe of our own to have something to put back (two more descriptors and three more calls for a rare case). */
#include "io/call.h"

enum { PIECE_BYTES = 128 << 10, POOL_PIECE_BYTES = 1 << 20, BUFFER_BYTES = 64 << 10 };
enum side { PIPE, READY, FILE_SIDE, BLOCKING };

/* One call of the kernel. */
typedef struct move {
    stel__job job;
    bool is_splice;
    int in_fd, out_fd;
    off_t *in_offset, *out_offset;
    size_t bytes;
    unsigned flags;
    ssize_t result;
} move;

static void run_move(stel__job *job) {
    move *m = STEL__CONTAINER(job, move, job);
    stel__sigpipe held;
    stel__sigpipe_hold(&held);
    if (m->is_splice)
        m->result = stel__sys_splice(m->in_fd, m->in_offset, m->out_fd, m->out_offset, m->bytes, m->flags);
    else
        m->result = stel__sys_sendfile(m->out_fd, m->in_fd, m->in_offset, m->bytes);
    /* A part may have gone well before the signal was raised. */
    stel__sigpipe_release(&held, m->result < 0 ? m->result == -EPIPE : (size_t)m->result < m->bytes);
}

/* *cut: what is returned is the caller's limit, not the kernel's word. */
static ssize_t run_on_the_pool(stel__call *c, move *m, bool *cut) {
    m->job = (stel__job){ .run = run_move };
    int rc = stel__job_run_somehow(&m->job, c->waiter);
    *cut = rc < 0;
    c->waited = true;
    return rc < 0 ? rc : m->result;
}

/* *mark is taken anew if what we knew was wrong. */
static int side_of(stel__call *c, stel__slot_mark *mark, enum side *side) {
    if (stel__call_kind(c) == STEL__SLOT_FILE || stel__call_kind(c) == STEL__SLOT_OTHER) {
        struct stat st;
        int rc = stel__sys_fstat(c->fd, &st);
        if (rc < 0) return rc;
        bool file = S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) || S_ISBLK(st.st_mode);
        *side = file ? FILE_SIDE : PIPE;
        if (file || S_ISFIFO(st.st_mode)) return 0;
    }
    *side = stel__call_nonblocking(c, mark) ? READY : BLOCKING;
    return 0;
}

static bool byte_is_warm(int fd, off_t at) {
    char byte;
    struct iovec piece = { &byte, 1 };
    return stel__sys_preadv2(fd, &piece, 1, at, RWF_NOWAIT) >= 0; /* 0: the end, which is nowhere to wait for */
}

/* Can these bytes be read without the disk? Where RWF_NOWAIT is not understood: no. */
static bool is_warm(int fd, off_t at, size_t bytes) {
    off_t last;
    if (at < 0 || __builtin_add_overflow(at, (off_t)bytes - 1, &last)) return false;
    return byte_is_warm(fd, at) && byte_is_warm(fd, last);
}

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

/* ---- sendfile ---- */

typedef struct send_state {
    stel__call in, out;
    enum side out_side;
    off_t at;   /* where in the file we are */
    off_t size; /* of a regular file as it was when we began: no byte beyond it is asked for; of anything else -1 */
    off_t *offset;
    size_t bytes;
} send_state;

static ssize_t send_piece(send_state *s, size_t rest, bool *cut) {
    move m = { .is_splice = s->out_side == PIPE, .in_fd = s->in.fd, .out_fd = s->out.fd, .in_offset = s->offset };
    m.flags = SPLICE_F_NONBLOCK;
    *cut = false;
    m.bytes = least(rest, PIECE_BYTES);
    size_t there = s->size > s->at ? least(m.bytes, (size_t)(s->size - s->at)) : 1;
    if (s->out_side != FILE_SIDE && s->size >= 0 && is_warm(s->in.fd, s->at, there)) {
        run_move(&m.job);
        return m.result;
    }
    m.bytes = least(rest, POOL_PIECE_BYTES);
    return run_on_the_pool(&s->out, &m, cut);
}

/* By the kernel, whose destination does not block. */
static ssize_t send_pieces(send_state *s) {
    size_t done = 0;
    ssize_t n = 0;
    while (done < s->bytes) {
        bool cut;
        stel__slot_mark mark = stel__slot_look(s->out.slot);
        n = send_piece(s, s->bytes - done, &cut);
        if (n == -EAGAIN && !cut) {
            n = stel__call_wait(&s->out, mark, POLLOUT, 0);
            if (n < 0) break;
            continue;
        }
        if (n <= 0) {
            if (!cut) (void)stel__call_end(&s->out, n);
            break;
        }
        done += (size_t)n;
        s->at += n;
        stel__wait_spend(s->out.waiter);
    }
    return done || n > 0 ? (ssize_t)done : n;
}

static ssize_t send_buffer(send_state *s, char *buffer, size_t bytes) {
    struct iovec piece = { buffer, bytes };
    stel__cursor cursor;
    (void)stel__cursor_begin(&cursor, &piece, 1); /* a piece of ours */
    ssize_t n = stel__file_in(&s->in, &cursor, s->at);
    if (n <= 0) return n;
    piece.iov_len = (size_t)n;
    (void)stel__cursor_begin(&cursor, &piece, 1);
    return stel__call_on_socket(&s->out) ? stel__socket_out(&s->out, &cursor, 0) : stel__other_out(&s->out, &cursor);
}

static ssize_t send_through_a_buffer(send_state *s) {
    char *buffer = stel__alloc(least(BUFFER_BYTES, s->bytes));
    if (!buffer) return -ENOMEM;
    size_t done = 0;
    ssize_t n = 0;
    while (done < s->bytes) {
        n = send_buffer(s, buffer, least(BUFFER_BYTES, s->bytes - done));
        if (n <= 0) break;
        done += (size_t)n;
        s->at += n;
    }
    stel__free(buffer);
    if (s->offset)
        *s->offset = s->at;
    else if (done)
        (void)stel__sys_lseek(s->in.fd, s->at, SEEK_SET);
    return done ? (ssize_t)done : n;
}

static int send_begin(send_state *s, int out_fd, int in_fd) {
    struct stat st;
    stel__slot_mark nobody;
    int rc = stel__call_begin(&s->out, out_fd);
    if (rc == 0) rc = stel__call_begin(&s->in, in_fd);
    if (rc == 0) rc = side_of(&s->out, &nobody, &s->out_side);
    if (rc == 0) rc = stel__sys_fstat(in_fd, &st);
    if (rc < 0) return rc;
    s->size = S_ISREG(st.st_mode) ? st.st_size : -1;
    s->at = stel__sys_lseek(in_fd, 0, SEEK_CUR);
    if (s->at < 0) return -EINVAL; /* sendfile(2): the input must be something with positions */
    if (s->offset) s->at = *s->offset;
    return s->at < 0 ? -EINVAL : 0;
}

ssize_t stel_sendfile(int out_fd, int in_fd, off_t *offset, size_t bytes) {
    send_state s = { .offset = offset, .bytes = bytes };
    if (bytes > SSIZE_MAX) return -EINVAL;
    int rc = send_begin(&s, out_fd, in_fd);
    if (rc < 0) return rc;
    if (!bytes) return stel__call_end(&s.out, 0);
    return s.out_side == BLOCKING ? send_through_a_buffer(&s) : send_pieces(&s);
}

/* ---- splice ---- */

typedef struct splice_state {
    stel__call in, out;
    stel__slot_mark in_mark, out_mark;
    enum side in_side, out_side;
} splice_state;

static int splice_look(splice_state *s) {
    s->in_mark = stel__slot_look(s->in.slot);
    s->out_mark = stel__slot_look(s->out.slot);
    int rc = side_of(&s->in, &s->in_mark, &s->in_side);
    if (rc == 0) rc = side_of(&s->out, &s->out_mark, &s->out_side);
    if (rc < 0) return rc;
    return s->in_side == PIPE || s->out_side == PIPE ? 0 : -EINVAL; /* before anything is waited for */
}

/* -EAGAIN: some side is not ready. */
static ssize_t splice_once(splice_state *s, move *m, bool *cut) {
    *cut = false;
    if (s->in_side == BLOCKING || s->out_side == BLOCKING) {
        stel__call *c = s->in_side == BLOCKING ? &s->in : &s->out; /* the other one is a pipe */
        int ready = stel__ready_now(c->fd, c == &s->in ? POLLIN : POLLOUT);
        if (ready <= 0) return ready == 0 ? -EAGAIN : ready;
        if (c == &s->out) m->bytes = least(m->bytes, PIPE_BUF);
        return run_on_the_pool(c, m, cut);
    }
    if (s->out_side == FILE_SIDE) return run_on_the_pool(&s->out, m, cut);
    if (s->in_side == FILE_SIDE) {
        /* A pipe takes some sixteen pages; it is no use to look further. */
        size_t piece = least(m->bytes, BUFFER_BYTES);
        off_t at = m->in_offset ? *m->in_offset : stel__sys_lseek(s->in.fd, 0, SEEK_CUR);
        if (!piece || !is_warm(s->in.fd, at, piece)) return run_on_the_pool(&s->in, m, cut);
        m->bytes = piece;
    }
    run_move(&m->job);
    return m->result;
}

/* 0: try again. */
static int splice_wait(splice_state *s, int *in_vain) {
    stel__call *calls[2] = { &s->in, &s->out };
    for (int i = 0; i < 2; i++) {
        short events = i == 0 ? POLLIN : POLLOUT;
        if ((i == 0 ? s->in_side : s->out_side) == FILE_SIDE) continue;
        int rc = stel__ready_now(calls[i]->fd, events);
        if (rc > 0) continue;
        if (rc == 0) rc = stel__call_wait(calls[i], i == 0 ? s->in_mark : s->out_mark, events, 0);
        return rc < 0 ? rc : 0;
    }
    /* Both are ready by now; and again, although the kernel says no: nothing to wait for. */
    return (*in_vain)++ ? stel_sleep(STEL_MS(1)) : 0;
}

ssize_t stel_splice(int in_fd, off_t *in_offset, int out_fd, off_t *out_offset, size_t bytes, unsigned flags) {
    splice_state s;
    int in_vain = 0;
    int rc = stel__call_begin(&s.in, in_fd);
    if (rc == 0) rc = stel__call_begin(&s.out, out_fd);
    while (rc == 0) {
        move m = { .is_splice = true, .in_fd = in_fd, .out_fd = out_fd, .in_offset = in_offset };
        m.out_offset = out_offset;
        m.bytes = bytes;
        m.flags = flags | SPLICE_F_NONBLOCK;
        rc = splice_look(&s);
        if (rc < 0) break;
        bool cut;
        ssize_t n = splice_once(&s, &m, &cut);
        if (cut) return n;
        if (n != -EAGAIN || (flags & SPLICE_F_NONBLOCK)) return stel__call_end(&s.in, n);
        rc = splice_wait(&s, &in_vain);
    }
    return rc;
}
