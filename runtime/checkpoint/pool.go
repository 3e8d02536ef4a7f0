package checkpoint

import (
	"errors"
	"io/fs"
	"os"
	"sync"
)

// maxOpen is how many shards are kept open. More are open only while more
// goroutines read from different ones; large checkpoints have more shards than
// some systems allow open files (256).
const maxOpen = 32

// pool keeps the shards used last open.
type pool struct {
	dir    *directory
	mu     sync.Mutex
	open   []*shard
	clock  uint64
	closed bool
}

// add takes over a shard that is open and idle.
func (p *pool) add(s *shard) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.enter(s)
}

// enter makes room for s and lists it as open.
func (p *pool) enter(s *shard) {
	if len(p.open) >= maxOpen {
		oldest := -1
		for i, o := range p.open {
			if o.used == 0 && (oldest < 0 || o.last < p.open[oldest].last) {
				oldest = i
			}
		}
		if oldest >= 0 {
			p.leave(oldest)
		}
	}
	p.clock++
	s.last = p.clock
	p.open = append(p.open, s)
}

// leave closes the i-th open shard.
func (p *pool) leave(i int) {
	p.open[i].file.Close()
	p.open[i].file = nil
	p.open[i] = p.open[len(p.open)-1]
	p.open = p.open[:len(p.open)-1]
}

// acquire returns the open file of a shard; release must follow.
func (p *pool) acquire(s *shard) (*os.File, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, &Error{File: p.dir.full(s.name), What: "the checkpoint is closed", Err: fs.ErrClosed}
	}
	if s.file == nil {
		f, _, err := p.dir.open(s.name)
		if err != nil && missing(err) {
			return nil, changed(p.dir.full(s.name), "it was removed")
		} else if err != nil {
			return nil, err
		}
		s.file = f
		p.enter(s)
	}
	s.used++
	p.clock++
	s.last = p.clock
	return s.file, nil
}

// release ends the use of a shard's file.
func (p *pool) release(s *shard) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.used--
	if !p.closed && len(p.open) <= maxOpen || s.used > 0 {
		return
	}
	for i, o := range p.open {
		if o == s {
			p.leave(i)
			return
		}
	}
}

// close closes idle files; the others follow when their readers are done.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for i := len(p.open) - 1; i >= 0; i-- {
		if p.open[i].used == 0 {
			p.leave(i)
		}
	}
}

// unchanged checks that a shard, which must be in use or not yet shared, is
// still the file whose header was read: in the directory, and with the size
// and time of change that it had. Data read before the check is then sound.
func (p *pool) unchanged(s *shard) error {
	path := p.dir.full(s.name)
	now, err := s.file.Stat()
	if err != nil {
		return &Error{File: path, What: "cannot be read: " + reason(err), Remedy: remedyDisk, Err: err}
	}
	if !os.SameFile(s.info, now) {
		return changed(path, "another file has its name")
	}
	if now.Size() != s.info.Size() {
		return changed(path, "it had "+bytesOf(s.info.Size())+" and has "+bytesOf(now.Size()))
	}
	if !now.ModTime().Equal(s.info.ModTime()) {
		return changed(path, "it was written to")
	}
	named, err := p.dir.stat(s.name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return changed(path, "it was removed")
	case err != nil:
		return err
	case !os.SameFile(s.info, named):
		return changed(path, "another file has its name")
	}
	return nil
}
