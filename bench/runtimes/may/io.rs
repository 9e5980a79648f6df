//! timers and echo: workloads/README.md says what they count.

use crate::bench::{self, Histogram};
use crate::{joined, run, spawn};
use may::coroutine::sleep;
use may::net::{TcpListener, TcpStream};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

// ---- timers ----

static OVERSHOOTS: Histogram = Histogram::new();
static EARLY: AtomicI64 = AtomicI64::new(0);
// The window: set when all have been started.
static FROM: AtomicI64 = AtomicI64::new(i64::MAX);
static TO: AtomicI64 = AtomicI64::new(i64::MAX);

fn sleeper(number: u64) {
    for k in 0.. {
        let (before, length) = (bench::now(), bench::sleep_length(number, k));
        if before >= TO.load(Relaxed) {
            break;
        }
        sleep(Duration::from_nanos(length as u64));
        let overshoot = bench::now() - before - length;
        if overshoot < 0 {
            EARLY.fetch_add(1, Relaxed);
        } else if before >= FROM.load(Relaxed) {
            OVERSHOOTS.add(overshoot);
        }
    }
}

fn sleep_until(when: i64) {
    sleep(Duration::from_nanos((when - bench::now()).max(0) as u64));
}

pub extern "C" fn run_timers() {
    let (sleepers, window) = (bench::param("fibers", 5000), bench::param("run_ms", 1500) * 1_000_000);
    run(move || {
        let all: Vec<_> = (0..sleepers).map(|i| spawn(move || sleeper(i as u64))).collect();
        let from = bench::now() + 300_000_000;
        TO.store(from + window, Relaxed);
        FROM.store(from, Relaxed);
        sleep_until(from);
        bench::start();
        let cpu = bench::cpu();
        sleep_until(from + window);
        bench::stop();
        let cpu = bench::cpu() - cpu;
        all.into_iter().for_each(joined);
        if EARLY.load(Relaxed) > 0 {
            bench::fail("sleeps ended early");
        }
        let count = OVERSHOOTS.count();
        bench::result("p50", "us", OVERSHOOTS.at(0.50) as f64 / 1e3, count, count as i64);
        bench::result("p99", "us", OVERSHOOTS.at(0.99) as f64 / 1e3, count, count as i64);
        bench::result("cpu", "us", cpu as f64 / 1e3 / count as f64, count, count as i64);
    });
}

// ---- echo ----

fn serve(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    let _ = stream.set_nodelay(true);
    while let Ok(n) = stream.read(&mut buffer) {
        if n == 0 || stream.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
}

fn listen() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    bench::serve(listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept()?;
        spawn(move || serve(stream));
    }
}

pub extern "C" fn run_echo() {
    run(|| {
        if let Err(e) = listen() {
            bench::fail(&format!("cannot listen: {}", e));
        }
    });
}
