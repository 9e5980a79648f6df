//! bench-may: may, compiled in release mode with link-time optimisation. So many workers as are asked for; stacks of 32 KiB,
//! its own default, with guards. Its channels have room without end: a rendezvous is one each way.

#[path = "../tokio/bench.rs"]
#[allow(dead_code)]
mod bench;
mod io;

use may::coroutine::{self, yield_now, JoinHandle};
use may::sync::{mpsc, Mutex};
use std::sync::Arc;

/// It is unsafe because of thread-local variables and of overflowing stacks, neither of which is met with here.
pub fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    unsafe { coroutine::spawn(f) }
}

pub fn joined<T>(handle: JoinHandle<T>) -> T {
    handle.join().unwrap_or_else(|_| bench::fail("a coroutine failed"))
}

/// Run a coroutine with workers=N (1) workers until it ends.
pub fn run(f: impl FnOnce() + Send + 'static) {
    may::config().set_workers(bench::param("workers", 1) as usize);
    joined(spawn(f));
}

// ---- yield ----

fn yield_round(n: i64, each: i64) -> u64 {
    let all: Vec<_> = (0..n)
        .map(|_| {
            spawn(move || {
                let mut done = 0;
                while done < each {
                    yield_now();
                    done += 1;
                }
                done as u64
            })
        })
        .collect();
    all.into_iter().map(joined).sum()
}

extern "C" fn run_yield() {
    let n = bench::param("fibers", 2);
    let each = bench::param("ops", 1_000_000) / n;
    run(move || {
        yield_round(n, each / 10 + 1);
        bench::start();
        let checksum = yield_round(n, each);
        bench::stop();
        bench::result_ns(checksum, each * n);
    });
}

// ---- spawn and join ----

fn spawn_join_round(n: i64) -> u64 {
    (0..n).map(|i| joined(spawn(move || (i & 1023) as u64))).sum()
}

extern "C" fn run_spawn_join() {
    let n = bench::param("ops", 1_000_000);
    run(move || {
        spawn_join_round(n / 10);
        bench::start();
        let checksum = spawn_join_round(n);
        bench::stop();
        bench::result_ns(checksum, n);
    });
}

fn spawn_all_round(all: &mut Vec<JoinHandle<u64>>, n: i64) -> u64 {
    all.extend((0..n).map(|i| spawn(move || (i & 1023) as u64)));
    all.drain(..).map(joined).sum()
}

extern "C" fn run_spawn_all() {
    let (n, rounds) = (bench::param("fibers", 10_000), bench::param("rounds", 20));
    may::config().set_pool_capacity(n as usize);
    run(move || {
        let mut all = Vec::with_capacity(n as usize);
        spawn_all_round(&mut all, n);
        bench::start();
        let checksum = (0..rounds).map(|_| spawn_all_round(&mut all, n)).sum();
        bench::stop();
        bench::result_ns(checksum, n * rounds);
    });
}

// ---- skynet, fib ----

fn skynet(number: u64, leaves: u64) -> u64 {
    if leaves == 1 {
        return number;
    }
    let leaves = leaves / 10;
    let children = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map(|i| spawn(move || skynet(number + i * leaves, leaves)));
    children.into_iter().map(joined).sum()
}

extern "C" fn run_skynet() {
    let leaves = bench::param("leaves", 1_000_000);
    run(move || {
        skynet(0, 1000);
        bench::start();
        let checksum = skynet(0, leaves as u64);
        let wall = bench::stop();
        bench::result("time", "ms", wall as f64 / 1e6, checksum, leaves);
    });
}

fn fib(n: i64) -> u64 {
    if n < 2 {
        return n as u64;
    }
    let (left, right) = (spawn(move || fib(n - 1)), spawn(move || fib(n - 2)));
    joined(left) + joined(right)
}

extern "C" fn run_fib() {
    let n = bench::param("n", 30);
    run(move || {
        fib(n / 2);
        bench::start();
        let checksum = fib(n);
        let wall = bench::stop();
        bench::result("time", "ms", wall as f64 / 1e6, checksum, n);
    });
}

// ---- channel ----

fn play(there: &mpsc::Sender<u64>, back: &mpsc::Receiver<u64>, trips: i64) -> u64 {
    let mut sum = 0;
    for i in 0..trips {
        if there.send(i as u64).is_err() {
            bench::fail("the partner is gone");
        }
        sum += back.recv().unwrap_or_default();
    }
    sum
}

extern "C" fn run_channel() {
    let trips = bench::param("ops", 1_000_000);
    run(move || {
        let (there, incoming) = mpsc::channel();
        let (outgoing, back) = mpsc::channel();
        let partner = spawn(move || {
            while let Ok(ball) = incoming.recv() {
                if outgoing.send(ball + 1).is_err() {
                    break;
                }
            }
        });
        play(&there, &back, trips / 10);
        bench::start();
        let checksum = play(&there, &back, trips);
        bench::stop();
        drop(there);
        joined(partner);
        bench::result_ns(checksum, trips);
    });
}

// ---- mutex ----

fn mutex_round(n: i64, each: i64, yield_every: i64) -> u64 {
    let counter = Arc::new(Mutex::new(0));
    let contenders: Vec<_> = (0..n)
        .map(|_| {
            let counter = counter.clone();
            spawn(move || {
                let mut until_yield = yield_every;
                for _ in 0..each {
                    let mut held = counter.lock().unwrap_or_else(|_| bench::fail("the mutex is broken"));
                    *held += 1;
                    until_yield -= 1;
                    if until_yield == 0 {
                        until_yield = yield_every;
                        yield_now();
                    }
                }
            })
        })
        .collect();
    contenders.into_iter().for_each(joined);
    let result = *counter.lock().unwrap_or_else(|_| bench::fail("the mutex is broken"));
    result
}

extern "C" fn run_mutex() {
    let (n, each) = (bench::param("fibers", 1000), bench::param("each", 1000));
    let yield_every = bench::param("yield_every", 0);
    run(move || {
        mutex_round(n, each / 10 + 1, yield_every);
        bench::start();
        let checksum = mutex_round(n, each, yield_every);
        bench::stop();
        bench::result_ns(checksum, each * n);
    });
}

extern "C" fn start() {
    run(|| {});
}

fn main() {
    let table: [(&str, extern "C" fn()); 10] = [
        ("yield", run_yield),
        ("spawn-join", run_spawn_join),
        ("spawn-all", run_spawn_all),
        ("skynet", run_skynet),
        ("fib", run_fib),
        ("channel", run_channel),
        ("mutex", run_mutex),
        ("timers", io::run_timers),
        ("echo", io::run_echo),
        ("start", start),
    ];
    std::process::exit(bench::main("may", &table));
}
