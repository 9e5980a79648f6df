package main

import (
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// ---- yield ----

func yieldRound(n, each int) (done uint64) {
	var all sync.WaitGroup
	all.Add(n)
	for i := 0; i < n; i++ {
		go func() {
			k := 0
			for ; k < each; k++ {
				runtime.Gosched()
			}
			atomic.AddUint64(&done, uint64(k))
			all.Done()
		}()
	}
	all.Wait()
	return
}

func runYield() {
	n := int(param("fibers", 2))
	each := int(param("ops", 1000000)) / n
	beside := liveBegin(false)
	yieldRound(n, each/10+1)
	start()
	checksum := yieldRound(n, each)
	stop()
	beside.end()
	resultNs(checksum, int64(each*n))
}

// ---- spawn and join ----

func spawnJoinRound(n int64) (sum uint64) {
	done := make(chan int)
	for i := int64(0); i < n; i++ {
		go func(i int64) { done <- int(i & 1023) }(i)
		sum += uint64(<-done)
	}
	return
}

func runSpawnJoin() {
	ops := param("ops", 1000000)
	beside := liveBegin(false)
	spawnJoinRound(ops / 10)
	start()
	checksum := spawnJoinRound(ops)
	stop()
	beside.end()
	resultNs(checksum, ops)
}

func spawnAllRound(results []int) (sum uint64) {
	var all sync.WaitGroup
	all.Add(len(results))
	for i := range results {
		go func(i int) {
			results[i] = i & 1023
			all.Done()
		}(i)
	}
	all.Wait()
	for i := range results {
		sum += uint64(results[i])
		results[i] = 0
	}
	return
}

func runSpawnAll() {
	n, rounds := param("fibers", 10000), param("rounds", 20)
	results := make([]int, n)
	spawnAllRound(results)
	var checksum uint64
	start()
	for r := int64(0); r < rounds; r++ {
		checksum += spawnAllRound(results)
	}
	stop()
	resultNs(checksum, n*rounds)
}

// ---- skynet ----

func skynet(up chan<- uint64, number, leaves uint64) {
	if leaves == 1 {
		up <- number
		return
	}
	results := make(chan uint64, 10)
	for i := uint64(0); i < 10; i++ {
		go skynet(results, number+i*(leaves/10), leaves/10)
	}
	var sum uint64
	for i := 0; i < 10; i++ {
		sum += <-results
	}
	up <- sum
}

func runSkynet() {
	leaves := param("leaves", 1000000)
	up := make(chan uint64, 1)
	skynet(up, 0, 1000)
	<-up
	start()
	skynet(up, 0, uint64(leaves))
	checksum := <-up
	wall := stop()
	result("time", "ms", float64(wall)/1e6, checksum, leaves)
}

// ---- fib ----

func fib(up chan<- int, n int) {
	if n < 2 {
		up <- n
		return
	}
	results := make(chan int, 2)
	go fib(results, n-1)
	go fib(results, n-2)
	up <- <-results + <-results
}

func runFib() {
	n := int(param("n", 30))
	up := make(chan int, 1)
	fib(up, n/2)
	<-up
	start()
	fib(up, n)
	checksum := <-up
	wall := stop()
	result("time", "ms", float64(wall)/1e6, uint64(checksum), int64(n))
}

// ---- tree ----

func work(leaf uint64, steps int64) uint64 {
	x := leaf % 64
	for i := int64(0); i < steps; i++ {
		x = x*6364136223846793005 + 1442695040888963407
		x ^= x >> 29
	}
	return x
}

func tree(up chan<- uint64, first, count, steps int64) {
	if count == 1 {
		up <- work(uint64(first), steps)
		return
	}
	results := make(chan uint64, 2)
	half := count / 2
	go tree(results, first, half, steps)
	go tree(results, first+half, count-half, steps)
	up <- <-results + <-results
}

func runTree() {
	leaves, steps := param("leaves", 20000), param("steps", 2000)
	up := make(chan uint64, 1)
	tree(up, 0, leaves/10+1, steps)
	<-up
	start()
	tree(up, 0, leaves, steps)
	checksum := <-up
	stop()
	resultNs(checksum, leaves)
}

// ---- channel ----

func play(there chan<- uint64, back <-chan uint64, trips int64) (sum uint64) {
	for i := int64(0); i < trips; i++ {
		there <- uint64(i)
		sum += <-back
	}
	return
}

func runChannel() {
	ops := param("ops", 1000000)
	there, back := make(chan uint64), make(chan uint64)
	go func() {
		for ball := range there {
			back <- ball + 1
		}
	}()
	beside := liveBegin(false)
	play(there, back, ops/10)
	start()
	checksum := play(there, back, ops)
	stop()
	beside.end()
	resultNs(checksum, ops)
}

// ---- mutex ----

func mutexRound(n, each, yieldEvery int) uint64 {
	var mutex sync.Mutex
	var counter uint64
	var all sync.WaitGroup
	all.Add(n)
	for i := 0; i < n; i++ {
		go func() {
			untilYield := yieldEvery
			for k := 0; k < each; k++ {
				mutex.Lock()
				counter++
				if yieldEvery != 0 {
					if untilYield--; untilYield == 0 {
						untilYield = yieldEvery
						runtime.Gosched()
					}
				}
				mutex.Unlock()
			}
			all.Done()
		}()
	}
	all.Wait()
	return counter
}

func runMutex() {
	n, each, yieldEvery := int(param("fibers", 1000)), int(param("each", 1000)), int(param("yield_every", 0))
	mutexRound(n, each/10+1, yieldEvery)
	start()
	checksum := mutexRound(n, each, yieldEvery)
	stop()
	resultNs(checksum, int64(n*each))
}

// ---- timers ----

func sleepLength(i, k uint64) int64 {
	x := (i<<32 | k) * 0x9E3779B97F4A7C15
	x ^= x >> 29
	x *= 0xBF58476D1CE4E5B9
	x ^= x >> 32
	return int64(1000000 + x%98000001)
}

func runTimers() {
	n := int(param("fibers", 5000))
	var overshoots histogram
	var all sync.WaitGroup
	var sleeps, early int64
	// The window: set when all have been started.
	window := [2]int64{math.MaxInt64, math.MaxInt64}
	beside := liveBegin(true)
	all.Add(n)
	for i := 0; i < n; i++ {
		go func(i uint64) {
			defer all.Done()
			for k := uint64(0); ; k++ {
				before, length := now(), sleepLength(i, k)
				if before >= atomic.LoadInt64(&window[1]) {
					return
				}
				time.Sleep(time.Duration(length))
				overshoot := now() - before - length
				if overshoot < 0 {
					atomic.AddInt64(&early, 1)
					continue
				}
				if before >= atomic.LoadInt64(&window[0]) {
					overshoots.add(overshoot)
					atomic.AddInt64(&sleeps, 1)
				}
			}
		}(uint64(i))
	}
	from := now() + 300e6
	to := from + param("run_ms", 1500)*1e6
	atomic.StoreInt64(&window[1], to)
	atomic.StoreInt64(&window[0], from)
	time.Sleep(time.Duration(from - now()))
	start()
	time.Sleep(time.Duration(to - now()))
	stop()
	cpu := cpuNs
	all.Wait()
	beside.end()
	if early > 0 {
		fail("%d sleeps ended early", early)
	}
	checksum := uint64(sleeps)
	result("p50", "us", float64(overshoots.at(0.50))/1e3, checksum, sleeps)
	result("p99", "us", float64(overshoots.at(0.99))/1e3, checksum, sleeps)
	result("cpu", "us", float64(cpu)/1e3/float64(sleeps), checksum, sleeps)
}

// ---- fairness ----

const (
	warmUp = iota
	measured
	over
)

func runFairness() {
	n, runNs, spinNs := int(param("fibers", 1000)), param("run_ms", 1000)*1e6, param("spin_us", 0)*1000
	var phase int32
	var turns uint64
	var lateness histogram
	var all sync.WaitGroup
	all.Add(n)
	for i := 0; i < n; i++ {
		go func() {
			mine := uint64(0)
			for p := atomic.LoadInt32(&phase); p != over; p = atomic.LoadInt32(&phase) {
				if spinNs > 0 {
					for until := now() + spinNs; now() < until; {
					}
				}
				if p == measured {
					mine++
				}
				runtime.Gosched()
			}
			atomic.AddUint64(&turns, mine)
			all.Done()
		}()
	}
	tick := func(length int64) {
		t := now()
		for end := t + length; t < end; {
			intended := t + 1e6
			time.Sleep(time.Millisecond)
			t = now()
			if t < intended {
				fail("a sleep ended early")
			}
			if phase == measured {
				lateness.add(t - intended)
			}
		}
	}
	tick(runNs / 10)
	atomic.StoreInt32(&phase, measured)
	start()
	tick(runNs)
	stop()
	atomic.StoreInt32(&phase, over)
	all.Wait()
	ticks := lateness.count()
	result("p50", "us", float64(lateness.at(0.50))/1e3, ticks, int64(ticks))
	result("p99", "us", float64(lateness.at(0.99))/1e3, ticks, int64(ticks))
	result("max", "us", float64(lateness.at(1))/1e3, ticks, int64(ticks))
	result("turns", "/s", float64(turns)*1e9/float64(wallNs), ticks, int64(ticks))
}
