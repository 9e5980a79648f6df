//! channel and mutex: workloads/README.md says what they count.

use crate::parked::Beside;
use crate::{bench, run};
use std::sync::{self, Arc};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::Mutex;
use tokio::task::{spawn, yield_now};

// ---- channel: of one element each, because there is none without room ----

async fn play(there: &Sender<u64>, back: &mut Receiver<u64>, trips: i64) -> u64 {
    let mut sum = 0;
    for i in 0..trips {
        if there.send(i as u64).await.is_err() {
            bench::fail("the partner is gone");
        }
        sum += back.recv().await.unwrap_or_default();
    }
    sum
}

pub extern "C" fn run_channel() {
    let trips = bench::param("ops", 1_000_000);
    run(async move {
        let (there, mut incoming) = mpsc::channel(1);
        let (outgoing, mut back) = mpsc::channel(1);
        let partner = spawn(async move {
            while let Some(ball) = incoming.recv().await {
                if outgoing.send(ball + 1).await.is_err() {
                    break;
                }
            }
        });
        let beside = Beside::begin(false).await;
        play(&there, &mut back, trips / 10).await;
        bench::start();
        let checksum = play(&there, &mut back, trips).await;
        bench::stop();
        beside.end().await;
        drop(there);
        if partner.await.is_err() {
            bench::fail("the partner failed");
        }
        bench::result_ns(checksum, trips);
    });
}

// ---- mutex: tokio's own where a task yields while it holds it; otherwise, as tokio's documentation advises, std's ----

async fn mutex_round(tasks: i64, each: i64) -> u64 {
    let counter = Arc::new(sync::Mutex::new(0));
    let contenders: Vec<_> = (0..tasks)
        .map(|_| {
            let counter = counter.clone();
            spawn(async move {
                for _ in 0..each {
                    *counter.lock().unwrap_or_else(|_| bench::fail("the mutex is broken")) += 1;
                }
            })
        })
        .collect();
    for contender in contenders {
        let _ = contender.await;
    }
    let result = *counter.lock().unwrap_or_else(|_| bench::fail("the mutex is broken"));
    result
}

async fn yielding_round(tasks: i64, each: i64, yield_every: i64) -> u64 {
    let counter = Arc::new(Mutex::new(0));
    let contenders: Vec<_> = (0..tasks)
        .map(|_| {
            let counter = counter.clone();
            spawn(async move {
                let mut until_yield = yield_every;
                for _ in 0..each {
                    let mut held = counter.lock().await;
                    *held += 1;
                    until_yield -= 1;
                    if until_yield == 0 {
                        until_yield = yield_every;
                        yield_now().await;
                    }
                }
            })
        })
        .collect();
    for contender in contenders {
        let _ = contender.await;
    }
    let result = *counter.lock().await;
    result
}

pub extern "C" fn run_mutex() {
    let (tasks, each) = (bench::param("fibers", 1000), bench::param("each", 1000));
    let yield_every = bench::param("yield_every", 0);
    let round = move |each| async move {
        match yield_every {
            0 => mutex_round(tasks, each).await,
            _ => yielding_round(tasks, each, yield_every).await,
        }
    };
    run(async move {
        round(each / 10 + 1).await;
        bench::start();
        let checksum = round(each).await;
        bench::stop();
        bench::result_ns(checksum, each * tasks);
    });
}
