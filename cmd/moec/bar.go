package main

import (
	"io"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// bar shows how far long work has come, on a terminal only.
type bar struct {
	group *mpb.Progress
	bar   *mpb.Bar
}

func newBar(w io.Writer, what string, total int64) *bar {
	if !terminal(w) {
		return &bar{}
	}
	p := mpb.New(mpb.WithOutput(w), mpb.WithWidth(48))
	return &bar{p, p.AddBar(total, mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(what+" "), decor.Counters(decor.SizeB1000(0), "% .1f of % .1f")),
		mpb.AppendDecorators(decor.AverageSpeed(decor.SizeB1000(0), "% .1f")))}
}

// newCountBar counts things.
func newCountBar(w io.Writer, what string, total int) *bar {
	if !terminal(w) {
		return &bar{}
	}
	p := mpb.New(mpb.WithOutput(w), mpb.WithWidth(48))
	return &bar{p, p.AddBar(int64(total), mpb.BarRemoveOnComplete(), mpb.PrependDecorators(decor.Name(what+" "), decor.CountersNoUnit("%d of %d")))}
}

func (b *bar) add(n int64) {
	if b != nil && b.bar != nil {
		b.bar.IncrInt64(n)
	}
}

// end removes the bar, if there is one, whether or not it is full.
func (b *bar) end() {
	if b != nil && b.bar != nil {
		b.bar.Abort(true)
		b.group.Wait()
		b.bar = nil
	}
}
