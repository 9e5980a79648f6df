//! bench-tokio: tasks of tokio, compiled in release mode with link-time optimisation, which makes it faster by a seventh.
//! One worker: its scheduler for the current thread; several: the work stealing one. Its I/O driver runs only where there
//! is I/O: whoever yields would have to pay for it. Tasks are stackless: what they keep across an await is all the memory
//! that they have, and there is nothing to guard.

mod bench;
mod fibers;
mod io;
mod parked;
mod sharing;

use std::future::Future;
use tokio::runtime::Builder;

fn run_on(mut builder: Builder, task: impl Future<Output = ()> + Send + 'static) {
    let runtime = builder.enable_time().build();
    let runtime = runtime.unwrap_or_else(|e| bench::fail(&format!("no runtime: {}", e)));
    // The future that is blocked on runs on a thread of its own beside the workers; a task does not.
    if runtime.block_on(runtime.spawn(task)).is_err() {
        bench::fail("the first task failed");
    }
}

fn builder() -> Builder {
    match bench::param("workers", 1) as usize {
        1 => Builder::new_current_thread(),
        workers => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(workers);
            builder
        }
    }
}

/// Run a task with workers=N (1) workers until it ends.
pub fn run(task: impl Future<Output = ()> + Send + 'static) {
    run_on(builder(), task);
}

pub fn run_with_io(task: impl Future<Output = ()> + Send + 'static) {
    let mut builder = builder();
    builder.enable_io();
    run_on(builder, task);
}

extern "C" fn start() {
    run(async {});
}

fn main() {
    let table: [(&str, extern "C" fn()); 14] = [
        ("yield", fibers::run_yield),
        ("spawn-join", fibers::run_spawn_join),
        ("spawn-all", fibers::run_spawn_all),
        ("skynet", fibers::run_skynet),
        ("fib", fibers::run_fib),
        ("tree", fibers::run_tree),
        ("parked", parked::run_parked),
        ("channel", sharing::run_channel),
        ("mutex", sharing::run_mutex),
        ("timers", io::run_timers),
        ("fairness", io::run_fairness),
        ("echo", io::run_echo),
        ("wake", io::run_wake),
        ("start", start),
    ];
    std::process::exit(bench::main("tokio", &table));
}
