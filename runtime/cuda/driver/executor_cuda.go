//go:build cuda && cgo

package driver

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
)

// executor runs functions on one operating-system thread, because the driver
// keeps the current context per thread.
type executor struct {
	number int // marks the thread
	jobs   chan job
	quit   chan struct{} // closed to end the thread
	gone   chan struct{} // closed when the thread has ended
	stop   sync.Once
}

type job struct {
	f    func() error
	done chan error
}

var (
	errClosed  = errors.New("the device is closed")
	errAborted = errors.New("internal error: a function given to Do ended its goroutine")
)

// executors counts the executors of the process, to number their threads.
var executors atomic.Int32

// startExecutor starts a thread and runs its first function on it.
func startExecutor(first func() error) (*executor, error) {
	e := &executor{
		number: int(executors.Add(1)),
		jobs:   make(chan job),
		quit:   make(chan struct{}),
		gone:   make(chan struct{}),
	}
	go e.run()
	if err := e.do(first); err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

func (e *executor) run() {
	// The goroutine ends locked, which ends the thread: no other goroutine ever
	// meets its context.
	runtime.LockOSThread()
	defer close(e.gone)
	markThread(e.number)
	for {
		select {
		case j := <-e.jobs:
			j.run()
		case <-e.quit:
			return
		}
	}
}

// run answers the caller even when the function calls runtime.Goexit, as
// testing's FailNow does.
func (j job) run() {
	err := errAborted
	defer func() { j.done <- err }()
	err = j.f()
}

// here tells whether the caller runs on the executor's thread.
func (e *executor) here() bool { return onThread(e.number) }

// do runs a function on the thread: directly when called from there.
func (e *executor) do(f func() error) error {
	if e.here() {
		return f()
	}
	done := make(chan error, 1)
	select {
	case e.jobs <- job{f, done}:
	case <-e.gone:
		return errClosed
	}
	return <-done
}

// close ends the thread after the running function.
func (e *executor) close() {
	e.stop.Do(func() { close(e.quit) })
	if !e.here() {
		<-e.gone
	}
}
