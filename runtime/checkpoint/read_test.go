package checkpoint

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// counting counts reads and the bytes they ask for.
type counting struct {
	io.ReaderAt
	reads, bytes int
}

func (c *counting) ReadAt(p []byte, off int64) (int, error) {
	c.reads++
	c.bytes += len(p)
	return c.ReaderAt.ReadAt(p, off)
}

// pick is ReadSlice by definition: element by element.
func pick(data []byte, shape, begin, end []int64, size int64) []byte {
	out := []byte{}
	index := append([]int64(nil), begin...)
	for i := range shape {
		if begin[i] == end[i] {
			return out
		}
	}
	for {
		at := int64(0)
		for i, d := range shape {
			at = at*d + index[i]
		}
		out = append(out, data[at*size:(at+1)*size]...)
		i := len(shape) - 1
		for ; i >= 0; i-- {
			if index[i]++; index[i] < end[i] {
				break
			}
			index[i] = begin[i]
		}
		if i < 0 {
			return out
		}
	}
}

func noise(r *rand.Rand, n int64) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return data
}

// TestReadSlice compares random boxes of random shapes with the definition.
func TestReadSlice(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var tensors []Tensor
	for i := range 60 {
		rank := r.IntN(5)
		shape := make([]int64, rank)
		elements := int64(1)
		for a := range shape {
			if shape[a] = int64(r.IntN(9)); r.IntN(12) > 0 {
				shape[a]++
			}
			elements *= shape[a]
		}
		row := dtypes[r.IntN(13)]
		tensors = append(tensors, Tensor{fmt.Sprint("t", i), row.name, shape, noise(r, elements*row.bits/8)})
	}
	// Rows so long that runs lie far apart, and so many that batches fill up.
	tensors = append(tensors, Tensor{"long", "U8", []int64{5, 40_000}, noise(r, 200_000)}, Tensor{"many", "U8", []int64{9_000, 3}, noise(r, 27_000)},
		Tensor{"huge", "U8", []int64{3, 1 << 20}, noise(r, 3<<20)})
	ckpt, err := Open(single(t).with(singleName, encoded(t, tensors...)).write(t))
	if err != nil {
		t.Fatal(err)
	}
	defer ckpt.Close()
	for _, tensor := range tensors {
		bits, _ := Bits(tensor.DType)
		for range 20 {
			begin, end := make([]int64, len(tensor.Shape)), make([]int64, len(tensor.Shape))
			for i, d := range tensor.Shape {
				if end[i] = d; r.IntN(3) > 0 {
					begin[i] = r.Int64N(d + 1)
					end[i] = begin[i] + r.Int64N(d+1-begin[i])
				}
			}
			want := pick(tensor.Data, tensor.Shape, begin, end, bits/8)
			got := make([]byte, len(want))
			if err := ckpt.ReadSlice(tensor.Name, begin, end, got); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("%s %s %v: box %v to %v is wrong", tensor.Name, tensor.DType, tensor.Shape, begin, end)
			}
		}
	}
}

// TestReads checks how many reads, and of how many bytes, a box takes.
func TestReads(t *testing.T) {
	for _, c := range []struct {
		name              string
		shape, begin, end []int64
		reads, bytes      int
	}{
		{"all", []int64{100, 100, 100}, []int64{0, 0, 0}, []int64{100, 100, 100}, 1, 1_000_000},
		{"some rows", []int64{100, 100, 100}, []int64{10, 0, 0}, []int64{20, 100, 100}, 1, 100_000},
		{"one matrix, some rows", []int64{100, 100, 100}, []int64{10, 5, 0}, []int64{11, 10, 100}, 1, 500},
		{"one element", []int64{100, 100, 100}, []int64{99, 99, 99}, []int64{100, 100, 100}, 1, 1},
		{"half of short rows", []int64{100, 100}, []int64{0, 50}, []int64{100, 100}, 1, 99*100 + 50},
		{"a column of long rows", []int64{10, 100_000}, []int64{0, 7}, []int64{10, 8}, 10, 10},
		{"half of long rows", []int64{10, 100_000}, []int64{0, 0}, []int64{10, 50_000}, 10, 500_000},
		{"more than a chunk of near rows", []int64{300, 10_000}, []int64{0, 0}, []int64{300, 5_000}, 3, 300*10_000 - 3*5_000},
		{"more rows than a batch", []int64{2 * maxRuns, 2}, []int64{0, 0}, []int64{2 * maxRuns, 1}, 2, 4*maxRuns - 2},
		{"one row of each matrix", []int64{4, 100_000, 2}, []int64{0, 3, 0}, []int64{4, 4, 2}, 4, 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			elements, wanted := int64(1), int64(1)
			for i, d := range c.shape {
				elements *= d
				wanted *= c.end[i] - c.begin[i]
			}
			r := &counting{ReaderAt: bytes.NewReader(make([]byte, elements))}
			b := newBox(Info{Shape: c.shape, End: elements}, 1, c.begin, c.end)
			if err := b.read(r, make([]byte, wanted)); err != nil {
				t.Fatal(err)
			}
			if r.reads != c.reads || r.bytes != c.bytes {
				t.Errorf("%d reads of %d bytes, want %d of %d", r.reads, r.bytes, c.reads, c.bytes)
			}
		})
	}
}

