package main

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"syscall"
)

// ---- echo ----

func serve(c net.Conn) {
	buffer := make([]byte, 4096)
	for {
		n, err := c.Read(buffer)
		if err != nil {
			break
		}
		if _, err = c.Write(buffer[:n]); err != nil {
			break
		}
	}
	c.Close()
}

func runEcho() {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		fail("listen: %v", err)
	}
	serveUntilEOF(listener.Addr().(*net.TCPAddr).Port, func() {})
	for {
		c, err := listener.Accept()
		if err != nil {
			fail("accept: %v", err)
		}
		go serve(c)
	}
}

// ---- wake-ups ----

// A pipe that does not block: so it is the runtime's poller that waits for it, not a thread.
func runWake() {
	var ends [2]int
	if err := syscall.Pipe2(ends[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		fail("no pipe: %v", err)
	}
	pipe := os.NewFile(uintptr(ends[0]), "pipe")
	var late histogram
	serveUntilEOF(ends[0], func() {
		count := late.count()
		result("p50", "us", float64(late.at(0.50))/1e3, count, int64(count))
		result("p99", "us", float64(late.at(0.99))/1e3, count, int64(count))
	})
	var stamp [8]byte
	for {
		if _, err := io.ReadFull(pipe, stamp[:]); err != nil {
			fail("the pipe cannot be read: %v", err)
		}
		if sent := int64(binary.LittleEndian.Uint64(stamp[:])); sent > 0 {
			late.add(monotonic() - sent)
		}
	}
}
