//! Many tasks that are parked: the workload parked, and those that live beside what other workloads measure.

use crate::{bench, run};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::{spawn, yield_now};
use tokio::time::timeout;

#[derive(Default)]
struct Gate {
    open: Notify,
    over: Notify,
    parked: AtomicI64,
    woken: AtomicI64,
}

impl Gate {
    fn count(&self, n: i64) {
        if self.woken.fetch_add(1, Relaxed) + 1 == n {
            self.over.notify_one();
        }
    }
}

/// Start n tasks that each wait to be notified, making room now and then so that each has come that far.
/// timed: their wait has a deadline, an hour away.
async fn park_all(n: i64, timed: bool) -> Arc<Gate> {
    let gate = Arc::new(Gate::default());
    for i in 0..n {
        let gate = gate.clone();
        if timed {
            spawn(async move {
                gate.parked.fetch_add(1, Relaxed);
                if timeout(Duration::from_secs(3600), gate.open.notified()).await.is_ok() {
                    gate.count(n);
                }
            });
        } else {
            spawn(async move {
                gate.parked.fetch_add(1, Relaxed);
                gate.open.notified().await;
                gate.count(n);
            });
        }
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
        wake_all(&*park_all(1000, false).await, 1000).await;
        let before = bench::memory();
        bench::start();
        let gate = park_all(n, false).await;
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

/// live=n: as many that wait beside what is measured.
pub struct Beside {
    gate: Arc<Gate>,
    count: i64,
}

impl Beside {
    pub async fn begin(timed: bool) -> Beside {
        let count = bench::param("live", 0);
        Beside { gate: park_all(count, timed).await, count }
    }

    pub async fn end(self) {
        if self.gate.woken.load(Relaxed) != 0 {
            bench::fail("tasks that were to wait beside did not");
        }
        if self.count > 0 {
            wake_all(&self.gate, self.count).await;
        }
    }
}