// TestReadSliceMemory checks that a large box of short rows takes no more
// memory than a chunk.
func TestReadSliceMemory(t *testing.T) {
	const rows = 1 << 14
	r := bytes.NewReader(make([]byte, rows<<10))
	b := newBox(Info{Shape: []int64{rows, 1 << 10}, End: rows << 10}, 1, []int64{0, 0}, []int64{rows, 512})
	dst := make([]byte, rows*512)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := b.read(r, dst); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > chunk+1<<18 {
		t.Errorf("%d bytes allocated for a box of 8 MiB", got)
	}
}

func TestReadFaults(t *testing.T) {
	ckpt, err := Open(single(t).with(singleName, encoded(t, Tensor{"t", "F32", []int64{2, 3}, make([]byte, 24)}, Tensor{"f4", "F4", []int64{4}, make([]byte, 2)})).write(t))
	if err != nil {
		t.Fatal(err)
	}
	box := func(b0, b1, e0, e1 int64, n int) error {
		return ckpt.ReadSlice("t", []int64{b0, b1}, []int64{e0, e1}, make([]byte, n))
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{ckpt.ReadAt("none", nil, 0), `there is no tensor "none"`},
		{ckpt.ReadSlice("none", nil, nil, nil), `there is no tensor "none"`},
		{ckpt.ReadAt("t", make([]byte, 25), 0), `25 bytes at offset 0 of tensor "t" are beyond its 24 bytes`},
		{ckpt.ReadAt("t", make([]byte, 4), 21), "beyond its 24 bytes"},
		{ckpt.ReadAt("t", make([]byte, 4), -1), "beyond its 24 bytes"},
		{ckpt.ReadAt("t", make([]byte, 4), 1<<63-1), "beyond its 24 bytes"},
		{ckpt.ReadSlice("t", []int64{0}, []int64{2}, make([]byte, 24)), "shape [2,3]: box from [0] to [2] has another rank"},
		{box(0, 0, 3, 3, 36), "box from [0,0] to [3,3] is not inside"},
		{box(-1, 0, 1, 3, 24), "is not inside"},
		{box(1, 0, 0, 3, 0), "is not inside"},
		{box(0, 0, 2, 3, 23), `does not fit the buffer: need 24 bytes, have 23 bytes`},
		{ckpt.ReadSlice("f4", []int64{0}, []int64{4}, make([]byte, 2)), "elements of 4 bits"},
		{ckpt.ReadAt("f4", make([]byte, 2), 0), ""},
		{box(0, 0, 0, 3, 0), ""},
	} {
		if c.want != "" {
			wantError(t, c.err, c.want)
		} else if c.err != nil {
			t.Error(c.err)
		}
	}
	if err := ckpt.Close(); err != nil {
		t.Error(err)
	}
	wantError(t, ckpt.ReadAt("t", make([]byte, 4), 0), "the checkpoint is closed")
}

// TestFailingDisk checks that an error of a read comes back from any batch.
func TestFailingDisk(t *testing.T) {
	const rows, row = 64, 100_000
	file := bytes.NewReader(make([]byte, rows*row))
	for _, width := range []int64{1, 99_000, row} {
		for _, from := range []int64{0, row, (rows - 1) * row} {
			b := newBox(Info{Shape: []int64{rows, row}, End: rows * row}, 1, []int64{0, 0}, []int64{rows, width})
			if err := b.read(failing{file, from}, make([]byte, rows*width)); err == nil {
				t.Errorf("rows of %d bytes, disk that fails from byte %d: no error", width, from)
			}
		}
	}
	if err := readFull(bytes.NewReader(make([]byte, 5)), make([]byte, 6), 0); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short file: error is %v", err)
	}
}

