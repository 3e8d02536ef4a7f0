package host

import (
	"runtime"
	"sync"
)

// parallel calls f on pieces of [0, n) from several goroutines, none smaller
// than grain unless it is the last. Results must not depend on the cut.
func parallel(n, grain int, f func(lo, hi int)) {
	workers := runtime.GOMAXPROCS(0)
	pieces := min(workers*2, (n+grain-1)/max(grain, 1))
	if pieces <= 1 || workers == 1 {
		if n > 0 {
			f(0, n)
		}
		return
	}
	var wg sync.WaitGroup
	for i := range pieces {
		lo, hi := i*n/pieces, (i+1)*n/pieces
		wg.Go(func() { f(lo, hi) })
	}
	wg.Wait()
}
