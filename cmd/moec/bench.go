package main

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/fnv"
	"math"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"moec/ir/machine"
	"moec/planner/plan"
	"moec/runtime"
	"moec/runtime/cuda"
	"moec/runtime/generate"
	"moec/runtime/kv"
	"moec/runtime/sample"
	"moec/runtime/step"
)

// benchFlags say what is measured.
type benchFlags struct {
	batches []int
	prefill []int
	prompt  int
	steps   int
	compare []string // strategies
}

// benchWarmup are steps of each batch that are not measured: they bring code
// and clocks up.
const benchWarmup = 3

func benchCommand(a *app) *cobra.Command {
	var load loadFlags
	var f benchFlags
	c := &cobra.Command{Use: "bench PLAN|FILE.moe", Short: "measure decode steps and prompts, beside what memory can deliver and what was predicted", Args: cobra.ExactArgs(1),
		Long: `Bench runs made-up prompts and then decode steps that take the most probable
token, for one batch after the other. A line has the time of a step seen from
the host, over all steps, and the tokens a second of all sequences; the median
time of a step on the device and its 10th and 90th percentile; the experts that
worked a layer; the bytes that a step must read (weights of the experts that
worked, all other weights once, keys and values), per second and as percent of a
plain read of memory in the same run; kernel launches a step; and the time on the
device that the plan's machine description predicts, with as many experts.

With --prefill it then measures prompts of one sequence. With --compare it does
all of that for each of several strategies and for what the search chooses, one
after the other, and ends with a table of times beside predictions: how far those
are off, how well they rank the strategies (Kendall's tau, 1 is perfect), how much
slower the search's choice is than the fastest (regret), and whether all chose the
same tokens. On the CPU times are the host's, and nothing is known of memory.`,
		RunE: func(c *cobra.Command, args []string) error { return a.bench(c.Context(), args[0], &load, &f) }}
	load.add(c)
	c.Flags().Lookup("devices").DefValue = "cuda"
	load.devices = "cuda"
	c.Flags().Lookup("sequences").Usage = "sequences at the same time, at least the largest batch (default 8)"
	c.Flags().Lookup("weights").Usage = "`random`: weights drawn at random, as they are without --checkpoint"
	c.Flags().IntSliceVar(&f.batches, "batch", []int{1, 2, 4, 8, 16, 32, 64}, "`BATCHES` to measure: sequences decoded at the same time")
	c.Flags().IntSliceVar(&f.prefill, "prefill", []int{}, "prompts measured, in tokens: a step's at once")
	c.Flags().IntVar(&f.prompt, "prompt-tokens", 128, "positions of each sequence before the first step")
	c.Flags().StringSliceVar(&f.compare, "compare", nil, "`STRATEGIES` to compare with what the search chooses, such as tp4,ep4,tp2ep2")
	c.Flags().IntVar(&f.steps, "steps", 20, "decode steps measured for each batch, 10 or more")
	return c
}

// measured is a program that knows how long its device worked.
type measured interface {
	runtime.Program
	generate.Ahead
	Measure() (cuda.Measure, error)
	ReadStream(ctx context.Context) (float64, error)
}

// bench is the bench command.
func (a *app) bench(ctx context.Context, path string, load *loadFlags, f *benchFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	load.limits.Sequences = max(load.limits.Sequences, slices.Max(f.batches))
	if len(f.compare) > 0 {
		return a.benchCompare(ctx, path, load, f)
	}
	b, err := a.openBench(ctx, path, load, f)
	if err != nil {
		return err
	}
	defer b.close()
	return b.run(ctx)
}

// openBench compiles or reads a plan, and loads it.
func (a *app) openBench(ctx context.Context, path string, load *loadFlags, f *benchFlags) (_ *bench, err error) {
	if load.weights == "" && load.checkpoint == "" {
		load.weights = "random"
	}
	s, err := a.open(ctx, path, load)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err := f.allowed(path, s.plan); err != nil {
		return nil, err
	}
	m, err := a.simMachine(s.plan, "")
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	p, err := a.load(ctx, s, load)
	if err != nil {
		return nil, err
	}
	program, ok := p.(measured)
	if !ok {
		program = unmeasured{p}
	}
	return &bench{app: a, session: s, program: program, plan: s.plan, machine: m, flags: f, loaded: time.Since(begin)}, nil
}

// unmeasured is a program of which only the host's clock is known.
type unmeasured struct{ runtime.Program }

