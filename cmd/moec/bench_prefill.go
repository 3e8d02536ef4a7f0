package main

import (
	"cmp"
	"context"
	"time"

	"moec/runtime/kv"
	"moec/runtime/step"
)

// prefillRow is what prompts of one length gave. Times are in milliseconds, of
// all steps of a prompt.
type prefillRow struct {
	Prompt   int       `json:"prefill"`
	Chunks   int       `json:"chunks"` // steps of a prompt
	Time     quantiles `json:"prompt_ms"`
	Device   quantiles `json:"device_ms"`
	Launches int       `json:"launches"`

	Predicted float64 `json:"predicted_ms"` // by the plan's machine description
}

// prefills measures prompts of one sequence, in chunks of at most a step's
// tokens.
func (b *bench) prefills(ctx context.Context) error {
	for i, n := range b.flags.prefill {
		if i == 0 && !b.json {
			if err := b.printf("%7s %6s %26s %26s %8s %9s %7s\n", "prefill", "chunks", "ms: p10 median p90", "on the device", "launches", "predicted", "off by"); err != nil {
				return err
			}
		}
		row, err := b.prefillOf(ctx, n)
		if err != nil {
			return err
		}
		if b.json {
			err = b.printJSON(row)
		} else {
			err = b.printf("%7d %6d %8.2f %8.2f %8.2f %8.2f %8.2f %8.2f %8d %9.2f %+6.1f%%\n", row.Prompt, row.Chunks, row.Time.P10, row.Time.Median, row.Time.P90,
				row.Device.P10, row.Device.Median, row.Device.P90, row.Launches, row.Predicted, 100*(row.Predicted/row.Device.Median-1))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) prefillOf(ctx context.Context, n int) (prefillRow, error) {
	row := prefillRow{Prompt: n}
	ids := madeUp(n, b.plan.Model.Vocab)
	var host, device []float64
	for i := range benchWarmup + b.flags.steps {
		begin := time.Now()
		row.Chunks, row.Launches = 0, 0
		onDevice := time.Duration(0)
		for at := 0; at < n; at += b.plan.Limits.Tokens {
			from := time.Now()
			if _, err := b.program.Step(ctx, b.chunk(ids, at)); err != nil {
				return row, err
			}
			took := time.Since(from)
			m, err := b.program.Measure()
			if err != nil {
				return row, err
			}
			onDevice += cmp.Or(m.Last, took) // seen from the host, if the device did not take it
			row.Launches += m.Launches
			row.Chunks++
		}
		if i >= benchWarmup {
			host, device = append(host, time.Since(begin).Seconds()*1e3), append(device, onDevice.Seconds()*1e3)
		}
	}
	row.Time, row.Device = quantilesOf(host), quantilesOf(device)
	for at := 0; at < n; at += b.plan.Limits.Tokens {
		tokens := min(n-at, b.plan.Limits.Tokens)
		ms, err := b.predicted(1, tokens, at+(tokens+1)/2, 0) // a token sees the half of its chunk
		if err != nil {
			return row, err
		}
		row.Predicted += ms
	}
	return row, nil
}

// chunk is the step that works on a prompt's tokens from one on.
func (b *bench) chunk(ids []int, at int) *step.Step {
	g := step.Group{Pages: make([][]int32, b.plan.Limits.Sequences)}
	for i := range kv.For(len(ids), b.plan.Limits.Page) {
		g.Pages[0] = append(g.Pages[0], int32(i))
	}
	for i := at; i < min(len(ids), at+b.plan.Limits.Tokens); i++ {
		g.Tokens, g.Positions, g.Sequences = append(g.Tokens, int32(ids[i])), append(g.Positions, int32(i)), append(g.Sequences, 0)
	}
	g.Rows = []int32{int32(len(g.Tokens) - 1)}
	return &step.Step{Groups: []step.Group{g}, Prompt: true}
}

// checkPrefill compares prompts with what the plan has room for.
func (f *benchFlags) checkPrefill() error {
	for _, n := range f.prefill {
		if n < 1 {
			return failf(exitUsage, "bench: --prefill: need prompts of at least 1 token, have %d", n)
		}
	}
	return nil
}
