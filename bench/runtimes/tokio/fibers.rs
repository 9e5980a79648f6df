//! yield, spawn and join, skynet, fib, a million parked: workloads/README.md says what they count.

use crate::{bench, run};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::task::{spawn, yield_now, JoinHandle};

async fn joined<T>(task: JoinHandle<T>) -> T {
    task.await.unwrap_or_else(|_| bench::fail("a task failed"))
}

// ---- yield ----

async fn yield_round(tasks: i64, each: i64) -> u64 {
    let all: Vec<JoinHandle<u64>> = (0..tasks)
        .map(|_| {
            spawn(async move {
                let mut done = 0;
                while done < each {
                    yield_now().await;
                    done += 1;
                }
                done as u64
            })
        })
        .collect();
    let mut done = 0;
    for task in all {
        done += joined(task).await;
    }
    done
}

pub extern "C" fn run_yield() {
    let tasks = bench::param("fibers", 2);
    let each = bench::param("ops", 1_000_000) / tasks;
    run(async move {
        yield_round(tasks, each / 10 + 1).await;
        bench::start();
        let checksum = yield_round(tasks, each).await;
        bench::stop();
        bench::result_ns(checksum, each * tasks);
    });
}

// ---- spawn and join ----

async fn spawn_join_round(n: i64) -> u64 {
    let mut sum = 0;
    for i in 0..n {
        sum += joined(spawn(async move { (i & 1023) as u64 })).await;
    }
    sum
}

pub extern "C" fn run_spawn_join() {
    let n = bench::param("ops", 1_000_000);
    run(async move {
        spawn_join_round(n / 10).await;
        bench::start();
        let checksum = spawn_join_round(n).await;
        bench::stop();
        bench::result_ns(checksum, n);
    });
}

async fn spawn_all_round(all: &mut Vec<JoinHandle<u64>>, n: u64) -> u64 {
    let mut sum = 0;
    all.extend((0..n).map(|i| spawn(async move { i & 1023 })));
    for task in all.drain(..) {
        sum += joined(task).await;
    }
    sum
}

pub extern "C" fn run_spawn_all() {
    let (n, rounds) = (bench::param("fibers", 10_000), bench::param("rounds", 20));
    run(async move {
        let mut all = Vec::with_capacity(n as usize);
        spawn_all_round(&mut all, n as u64).await;
        let mut checksum = 0;
        bench::start();
        for _ in 0..rounds {
            checksum += spawn_all_round(&mut all, n as u64).await;
        }
        bench::stop();
        bench::result_ns(checksum, n * rounds);
    });
}

// ---- skynet ----

fn skynet(number: u64, leaves: u64) -> JoinHandle<u64> {
    spawn(async move {
        if leaves == 1 {
            return number;
        }
        let leaves = leaves / 10;
        let mut sum = 0;
        for child in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map(|i| skynet(number + i * leaves, leaves)) {
            sum += joined(child).await;
        }
        sum
    })
}

pub extern "C" fn run_skynet() {
    let leaves = bench::param("leaves", 1_000_000);
    run(async move {
        joined(skynet(0, 1000)).await;
        bench::start();
        let checksum = joined(skynet(0, leaves as u64)).await;
        let wall = bench::stop();
        bench::result("time", "ms", wall as f64 / 1e6, checksum, leaves);
    });
}

// ---- fib ----

fn fib(n: u64) -> JoinHandle<u64> {
    spawn(async move {
        if n < 2 {
            return n;
        }
        let (left, right) = (fib(n - 1), fib(n - 2));
        joined(right).await + joined(left).await
    })
}

pub extern "C" fn run_fib() {
    let n = bench::param("n", 30) as u64;
    run(async move {
        joined(fib(n / 2)).await;
        bench::start();
        let checksum = joined(fib(n)).await;
        let wall = bench::stop();
        bench::result("time", "ms", wall as f64 / 1e6, checksum, n as i64);
    });
}

// ---- a million parked ----

#[derive(Default)]
struct Gate {
    open: Notify,
    over: Notify,
    parked: AtomicI64,
    woken: AtomicI64,
}

/// Start n tasks that each wait to be notified, making room now and then so that each has come that far.
async fn park_all(n: i64) -> Arc<Gate> {
    let gate = Arc::new(Gate::default());
    for i in 0..n {
        let gate = gate.clone();
        spawn(async move {
            gate.parked.fetch_add(1, Relaxed);
            gate.open.notified().await;
            if gate.woken.fetch_add(1, Relaxed) + 1 == n {
                gate.over.notify_one();
            }
        });
        if i % 128 == 127 {
            yield_now().await;
        }
    }
    while gate.parked.load(Relaxed) < n {
        yield_now().await;
    }
    gate
}

async fn wake_all(gate: &Gate, n: i64) {
    for i in 0..n {
        gate.open.notify_one();
        if i % 256 == 255 {
            yield_now().await;
        }
    }
    gate.over.notified().await;
}

pub extern "C" fn run_parked() {
    let n = bench::param("fibers", 1_000_000);
    run(async move {
        wake_all(&*park_all(1000).await, 1000).await;
        let before = bench::memory();
        bench::start();
        let gate = park_all(n).await;
        let create = bench::stop();
        let (bytes, lines) = (bench::memory() - before, bench::map_lines());
        bench::start();
        wake_all(&gate, n).await;
        let wake = bench::stop();
        let checksum = gate.woken.load(Relaxed) as u64;
        let each = |x: i64| x as f64 / n as f64;
        bench::result("bytes", "B", each(bytes), checksum, n);
        bench::result("create", "ns", each(create), checksum, n);
        bench::result("wake", "ns", each(wake), checksum, n);
        bench::result("map_lines", "lines", lines as f64, checksum, n);
    });
}