func (unmeasured) Measure() (cuda.Measure, error)              { return cuda.Measure{}, nil }
func (unmeasured) ReadStream(context.Context) (float64, error) { return 0, nil }
func (unmeasured) Continue(context.Context, *step.Step, []sample.Draw, int, func([]int32) bool) (bool, error) {
	return false, nil
}

// close gives back what a run holds.
func (b *bench) close() {
	b.program.Close()
	b.session.close()
}

func (f *benchFlags) check() error {
	if len(f.batches) == 0 || slices.Min(f.batches) < 1 || f.prompt < 1 || f.steps < 10 {
		return failf(exitUsage, "bench: need batches and a prompt of at least 1, and at least 10 steps")
	}
	return f.checkPrefill()
}

// allowed compares what is measured with what a plan has room for.
func (f *benchFlags) allowed(path string, p *plan.Plan) error {
	most, positions, groups := slices.Max(f.batches), max(f.prompt+f.steps+benchWarmup+1, slices.Max(append([]int{0}, f.prefill...))), 1
	if len(p.Placement.Layers) > 0 {
		groups = len(p.Placement.Layers[0].Groups)
	}
	for _, l := range []struct {
		what       string
		need, have int
		remedy     string
	}{
		{"sequences", most, p.Limits.Sequences, "a smaller --batch, or compile with --sequences"},
		{"tokens of a step", most, p.Limits.Tokens, "a smaller --batch, or compile with --tokens"},
		{"positions", positions, p.Limits.Context, "fewer --prompt-tokens or --steps, or compile with --context"},
		{"KV pages", most * kv.For(positions, p.Limits.Page), p.Limits.Pages, "a smaller --batch, or compile with --sequences and --context"},
	} {
		if l.need > l.have {
			return failf(exitUsage, "bench: %s has too few %s: need %d, have %d; use %s", path, l.what, l.need, l.have, l.remedy)
		}
	}
	if groups > 1 {
		return failf(exitUsage, "bench: %s has %d token groups, and one is measured; compile with a --strategy without dp and adp", path, groups)
	}
	return nil
}

// bench is a run of the command.
type bench struct {
	*app
	session *session
	program measured
	plan    *plan.Plan
	machine *machine.Machine
	flags   *benchFlags
	loaded  time.Duration
	stream  float64 // bytes a second
	next    []int32 // token of each sequence
	chosen  hash.Hash64
}

// benchRow is what one batch gave. Times are in milliseconds.
type benchRow struct {
	Batch    int       `json:"batch"`
	Step     float64   `json:"step_ms"` // seen from the host, on average
	Device   quantiles `json:"device_ms"`
	Experts  float64   `json:"experts"` // that worked in a layer, on average
	Bytes    float64   `json:"bytes"`   // that a step must read
	Rate     float64   `json:"bytes_per_second"`
	Percent  float64   `json:"percent_of_stream"`
	Launches int       `json:"launches"`
	Tokens   string    `json:"tokens"` // a hash of those that were chosen
	// Predicted is what the plan's machine description says, with as many
	// experts, in milliseconds.
	Predicted float64 `json:"predicted_ms"`
}

// quantiles of a list of times.
type quantiles struct {
	P10    float64 `json:"p10"`
	Median float64 `json:"median"`
	P90    float64 `json:"p90"`
}

func quantilesOf(list []float64) quantiles {
	slices.Sort(list)
	at := func(q float64) float64 { return list[int(q*float64(len(list)-1)+0.5)] }
	return quantiles{at(0.1), at(0.5), at(0.9)}
}

func (b *bench) run(ctx context.Context) error {
	if err := b.begin(ctx); err != nil {
		return err
	}
	if !b.json {
		stream := fmt.Sprintf("read stream %.0f GB/s", b.stream/1e9)
		if b.stream == 0 {
			stream = "read stream not measured"
		}
		if err := b.printf("loaded in %.1f s; %s; prompts of %d tokens, %d steps\n%5s %9s %8s %33s %8s %7s %7s %9s %8s %9s %7s\n", b.loaded.Seconds(), stream, b.flags.prompt,
			b.flags.steps, "batch", "ms a step", "tokens/s", "on the device: p10 median p90", "experts", "GB", "GB/s", "of stream", "launches", "predicted", "off by"); err != nil {
			return err
		}
	}
	for _, batch := range b.flags.batches {
		row, err := b.batch(ctx, batch)
		if err != nil {
			return err
		}
		if err := b.print(row); err != nil {
			return err
		}
	}
	return b.prefills(ctx)
}

// begin fills the caches and reads memory.
func (b *bench) begin(ctx context.Context) error {
	if err := b.prompts(ctx); err != nil {
		return err
	}
	return b.readStream(ctx)
}

