//! common/bench.h for Rust: its functions are called as they are.

use std::ffi::CString;
use std::os::raw::{c_char, c_double, c_int};
use std::sync::atomic::{AtomicU64, Ordering};

pub mod ffi {
    use super::*;

    #[repr(C)]
    pub struct Workload {
        pub name: *const c_char,
        pub run: Option<extern "C" fn()>,
    }

    #[link(name = "bench-common", kind = "static")]
    extern "C" {
        pub fn bench_main(count: c_int, words: *const *const c_char, runtime: *const c_char, table: *const Workload) -> c_int;
        pub fn bench_param(name: *const c_char, otherwise: i64) -> i64;
        pub fn bench_now() -> i64;
        pub fn bench_cpu() -> i64;
        pub fn bench_start();
        pub fn bench_stop() -> i64;
        pub fn bench_result(metric: *const c_char, unit: *const c_char, value: c_double, checksum: u64, operations: i64);
        pub fn bench_result_ns(metric: *const c_char, checksum: u64, operations: i64);
        pub fn bench_fail(format: *const c_char, ...) -> !;
        pub fn bench_memory() -> i64;
        pub fn bench_map_lines() -> i64;
        pub fn bench_serve(port: c_int);
        pub fn bench_serve_pipe() -> c_int;
        pub fn bench_woken(stamp: i64);
        pub fn bench_fairness_results(lateness: *const u64, turns: u64);
        pub fn bench_histogram_add(histogram: *mut u64, ns: i64);
        pub fn bench_histogram_at(histogram: *const u64, share: c_double) -> i64;
    }
}

pub fn text(s: &str) -> CString {
    CString::new(s).expect("no text with a zero in it")
}

pub fn param(name: &str, otherwise: i64) -> i64 {
    unsafe { ffi::bench_param(text(name).as_ptr(), otherwise) }
}

pub fn now() -> i64 {
    unsafe { ffi::bench_now() }
}

pub fn cpu() -> i64 {
    unsafe { ffi::bench_cpu() }
}

pub fn start() {
    unsafe { ffi::bench_start() }
}

pub fn stop() -> i64 {
    unsafe { ffi::bench_stop() }
}

pub fn memory() -> i64 {
    unsafe { ffi::bench_memory() }
}

pub fn map_lines() -> i64 {
    unsafe { ffi::bench_map_lines() }
}

pub fn result(metric: &str, unit: &str, value: f64, checksum: u64, operations: i64) {
    unsafe { ffi::bench_result(text(metric).as_ptr(), text(unit).as_ptr(), value, checksum, operations) }
}

/// ns of wall time an operation.
pub fn result_ns(checksum: u64, operations: i64) {
    unsafe { ffi::bench_result_ns(text("time").as_ptr(), checksum, operations) }
}

pub fn fail(reason: &str) -> ! {
    unsafe { ffi::bench_fail(text("%s").as_ptr(), text(reason).as_ptr()) }
}

pub fn serve(port: u16) {
    unsafe { ffi::bench_serve(port.into()) }
}

pub fn serve_pipe() -> c_int {
    unsafe { ffi::bench_serve_pipe() }
}

pub fn woken(stamp: i64) {
    unsafe { ffi::bench_woken(stamp) }
}

const BUCKETS: usize = 64 * 40; // BENCH_HISTOGRAM_BUCKETS

pub struct Histogram([AtomicU64; BUCKETS]);

impl Histogram {
    pub const fn new() -> Histogram {
        #[allow(clippy::declare_interior_mutable_const)]
        const EMPTY: AtomicU64 = AtomicU64::new(0);
        Histogram([EMPTY; BUCKETS])
    }

    pub fn add(&self, ns: i64) {
        unsafe { ffi::bench_histogram_add(self.0.as_ptr() as *mut u64, ns) }
    }

    pub fn at(&self, share: f64) -> i64 {
        unsafe { ffi::bench_histogram_at(self.0.as_ptr() as *const u64, share) }
    }

    pub fn count(&self) -> u64 {
        self.0.iter().map(|n| n.load(Ordering::Relaxed)).sum()
    }
}

/// What the ticker found, and the turns of the others.
pub fn fairness_results(lateness: &Histogram, turns: u64) {
    unsafe { ffi::bench_fairness_results(lateness.0.as_ptr() as *const u64, turns) }
}

/// Keep the CPU busy.
pub fn spin(ns: i64) {
    if ns > 0 {
        let until = now() + ns;
        while now() < until {}
    }
}

/// What a leaf of a tree does.
pub fn work(leaf: u64, steps: i64) -> u64 {
    let mut x = leaf % 64;
    for _ in 0..steps {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        x ^= x >> 29;
    }
    x
}

/// How long fiber number i sleeps the k-th time, in ns.
pub fn sleep_length(i: u64, k: u64) -> i64 {
    let mut x = (i << 32 | k).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x ^= x >> 29;
    x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x ^= x >> 32;
    (1_000_000 + x % 98_000_001) as i64
}

/// Run the workload that the command line names; returns main's result.
pub fn main(runtime: &str, table: &[(&str, extern "C" fn())]) -> i32 {
    let words: Vec<CString> = std::env::args().map(|word| text(&word)).collect();
    let mut pointers: Vec<*const c_char> = words.iter().map(|word| word.as_ptr()).collect();
    pointers.push(std::ptr::null());
    let names: Vec<CString> = table.iter().map(|(name, _)| text(name)).collect();
    let mut rows: Vec<ffi::Workload> = table
        .iter()
        .zip(&names)
        .map(|(&(_, run), name)| ffi::Workload { name: name.as_ptr(), run: Some(run) })
        .collect();
    rows.push(ffi::Workload { name: std::ptr::null(), run: None });
    unsafe { ffi::bench_main(words.len() as c_int, pointers.as_ptr(), text(runtime).as_ptr(), rows.as_ptr()) }
}
