package checkpoint

import (
	"fmt"
	"io"
	"sync"
)

// ReadAt fills dst with the bytes of a tensor that begin at offset off.
func (c *Checkpoint) ReadAt(name string, dst []byte, off int64) error {
	t, err := c.find(name)
	if err != nil {
		return err
	}
	if off < 0 || int64(len(dst)) > t.Bytes() || off > t.Bytes()-int64(len(dst)) {
		return c.misread(t, fmt.Sprintf("%s at offset %s of tensor %q are beyond its %s", bytesOf(len(dst)), digits(off), name, bytesOf(t.Bytes())))
	}
	return c.read(t, func(r io.ReaderAt) error {
		return readFull(r, dst, t.Begin+off)
	})
}

// ReadSlice fills dst with a box of a tensor, elements begin[i] to end[i] along
// axis i, packed row by row.
func (c *Checkpoint) ReadSlice(name string, begin, end []int64, dst []byte) error {
	t, err := c.find(name)
	if err != nil {
		return err
	}
	bits, _ := Bits(t.DType)
	if bits%8 != 0 {
		return c.misread(t, fmt.Sprintf("tensor %q has elements of %d bits, which have no addresses: only all of it can be read", name, bits))
	}
	if len(begin) != len(t.Shape) || len(end) != len(t.Shape) {
		return c.misread(t, fmt.Sprintf("tensor %q has shape %s: box from %s to %s has another rank", name, shapeText(t.Shape), shapeText(begin), shapeText(end)))
	}
	size := bits / 8
	for i, d := range t.Shape {
		if begin[i] < 0 || begin[i] > end[i] || end[i] > d {
			return c.misread(t, fmt.Sprintf("tensor %q has shape %s: box from %s to %s is not inside", name, shapeText(t.Shape), shapeText(begin), shapeText(end)))
		}
		size *= end[i] - begin[i]
	}
	if size != int64(len(dst)) {
		e := c.misread(t, fmt.Sprintf("box from %s to %s of tensor %q does not fit the buffer", shapeText(begin), shapeText(end), name))
		e.Need, e.Have = bytesOf(size), bytesOf(len(dst))
		return e
	}
	if size == 0 {
		return nil
	}
	b := newBox(t.Info, bits/8, begin, end)
	return c.read(t, func(r io.ReaderAt) error { return b.read(r, dst) })
}

// find returns a tensor that is asked for.
func (c *Checkpoint) find(name string) (tensor, error) {
	t, ok := c.tensors[name]
	if !ok {
		return t, &Error{File: c.dir.path, What: fmt.Sprintf("there is no tensor %q", name), Remedy: "check that the description fits the checkpoint"}
	}
	return t, nil
}

// misread says that what is asked for does not fit a tensor.
func (c *Checkpoint) misread(t tensor, what string) *Error {
	return &Error{File: c.dir.full(t.File), What: what, Remedy: "check that the description fits the checkpoint"}
}

// read runs a function on a tensor's file and checks that the file is still
// the one whose header was read.
func (c *Checkpoint) read(t tensor, do func(io.ReaderAt) error) error {
	f, err := c.pool.acquire(t.shard)
	if err != nil {
		return err
	}
	defer c.pool.release(t.shard)
	err = do(f)
	if changed := c.pool.unchanged(t.shard); changed != nil {
		return changed
	}
	if err != nil {
		return &Error{File: c.dir.full(t.File), What: fmt.Sprintf("tensor %q cannot be read: %s", t.Name, reason(err)), Remedy: remedyDisk, Err: err}
	}
	return nil
}

// readFull fills dst from an offset; a file that ends early is an error.
func readFull(r io.ReaderAt, dst []byte, off int64) error {
	n, err := r.ReadAt(dst, off)
	if n == len(dst) {
		return nil
	}
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// How runs of bytes are read together.
const (
	// chunk is the memory, in bytes, through which short runs are read.
	chunk = 1 << 20
	// maxGap is how many unwanted bytes between two runs are read along with
	// them: a read costs about as much as copying this many bytes.
	maxGap = 8 << 10
	// maxRuns bounds the list of runs that are read together.
	maxRuns = 1 << 12
)

var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}

// box is a box of a stored array as runs of consecutive bytes: the innermost
// axes that are wanted whole are one run with the axis outside them, and the
// axes further out are counted through.
type box struct {
	first  int64   // offset of the first run in the file
	run    int64   // bytes
	counts []int64 // runs along each outer axis, outermost first
	steps  []int64 // bytes between neighbours along each outer axis
}

func newBox(t Info, size int64, begin, end []int64) box {
	b := box{first: t.Begin, run: size}
	stride := size // bytes between neighbours along the axis
	whole := true  // all axes further in are wanted whole
	for i := len(t.Shape) - 1; i >= 0; i-- {
		n := end[i] - begin[i]
		b.first += begin[i] * stride
		switch {
		case whole:
			b.run = n * stride
			whole = n == t.Shape[i]
		case n > 1:
			b.counts = append([]int64{n}, b.counts...)
			b.steps = append([]int64{stride}, b.steps...)
		}
		stride *= t.Shape[i]
	}
	return b
}

// read fills dst with the box's runs. Runs that lie close are read together,
// long or lonely ones directly to their place.
func (b box) read(r io.ReaderAt, dst []byte) error {
	g := gather{r: r, run: b.run, dst: dst}
	defer g.release()
	index := make([]int64, len(b.counts))
	for at := b.first; ; {
		if err := g.add(at); err != nil {
			return err
		}
		i := len(index) - 1
		for ; i >= 0; i-- {
			at += b.steps[i]
			if index[i]++; index[i] < b.counts[i] {
				break
			}
			at -= b.steps[i] * index[i]
			index[i] = 0
		}
		if i < 0 {
			return g.flush()
		}
	}
}

// gather reads runs in order of their offsets and packs them into dst.
type gather struct {
	r     io.ReaderAt
	run   int64   // bytes of each run
	dst   []byte  // what is still to be filled
	batch []int64 // offsets of runs to be read together
	buf   *[chunk]byte
}

// add puts a run into the batch, and reads the batch first if it does not fit.
func (g *gather) add(at int64) error {
	if n := len(g.batch); n > 0 {
		gap := at - (g.batch[n-1] + g.run)
		if n == maxRuns || gap > maxGap || at+g.run-g.batch[0] > chunk {
			if err := g.flush(); err != nil {
				return err
			}
		}
	}
	g.batch = append(g.batch, at)
	return nil
}

// flush reads the batch, of at least one run.
func (g *gather) flush() error {
	first, n := g.batch[0], int64(len(g.batch))
	dst := g.dst[:n*g.run]
	if n == 1 {
		if err := readFull(g.r, dst, first); err != nil {
			return err
		}
	} else {
		if g.buf == nil {
			g.buf = chunks.Get().(*[chunk]byte)
		}
		span := g.batch[n-1] + g.run - first
		if err := readFull(g.r, g.buf[:span], first); err != nil {
			return err
		}
		for i, at := range g.batch {
			copy(dst[int64(i)*g.run:][:g.run], g.buf[at-first:])
		}
	}
	g.dst, g.batch = g.dst[len(dst):], g.batch[:0]
	return nil
}

func (g *gather) release() {
	if g.buf != nil {
		chunks.Put(g.buf)
	}
}
