/* bench-libuv: callbacks on a loop a worker. It has no fibers, so it takes part where none are needed: echo, wake-ups, timers,
 * start-up. An answer is written at once and only what does not fit is queued, which is libuv's fast way. */
#include "../../common/bench.h"
#include "../raw/accept.h"
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

static void *must_have(void *p) {
    if (!p) bench_fail("no memory");
    return p;
}

static void must(int code, const char *what) {
    if (code < 0) bench_fail("%s failed: %s", what, uv_strerror(code));
}

/* ---- echo ---- */

/* A loop and the connections on their way to it, which another thread has accepted. */
typedef struct worker {
    uv_loop_t loop;
    uv_async_t arrival;
    uv_mutex_t lock;
    int *arrived;
    size_t count, room;
    char buffer[4096];
} worker;

typedef struct late_write {
    uv_write_t request;
    char rest[];
} late_write;

static worker *workers;

static void closed(uv_handle_t *handle) {
    free(handle);
}

/* One buffer for all connections of a loop: what has been read is gone when the callback returns. */
static void lend_buffer(uv_handle_t *handle, size_t wanted, uv_buf_t *buffer) {
    worker *w = handle->loop->data;
    (void)wanted;
    *buffer = uv_buf_init(w->buffer, sizeof w->buffer);
}

static void written(uv_write_t *request, int status) {
    (void)status; /* the next read says what became of the connection */
    free(request);
}

static void send_later(uv_stream_t *stream, const char *data, size_t n) {
    late_write *w = must_have(malloc(sizeof *w + n));
    memcpy(w->rest, data, n);
    uv_buf_t buffer = uv_buf_init(w->rest, (unsigned)n);
    if (uv_write(&w->request, stream, &buffer, 1, written) < 0) free(w);
}

static void received(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer) {
    if (n < 0) {
        uv_close((uv_handle_t *)stream, closed);
        return;
    }
    uv_buf_t answer = uv_buf_init(buffer->base, (unsigned)n);
    int sent = n > 0 ? uv_try_write(stream, &answer, 1) : 0;
    if (sent < 0) sent = 0;
    if (sent < n) send_later(stream, buffer->base + sent, (size_t)(n - sent));
}

static void open_connection(uv_loop_t *loop, int fd) {
    uv_tcp_t *connection = must_have(malloc(sizeof *connection));
    must(uv_tcp_init(loop, connection), "uv_tcp_init");
    must(uv_tcp_open(connection, fd), "uv_tcp_open");
    must(uv_read_start((uv_stream_t *)connection, lend_buffer, received), "uv_read_start");
}

static void take_arrived(uv_async_t *arrival) {
    worker *w = arrival->loop->data;
    uv_mutex_lock(&w->lock);
    for (size_t i = 0; i < w->count; i++)
        open_connection(&w->loop, w->arrived[i]);
    w->count = 0;
    uv_mutex_unlock(&w->lock);
}

static void give(int number, int fd) {
    worker *w = &workers[number];
    uv_mutex_lock(&w->lock);
    if (w->count == w->room) {
        w->room = w->room ? 2 * w->room : 64;
        w->arrived = must_have(realloc(w->arrived, w->room * sizeof *w->arrived));
    }
    w->arrived[w->count++] = fd;
    uv_mutex_unlock(&w->lock);
    uv_async_send(&w->arrival);
}

static void run_loop(void *arg) {
    worker *w = arg;
    uv_run(&w->loop, UV_RUN_DEFAULT);
}

static void run_echo(void) {
    int count = bench_param_int("workers", 1);
    if (count < 1) bench_fail("workers out of range");
    workers = must_have(calloc((size_t)count, sizeof *workers));
    for (int i = 0; i < count; i++) {
        worker *w = &workers[i];
        must(uv_loop_init(&w->loop), "uv_loop_init");
        w->loop.data = w;
        must(uv_mutex_init(&w->lock), "uv_mutex_init");
        must(uv_async_init(&w->loop, &w->arrival, take_arrived), "uv_async_init");
    }
    for (int i = 1; i < count; i++) {
        uv_thread_t thread;
        must(uv_thread_create(&thread, run_loop, &workers[i]), "uv_thread_create");
    }
    bench_serve(accept_for(count, give));
    run_loop(&workers[0]);
}

/* ---- wake-ups ---- */

static void lend_stamp(uv_handle_t *handle, size_t wanted, uv_buf_t *buffer) {
    (void)wanted;
    *buffer = uv_buf_init(handle->data, sizeof(int64_t));
}

