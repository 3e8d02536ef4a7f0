package cuda

import (
	"errors"
	"sync"
)

// errStopped is what devices get that wait for one that failed.
var errStopped = errors.New("another device stopped")

// meeting lets the host threads of a collective's devices wait for each other,
// again and again. At a stopped one nobody waits.
type meeting struct {
	members int

	mu      sync.Mutex
	waiting int
	next    chan struct{} // closed when all members have come
	stopped chan struct{}
	once    sync.Once
}

func newMeeting(members int) *meeting {
	return &meeting{members: members, next: make(chan struct{}), stopped: make(chan struct{})}
}

// wait returns when all members have called it.
func (m *meeting) wait() error {
	m.mu.Lock()
	next := m.next
	m.waiting++
	if m.waiting == m.members {
		m.waiting = 0
		m.next = make(chan struct{})
		close(next)
	}
	m.mu.Unlock()
	select {
	case <-next:
		return nil
	case <-m.stopped:
	}
	select {
	case <-next:
		return nil
	default:
		return errStopped
	}
}

// stop lets everybody go.
func (m *meeting) stop() { m.once.Do(func() { close(m.stopped) }) }