func (b *bench) print(r benchRow) error {
	if b.json {
		return b.printJSON(r)
	}
	read := fmt.Sprintf("%8s %7s %7s %9s", "-", "-", "-", "-")
	if r.Experts > 0 {
		read = fmt.Sprintf("%8.2f %7.2f %7.0f %8.1f%%", r.Experts, r.Bytes/1e9, r.Rate/1e9, r.Percent)
	}
	return b.printf("%5d %9.3f %8.1f %15.3f %8.3f %8.3f %s %8d %9.3f %+6.1f%%\n", r.Batch, r.Step, float64(r.Batch)/r.Step*1e3, r.Device.P10, r.Device.Median, r.Device.P90, read, r.Launches,
		r.Predicted, 100*(r.Predicted/r.Device.Median-1))
}

// readStream takes the median of several reads, after one.
func (b *bench) readStream(ctx context.Context) error {
	var rates []float64
	for range 6 {
		r, err := b.program.ReadStream(ctx)
		if err != nil {
			return err
		}
		rates = append(rates, r)
	}
	b.stream = quantilesOf(rates[1:]).Median
	return nil
}

// prompts runs the prompt of every sequence, in chunks.
func (b *bench) prompts(ctx context.Context) error {
	most := slices.Max(b.flags.batches)
	b.next = make([]int32, most)
	for seq := range most {
		ids := madeUp(b.flags.prompt+seq, b.plan.Model.Vocab)[seq:]
		for at := 0; at < len(ids); {
			n := min(len(ids)-at, b.plan.Limits.Tokens, benchChunk)
			s := b.step(most)
			s.Prompt = true
			g := &s.Groups[0]
			for i := range n {
				g.Tokens, g.Positions, g.Sequences = append(g.Tokens, int32(ids[at+i])), append(g.Positions, int32(at+i)), append(g.Sequences, int32(seq))
			}
			g.Rows = []int32{int32(n - 1)}
			logits, err := b.program.Step(ctx, s)
			if err != nil {
				return err
			}
			b.next[seq] = int32(sample.Greedy(logits[0]))
			at += n
		}
	}
	return nil
}

// benchChunk is how many tokens of a prompt a step takes: those of the largest
// decode step.
const benchChunk = 64

// step is a step without tokens, with pages for all positions of sequences.
func (b *bench) step(sequences int) *step.Step {
	pages := kv.For(b.flags.prompt+b.flags.steps+benchWarmup+1, b.plan.Limits.Page)
	g := step.Group{Pages: make([][]int32, b.plan.Limits.Sequences)}
	for s := range sequences {
		for i := range pages {
			g.Pages[s] = append(g.Pages[s], int32(s*pages+i))
		}
	}
	return &step.Step{Groups: []step.Group{g}}
}

// batch measures steps of a batch, from the end of the prompts on.
func (b *bench) batch(ctx context.Context, batch int) (benchRow, error) {
	row := benchRow{Batch: batch}
	b.chosen = fnv.New64a()
	before, err := b.program.Measure()
	if err != nil {
		return row, err
	}
	times, ok, err := b.ahead(ctx, &row)
	if err == nil && !ok {
		times, err = b.stepByStep(ctx, &row)
	}
	if err != nil {
		return row, err
	}
	m, err := b.program.Measure()
	if err != nil {
		return row, err
	}
	device := make([]float64, len(times))
	for i, t := range times {
		device[i] = t.Seconds() * 1e3
	}
	row.Launches = m.Launches
	row.Experts = float64(m.Experts-before.Experts) / float64((benchWarmup+b.flags.steps)*b.plan.Model.Layers)
	row.Device = quantilesOf(device)
	row.Tokens = fmt.Sprintf("%016x", b.chosen.Sum64())
	if row.Experts > 0 { // else nobody counted them
		row.Bytes = b.bytes(row.Experts, batch)
		row.Rate = row.Bytes / (row.Device.Median / 1e3)
		row.Percent = 100 * row.Rate / b.stream
	}
	row.Predicted, err = b.predicted(batch, 1, b.flags.prompt+benchWarmup+b.flags.steps/2, row.Experts)
	return row, err
}