static void stamped(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer) {
    (void)buffer;
    if (n == sizeof(int64_t)) bench_woken(*(int64_t *)stream->data);
}

static void run_wake(void) {
    uv_pipe_t pipe;
    int64_t stamp;
    must(uv_pipe_init(uv_default_loop(), &pipe, 0), "uv_pipe_init");
    pipe.data = &stamp;
    must(uv_pipe_open(&pipe, bench_serve_pipe()), "uv_pipe_open");
    must(uv_read_start((uv_stream_t *)&pipe, lend_stamp, stamped), "uv_read_start");
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}

/* ---- timers: a timer for each fiber, which starts itself again ---- */

typedef struct sleeper {
    uv_timer_t timer;
    uint64_t number, k;
    int64_t began, length;
} sleeper;

static bench_histogram overshoots;
static int64_t window_start, window_end, cpu;
static bool measuring, over;

static void awake(uv_timer_t *timer);

/* Timers count whole milliseconds from the loop's last look at the clock; one more, so that none ends early. */
static void fall_asleep(sleeper *s) {
    s->length = bench_sleep_length(s->number, s->k++);
    s->began = bench_now();
    uv_update_time(s->timer.loop);
    uv_timer_start(&s->timer, awake, (uint64_t)(s->length + 999999) / 1000000 + 1, 0);
}

static void awake(uv_timer_t *timer) {
    sleeper *s = (sleeper *)timer;
    int64_t now = bench_now(), overshoot = now - s->began - s->length;
    if (overshoot < 0) bench_fail("a sleep ended early");
    if (s->began >= window_start && s->began < window_end) bench_histogram_add(&overshoots, overshoot);
    if (!measuring && now >= window_start) {
        measuring = true;
        bench_start();
        cpu = bench_cpu();
    }
    if (!over && now >= window_end) {
        over = true;
        bench_stop();
        cpu = bench_cpu() - cpu;
    }
    if (now < window_end) fall_asleep(s);
}

static void not_woken(uv_timer_t *timer) {
    (void)timer;
    bench_fail("a timer beside went off");
}

/* live=n: so many are set beside, an hour away. */
static uv_timer_t *set_beside(int n) {
    uv_timer_t *timers = bench_alloc((size_t)n * sizeof *timers);
    for (int i = 0; i < n; i++) {
        must(uv_timer_init(uv_default_loop(), &timers[i]), "uv_timer_init");
        must(uv_timer_start(&timers[i], not_woken, 3600000, 0), "uv_timer_start");
    }
    return timers;
}

static void run_timers(void) {
    int n = bench_param_int("fibers", 5000), live = bench_param_int("live", 0);
    uv_timer_t *beside = set_beside(live);
    sleeper *sleepers = bench_alloc((size_t)n * sizeof *sleepers);
    window_start = bench_now() + 300000000;
    window_end = window_start + bench_param("run_ms", 1500) * 1000000;
    for (int i = 0; i < n; i++) {
        sleepers[i].number = (uint64_t)i;
        must(uv_timer_init(uv_default_loop(), &sleepers[i].timer), "uv_timer_init");
        fall_asleep(&sleepers[i]);
    }
    /* Until all have had their last sleep; those beside would keep the loop alive for longer. */
    for (int i = 0; i < live; i++)
        uv_unref((uv_handle_t *)&beside[i]);
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    for (int i = 0; i < live; i++)
        must(uv_timer_stop(&beside[i]), "uv_timer_stop");
    uint64_t count = bench_histogram_count(&overshoots);
    bench_result("p50", "us", (double)bench_histogram_at(&overshoots, 0.50) / 1e3, count, (int64_t)count);
    bench_result("p99", "us", (double)bench_histogram_at(&overshoots, 0.99) / 1e3, count, (int64_t)count);
    bench_result("cpu", "us", (double)cpu / 1e3 / (double)count, count, (int64_t)count);
}

/* ---- start-up ---- */

static void stop_idling(uv_idle_t *idle) {
    uv_idle_stop(idle);
}

static void run_start(void) {
    uv_idle_t idle;
    must(uv_idle_init(uv_default_loop(), &idle), "uv_idle_init");
    must(uv_idle_start(&idle, stop_idling), "uv_idle_start");
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}

int main(int argc, char **argv) {
    static const bench_workload table[] = {
        { "echo", run_echo }, { "wake", run_wake }, { "timers", run_timers }, { "start", run_start }, { NULL, NULL }
    };
    return bench_main(argc, argv, "libuv", table);
}
