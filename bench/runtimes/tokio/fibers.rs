//! yield, spawn and join, skynet, fib, tree: workloads/README.md says what they count.

use crate::parked::Beside;
use crate::{bench, run};
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
        let beside = Beside::begin(false).await;
        yield_round(tasks, each / 10 + 1).await;
        bench::start();
        let checksum = yield_round(tasks, each).await;
        bench::stop();
        beside.end().await;
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
        let beside = Beside::begin(false).await;
        spawn_join_round(n / 10).await;
        bench::start();
        let checksum = spawn_join_round(n).await;
        bench::stop();
        beside.end().await;
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

// ---- tree ----

fn tree(first: i64, count: i64, steps: i64) -> JoinHandle<u64> {
    spawn(async move {
        if count == 1 {
            return bench::work(first as u64, steps);
        }
        let half = count / 2;
        let (left, right) = (tree(first, half, steps), tree(first + half, count - half, steps));
        joined(right).await.wrapping_add(joined(left).await)
    })
}

pub extern "C" fn run_tree() {
    let (leaves, steps) = (bench::param("leaves", 20_000), bench::param("steps", 2000));
    run(async move {
        joined(tree(0, leaves / 10 + 1, steps)).await;
        bench::start();
        let checksum = joined(tree(0, leaves, steps)).await;
        bench::stop();
        bench::result_ns(checksum, leaves);
    });
}
