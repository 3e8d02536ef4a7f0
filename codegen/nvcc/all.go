package nvcc

import (
	"context"
	"sync"
)

// Progress tells how far CompileAll is.
type Progress struct {
	Done, Total int
	Last        string // name of the request that was finished last
	Cached      bool   // whether that one came from the cache
}

// CompileAll compiles requests, several at a time, and returns their results
// in the requests' order. The first error stops the rest and is returned; of
// several at once, the one of the earliest request. The report function may be
// nil; it is called from one goroutine at a time.
func (c *Compiler) CompileAll(ctx context.Context, reqs []Request, workers int, report func(Progress)) ([]Result, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var (
		results = make([]Result, len(reqs))
		errs    = make([]error, len(reqs))
		next    = make(chan int)
		mu      sync.Mutex // guards done and calls of report
		done    int
		running sync.WaitGroup
	)
	for range max(1, min(workers, len(reqs))) {
		running.Go(func() {
			for i := range next {
				results[i], errs[i] = c.Compile(ctx, reqs[i])
				if errs[i] != nil {
					stop()
					continue
				}
				mu.Lock()
				done++
				if report != nil {
					report(Progress{done, len(reqs), reqs[i].Name, results[i].Cached})
				}
				mu.Unlock()
			}
		})
	}
	feedIndices(ctx, next, len(reqs))
	running.Wait()
	return results, firstCause(ctx, errs)
}

// feedIndices sends 0 to n-1 until the context ends, then closes the channel.
func feedIndices(ctx context.Context, next chan<- int, n int) {
	defer close(next)
	for i := range n {
		select {
		case next <- i:
		case <-ctx.Done():
			return
		}
	}
}

// firstCause returns the first error that is not merely the echo of another
// one's cancellation.
func firstCause(ctx context.Context, errs []error) error {
	for _, err := range errs {
		if err != nil && err != context.Canceled {
			return err
		}
	}
	return context.Cause(ctx)
}
