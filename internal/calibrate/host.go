package calibrate

import (
	"runtime"
	"sync"
	"time"

	"moec/ir/arith"
)

// What is measured of a processor: long enough to be told from the clock, and
// with more memory than its caches have.
const (
	passes   = 3
	streamed = 1 << 30   // bytes of all cores, at most 64 MiB of each
	dotted   = 1 << 10   // elements of a row: two rows stay in the first cache
	dots     = 100 << 10 // products of two rows
)

// perCore is how many bytes each core reads.
func perCore() int { return min(64<<20, streamed/runtime.GOMAXPROCS(0)) }

// best runs work on all cores at once, several times, and returns the seconds
// of the fastest time.
func best(work func(core int)) float64 {
	fastest := time.Duration(1 << 62)
	for range passes {
		begin := time.Now()
		var wg sync.WaitGroup
		for core := range runtime.GOMAXPROCS(0) {
			wg.Go(func() { work(core) })
		}
		wg.Wait()
		fastest = min(fastest, max(1, time.Since(begin)))
	}
	return fastest.Seconds()
}

// buffers makes one for each core.
func buffers() [][]uint64 {
	list := make([][]uint64, runtime.GOMAXPROCS(0))
	for i := range list {
		list[i] = make([]uint64, perCore()/8)
		for j := range list[i] {
			list[i][j] = uint64(j) // a page that was never written is not memory yet
		}
	}
	return list
}

// readStream returns the bytes a second that all cores read together.
func readStream() float64 {
	from := buffers()
	sums := make([]uint64, len(from))
	seconds := best(func(core int) {
		var a, b, c, d uint64
		for list := from[core]; len(list) >= 8; list = list[8:] {
			a += list[0] + list[4]
			b += list[1] + list[5]
			c += list[2] + list[6]
			d += list[3] + list[7]
		}
		sums[core] = a + b + c + d
	})
	runtime.KeepAlive(sums)
	return float64(len(from)*perCore()) / seconds
}

// copies returns the bytes a second that all cores copy together.
func copies() float64 {
	from, to := buffers(), buffers()
	seconds := best(func(core int) { copy(to[core], from[core]) })
	return float64(len(from)*perCore()) / seconds
}

// productRate returns the operations a second of products in f32 with the
// arithmetic that the CPU backend has.
func productRate() float64 {
	cores := runtime.GOMAXPROCS(0)
	sums := make([]float32, cores)
	x := make([]float32, dotted)
	for i := range x {
		x[i] = 1 / float32(i+1)
	}
	seconds := best(func(core int) {
		var sum float32
		for range dots {
			sum += arith.Dot(x, x)
		}
		sums[core] = sum
	})
	runtime.KeepAlive(sums)
	return float64(cores) * 2 * dotted * dots / seconds
}
