package host

import (
	"errors"
	"sync"
)

// errStopped is what devices get that wait for one that failed.
var errStopped = errors.New("another device stopped")

// barrier lets the devices of a collective wait for each other, again and
// again. A stopped one lets nobody wait.
type barrier struct {
	mu      sync.Mutex
	cond    *sync.Cond
	members int
	waiting int
	turn    int
	stopped bool
}

func newBarrier(members int) *barrier {
	b := &barrier{members: members}
	b.cond = sync.NewCond(&b.mu)
	return b
}

// wait returns when all members have called it.
func (b *barrier) wait() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	turn := b.turn
	b.waiting++
	if b.waiting == b.members {
		b.waiting = 0
		b.turn++
		b.cond.Broadcast()
		return nil
	}
	for turn == b.turn && !b.stopped {
		b.cond.Wait()
	}
	if turn == b.turn {
		return errStopped
	}
	return nil
}

// stop wakes everybody up.
func (b *barrier) stop() {
	b.mu.Lock()
	b.stopped = true
	b.cond.Broadcast()
	b.mu.Unlock()
}