// predicted returns how long a step takes by the plan's machine description, in
// milliseconds: so many tokens of each sequence, which see so many positions, and
// of each layer so many experts, or, if those were not counted, drawn ones.
func (b *bench) predicted(sequences, tokens, context int, experts float64) (float64, error) {
	f := &profileFlags{sequences: sequences, tokens: tokens, context: context - tokens, experts: int(math.Round(experts * float64(b.plan.Model.Layers)))}
	if err := f.choose(b.plan); err != nil {
		return 0, err
	}
	r, err := f.simulate(b.plan, b.machine)
	if err != nil {
		return 0, err
	}
	return float64(r.Time) / 1e9, nil
}

// note adds chosen tokens to their hash.
func (b *bench) note(tokens []int32) {
	for _, t := range tokens {
		b.chosen.Write(binary.LittleEndian.AppendUint32(nil, uint32(t)))
	}
}

// ahead lets the program continue by itself, if it can, and returns the times
// of the measured steps on the device.
func (b *bench) ahead(ctx context.Context, row *benchRow) ([]time.Duration, bool, error) {
	var begin, end time.Time
	taken, n := 0, benchWarmup+b.flags.steps
	ok, err := b.program.Continue(ctx, b.decode(b.next[:row.Batch], 0), make([]sample.Draw, row.Batch), n, func(tokens []int32) bool {
		b.note(tokens)
		switch taken++; taken {
		case benchWarmup:
			begin = time.Now()
		case n:
			end = time.Now()
		}
		return true
	})
	if err != nil || !ok {
		return nil, ok, err
	}
	row.Step = end.Sub(begin).Seconds() * 1e3 / float64(b.flags.steps)
	m, err := b.program.Measure()
	if err != nil {
		return nil, true, err
	}
	return m.Steps[benchWarmup:], true, nil
}

// stepByStep is for programs that cannot: the host chooses tokens. It returns
// the times of the measured steps, as seen from the host where the device has
// not taken them.
func (b *bench) stepByStep(ctx context.Context, row *benchRow) ([]time.Duration, error) {
	var times []time.Duration
	var whole time.Duration
	tokens := slices.Clone(b.next[:row.Batch])
	for i := range benchWarmup + b.flags.steps {
		begin := time.Now()
		logits, err := b.program.Step(ctx, b.decode(tokens, i))
		if err != nil {
			return nil, err
		}
		vocab := len(logits[0]) / row.Batch
		for seq := range tokens {
			tokens[seq] = int32(sample.Greedy(logits[0][seq*vocab : (seq+1)*vocab]))
		}
		b.note(tokens)
		took := time.Since(begin)
		m, err := b.program.Measure()
		if err != nil {
			return nil, err
		}
		if i >= benchWarmup {
			whole += took
			times = append(times, cmp.Or(m.Last, took))
		}
	}
	row.Step = whole.Seconds() * 1e3 / float64(b.flags.steps)
	return times, nil
}

// decode is a step of a token of each sequence, so many positions after the
// prompts.
func (b *bench) decode(tokens []int32, after int) *step.Step {
	s := b.step(len(tokens))
	g := &s.Groups[0]
	for seq, t := range tokens {
		g.Tokens, g.Positions = append(g.Tokens, t), append(g.Positions, int32(b.flags.prompt+after))
		g.Sequences, g.Rows = append(g.Sequences, int32(seq)), append(g.Rows, int32(seq))
	}
	return s
}

// bytes returns what a step must read: of weights numbered by expert those of
// the experts that worked, rows of the embedding, everything else once, and
// keys and values.
func (b *bench) bytes(experts float64, batch int) float64 {
	sum := 0.0
	for _, w := range b.plan.Weights {
		each := float64(w.Bytes()) * float64(w.Layers.Len())
		switch {
		case b.embeds(w.Name):
			each = float64(batch) * float64(w.Bytes()) / float64(w.Shape[0])
		case w.Parts[0].Experts != nil:
			each *= experts / float64(len(w.Parts[0].Experts))
		}
		sum += each
	}
	positions := b.flags.prompt + benchWarmup + b.flags.steps/2
	for _, c := range b.plan.Caches {
		each := float64(c.PageBytes(b.plan.Limits)) / float64(b.plan.Limits.Page)
		sum += each * float64(c.Layers.Len()*batch*positions)
	}
	return sum
}

// embeds reports whether a weight is read by its rows alone.
func (b *bench) embeds(weight string) bool {
	rows := false
	for _, p := range b.plan.Programs {
		for _, block := range p.Blocks {
			for _, q := range block.Queues {
				for _, s := range q.Steps {
					for i, a := range s.Args {
						if a.Kind == plan.WeightRef && a.Name == weight {
							if s.Op != "embed" || i != 1 {
								return false
							}
							rows = true
						}
					}
				}
			}
		}
	}
	return rows
}
