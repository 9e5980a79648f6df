//! timers, fairness, echo, wake-ups: workloads/README.md says what they count.

use crate::bench::{self, Histogram};
use crate::parked::Beside;
use crate::{run, run_with_io};
use std::os::unix::io::RawFd;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{spawn, yield_now};
use tokio::time::sleep;

// ---- timers ----

static OVERSHOOTS: Histogram = Histogram::new();
static EARLY: AtomicI64 = AtomicI64::new(0);
// The window: set when all have been started.
static FROM: AtomicI64 = AtomicI64::new(i64::MAX);
static TO: AtomicI64 = AtomicI64::new(i64::MAX);

async fn sleeper(number: u64) {
    for k in 0.. {
        let (before, length) = (bench::now(), bench::sleep_length(number, k));
        if before >= TO.load(Relaxed) {
            break;
        }
        sleep(Duration::from_nanos(length as u64)).await;
        let overshoot = bench::now() - before - length;
        if overshoot < 0 {
            EARLY.fetch_add(1, Relaxed);
        } else if before >= FROM.load(Relaxed) {
            OVERSHOOTS.add(overshoot);
        }
    }
}

async fn sleep_until(when: i64) {
    sleep(Duration::from_nanos((when - bench::now()).max(0) as u64)).await;
}

pub extern "C" fn run_timers() {
    let (sleepers, window) = (bench::param("fibers", 5000), bench::param("run_ms", 1500) * 1_000_000);
    run(async move {
        let beside = Beside::begin(true).await;
        let all: Vec<_> = (0..sleepers).map(|i| spawn(sleeper(i as u64))).collect();
        let from = bench::now() + 300_000_000;
        TO.store(from + window, Relaxed);
        FROM.store(from, Relaxed);
        sleep_until(from).await;
        bench::start();
        let cpu = bench::cpu();
        sleep_until(from + window).await;
        bench::stop();
        let cpu = bench::cpu() - cpu;
        for task in all {
            let _ = task.await;
        }
        beside.end().await;
        if EARLY.load(Relaxed) > 0 {
            bench::fail("sleeps ended early");
        }
        let count = OVERSHOOTS.count();
        bench::result("p50", "us", OVERSHOOTS.at(0.50) as f64 / 1e3, count, count as i64);
        bench::result("p99", "us", OVERSHOOTS.at(0.99) as f64 / 1e3, count, count as i64);
        bench::result("cpu", "us", cpu as f64 / 1e3 / count as f64, count, count as i64);
    });
}

// ---- fairness ----

const WARM_UP: u8 = 0;
const MEASURED: u8 = 1;
const OVER: u8 = 2;
static PHASE: AtomicU8 = AtomicU8::new(WARM_UP);
static LATENESS: Histogram = Histogram::new();

async fn take_turns(spin_ns: i64) -> u64 {
    let mut turns = 0;
    loop {
        let phase = PHASE.load(Relaxed);
        if phase == OVER {
            return turns;
        }
        bench::spin(spin_ns);
        turns += u64::from(phase == MEASURED);
        yield_now().await;
    }
}

async fn tick(length: i64) {
    let mut now = bench::now();
    let end = now + length;
    while now < end {
        let intended = now + 1_000_000;
        sleep(Duration::from_millis(1)).await;
        now = bench::now();
        if now < intended {
            bench::fail("a sleep ended early");
        }
        if PHASE.load(Relaxed) == MEASURED {
            LATENESS.add(now - intended);
        }
    }
}

pub extern "C" fn run_fairness() {
    let (others, spin_ns) = (bench::param("fibers", 1000), bench::param("spin_us", 0) * 1000);
    let length = bench::param("run_ms", 1000) * 1_000_000;
    run(async move {
        let all: Vec<_> = (0..others).map(|_| spawn(take_turns(spin_ns))).collect();
        tick(length / 10).await;
        PHASE.store(MEASURED, Relaxed);
        bench::start();
        tick(length).await;
        bench::stop();
        PHASE.store(OVER, Relaxed);
        let mut turns = 0;
        for task in all {
            turns += task.await.unwrap_or_else(|_| bench::fail("a task failed"));
        }
        bench::fairness_results(&LATENESS, turns);
    });
}

// ---- echo ----

async fn serve(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    let _ = stream.set_nodelay(true);
    while let Ok(n) = stream.read(&mut buffer).await {
        if n == 0 || stream.write_all(&buffer[..n]).await.is_err() {
            break;
        }
    }
}

async fn listen() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    bench::serve(listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        spawn(serve(stream));
    }
}

pub extern "C" fn run_echo() {
    run_with_io(async {
        if let Err(e) = listen().await {
            bench::fail(&format!("cannot listen: {}", e));
        }
    });
}

// ---- wake-ups ----

fn read_stamp(fd: RawFd) -> std::io::Result<i64> {
    let mut stamp = [0u8; 8];
    match unsafe { libc::read(fd, stamp.as_mut_ptr().cast(), stamp.len()) } {
        8 => Ok(i64::from_ne_bytes(stamp)),
        n if n < 0 => Err(std::io::Error::last_os_error()),
        _ => Err(std::io::ErrorKind::UnexpectedEof.into()),
    }
}

async fn woken_by_pipe() -> std::io::Result<()> {
    let fd = bench::serve_pipe();
    unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) };
    let pipe = AsyncFd::new(fd)?;
    loop {
        let mut ready = pipe.readable().await?;
        if let Ok(stamp) = ready.try_io(|pipe| read_stamp(*pipe.get_ref())) {
            bench::woken(stamp?);
        }
    }
}

pub extern "C" fn run_wake() {
    run_with_io(async {
        if let Err(e) = woken_by_pipe().await {
            bench::fail(&format!("cannot wait for a pipe: {}", e));
        }
    });
}