// TestChanged changes a shard between the header and the data (D17).
func TestChanged(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(path string) error
		want   string
	}{
		{"replaced by an equal file", func(path string) error {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if err := os.WriteFile(path+".new", text, 0o644); err != nil {
				return err
			}
			return os.Rename(path+".new", path)
		}, "another file has its name"},
		{"truncated", func(path string) error { return os.Truncate(path, 50) }, " and has 50 bytes"},
		{"made longer", func(path string) error { return os.Truncate(path, 5000) }, " and has 5,000 bytes"},
		{"written to", func(path string) error { return os.Chtimes(path, time.Time{}, time.Unix(1, 0)) }, "it was written to"},
		{"removed", os.Remove, "it was removed"},
		{"replaced by a directory", func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o755)) }, "is a directory"},
	} {
		for _, open := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, open %v", c.name, open), func(t *testing.T) {
				dir := sharded(t).write(t)
				ckpt, err := Open(dir)
				if err != nil {
					t.Fatal(err)
				}
				defer ckpt.Close()
				if !open { // as if more shards had been used since
					for i := len(ckpt.pool.open) - 1; i >= 0; i-- {
						ckpt.pool.leave(i)
					}
				}
				if err := c.change(filepath.Join(dir, shard2)); err != nil {
					t.Fatal(err)
				}
				want := c.want
				if !strings.HasPrefix(want, "is a") {
					want = "changed while loading: "
				}
				wantError(t, ckpt.ReadAt("c", make([]byte, 4), 0), shard2+": "+want, c.want)
				wantError(t, ckpt.ReadSlice("c", []int64{1}, []int64{2}, make([]byte, 1)), c.want)
				if err := ckpt.ReadAt("a", make([]byte, 4), 0); err != nil {
					t.Errorf("the other shard: %v", err)
				}
			})
		}
	}
}

// TestConcurrentReads reads from more shards than stay open, by many
// goroutines, and closes the checkpoint while they are at it.
func TestConcurrentReads(t *testing.T) {
	const shards = maxOpen + 9
	f := files{"config.json": config}
	var pairs []string
	for i := range shards {
		file, name := numbered{"model", i + 1, shards}.String(), fmt.Sprintf("t%02d", i)
		f[file] = encoded(t, Tensor{name, "U8", []int64{64, 64}, bytes.Repeat([]byte{byte(i)}, 64*64)})
		pairs = append(pairs, name, file)
	}
	f[indexName] = indexOf(t, shards*64*64, pairs...)
	ckpt, err := Open(f.write(t))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(ckpt.pool.open); n != maxOpen {
		t.Errorf("%d files are open, want %d", n, maxOpen)
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 0))
			dst := make([]byte, 32*32)
			for range 200 {
				i := r.IntN(shards)
				lo := r.Int64N(32)
				if err := ckpt.ReadSlice(pairs[2*i], []int64{lo, lo}, []int64{lo + 32, lo + 32}, dst); err != nil {
					t.Error(err)
					return
				}
				if !bytes.Equal(dst, bytes.Repeat([]byte{byte(i)}, 32*32)) {
					t.Errorf("tensor %d holds %v", i, dst[:8])
				}
			}
		})
	}
	wg.Wait()
	if n := len(ckpt.pool.open); n > maxOpen {
		t.Errorf("%d files are open, want at most %d", n, maxOpen)
	}
	for _, s := range ckpt.shards { // all in use at once
		if _, err := ckpt.pool.acquire(s); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range ckpt.shards {
		ckpt.pool.release(s)
	}
	if n := len(ckpt.pool.open); n != maxOpen {
		t.Errorf("%d files are open after all were in use, want %d", n, maxOpen)
	}
	for g := range 4 {
		wg.Go(func() {
			for i := range shards {
				if err := ckpt.ReadAt(pairs[2*((i+g)%shards)], make([]byte, 9), 0); err != nil && !strings.Contains(err.Error(), "closed") {
					t.Error(err)
				}
			}
		})
	}
	ckpt.Close()
	wg.Wait()
	if n := len(ckpt.pool.open); n != 0 {
		t.Errorf("%d files are open after Close", n)
	}
}
