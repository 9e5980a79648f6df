package main

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Many goroutines that are parked: the workload parked, and those that live beside what other workloads measure.

func waitTimed(gate <-chan struct{}) {
	timer := time.NewTimer(time.Hour)
	select {
	case <-gate:
	case <-timer.C:
		fail("a goroutine that waited beside was not woken")
	}
	timer.Stop()
}

// parkAll starts n goroutines that each wait for one element of the gate.
func parkAll(n int, gate <-chan struct{}, woken *int64, all *sync.WaitGroup, timed bool) {
	var parked int64
	all.Add(n)
	for i := 0; i < n; i++ {
		go func() {
			atomic.AddInt64(&parked, 1)
			if timed {
				waitTimed(gate)
			} else {
				<-gate
			}
			atomic.AddInt64(woken, 1)
			all.Done()
		}()
		if i%128 == 127 {
			runtime.Gosched()
		}
	}
	for atomic.LoadInt64(&parked) < int64(n) {
		runtime.Gosched()
	}
}

func wakeAll(n int, gate chan<- struct{}, all *sync.WaitGroup) {
	for i := 0; i < n; i++ {
		gate <- struct{}{}
	}
	all.Wait()
}

func runParked() {
	n := int(param("fibers", 1000000))
	gate := make(chan struct{})
	var woken int64
	var all sync.WaitGroup
	parkAll(1000, gate, &woken, &all, false)
	wakeAll(1000, gate, &all)
	woken = 0
	before := memory()
	start()
	parkAll(n, gate, &woken, &all, false)
	create := stop()
	bytes, lines := memory()-before, mapLines()
	start()
	wakeAll(n, gate, &all)
	wake := stop()
	checksum := uint64(woken)
	result("bytes", "B", float64(bytes)/float64(n), checksum, int64(n))
	result("create", "ns", float64(create)/float64(n), checksum, int64(n))
	result("wake", "ns", float64(wake)/float64(n), checksum, int64(n))
	result("map_lines", "lines", float64(lines), checksum, int64(n))
}

// ---- live=n ----

type live struct {
	count int
	gate  chan struct{}
	woken int64
	all   sync.WaitGroup
}

func liveBegin(timed bool) *live {
	l := &live{count: int(param("live", 0)), gate: make(chan struct{})}
	parkAll(l.count, l.gate, &l.woken, &l.all, timed)
	return l
}

func (l *live) end() {
	if atomic.LoadInt64(&l.woken) != 0 {
		fail("goroutines that were to wait beside did not")
	}
	wakeAll(l.count, l.gate, &l.all)
}
