// Package main is the driver for Go: goroutines, channels and sync as the standard library has them.
//
// This file is common/bench.h for Go: parameters, clocks, memory figures and the form of a result line.
package main

import (
	"bytes"
	"fmt"
	"io"
	"math/bits"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

var (
	workload           string
	startWall          time.Time
	startCPU           int64
	wallNs, cpuNs      int64
	clockMonotonic     = uintptr(1)
	clockProcessCPU    = uintptr(2) // CLOCK_PROCESS_CPUTIME_ID
	bootTime           = time.Now()
	statusPath, mapsIn = "/proc/self/status", "/proc/self/maps"
)

func param(name string, otherwise int64) int64 {
	for _, p := range os.Args[2:] {
		if strings.HasPrefix(p, name+"=") {
			v, err := strconv.ParseInt(p[len(name)+1:], 10, 64)
			if err != nil {
				fail("parameter '%s' is not a number", p)
			}
			return v
		}
	}
	return otherwise
}

func processCPU() int64 {
	var t syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockProcessCPU, uintptr(unsafe.Pointer(&t)), 0)
	return t.Sec*1e9 + t.Nsec
}

// monotonic is what others read from CLOCK_MONOTONIC.
func monotonic() int64 {
	var t syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&t)), 0)
	return t.Sec*1e9 + t.Nsec
}

func now() int64 { return int64(time.Since(bootTime)) }

func start() {
	startCPU = processCPU()
	startWall = time.Now()
}

func stop() int64 {
	wallNs = int64(time.Since(startWall))
	cpuNs = processCPU() - startCPU
	return wallNs
}

func statusBytes(key string) int64 {
	text, _ := os.ReadFile(statusPath)
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, key+":") {
			kilobytes, _ := strconv.ParseInt(strings.Fields(line)[1], 10, 64)
			return kilobytes * 1024
		}
	}
	return 0
}

func memory() int64 { return statusBytes("VmRSS") + statusBytes("VmPTE") }

func mapLines() int64 {
	text, _ := os.ReadFile(mapsIn)
	return int64(bytes.Count(text, []byte("\n")))
}

func result(metric, unit string, value float64, checksum uint64, operations int64) {
	fmt.Printf(`{"workload":"%s","runtime":"go","metric":"%s","value":%.4f,"unit":"%s","checksum":%d,`+
		`"operations":%d,"wall_ns":%d,"cpu_ns":%d,"peak_rss_bytes":%d}`+"\n",
		workload, metric, value, unit, checksum, operations, wallNs, cpuNs, statusBytes("VmHWM"))
}

func resultNs(checksum uint64, operations int64) {
	result("time", "ns", float64(wallNs)/float64(operations), checksum, operations)
}

func fail(format string, a ...interface{}) {
	text := strings.Map(func(r rune) rune {
		if r == '"' || r == '\\' || r < ' ' {
			return '\''
		}
		return r
	}, fmt.Sprintf(format, a...))
	fmt.Printf(`{"error":"%s"}`+"\n", text)
	os.Exit(1)
}

// serveUntilEOF ends the process as soon as stdin is closed; last words are written by then.
func serveUntilEOF(port int, lastWords func()) {
	start()
	fmt.Printf(`{"port":%d}`+"\n", port)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		stop()
		lastWords()
		result("server", "s", float64(wallNs)/1e9, 0, 0)
		os.Exit(0)
	}()
}

// histogram has buckets whose width is 1/64 of their value.
type histogram [64 * 40]uint64

func (h *histogram) add(ns int64) {
	v, b := uint64(ns), 0
	if v < 128 {
		b = int(v)
	} else {
		shift := 57 - bits.LeadingZeros64(v)
		b = shift*64 + int(v>>shift)
	}
	atomic.AddUint64(&h[b], 1)
}

func (h *histogram) count() (count uint64) {
	for _, n := range h {
		count += n
	}
	return
}

// at: 0.5 is the median, 1 the greatest.
func (h *histogram) at(share float64) int64 {
	var seen uint64
	count := h.count()
	wanted := uint64(share * float64(count))
	if wanted >= count {
		wanted = count - 1
	}
	for b, n := range h {
		seen += n
		if seen > wanted {
			if b < 128 {
				return int64(b)
			}
			shift := b/64 - 1
			return int64(64+b%64)<<shift + int64(1)<<shift/2
		}
	}
	return 0
}

func main() {
	table := map[string]func(){
		"yield": runYield, "spawn-join": runSpawnJoin, "spawn-all": runSpawnAll, "skynet": runSkynet, "fib": runFib,
		"channel": runChannel, "mutex": runMutex, "parked": runParked, "timers": runTimers, "echo": runEcho,
		"tree": runTree, "fairness": runFairness, "wake": runWake,
		"start": func() {},
	}
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: bench-go workload [name=value ...]")
		os.Exit(64)
	}
	workload = os.Args[1]
	run, known := table[workload]
	if !known {
		fail("go has no workload '%s'", workload)
	}
	// A fifth faster where goroutines are made, and no larger: their stacks, not the heap, are what takes memory.
	debug.SetGCPercent(400)
	runtime.GOMAXPROCS(int(param("workers", 1)))
	run()
}
