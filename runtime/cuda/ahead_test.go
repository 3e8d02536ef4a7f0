package cuda

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"moec/codegen"
	"moec/ir/tensor"
	"moec/planner/plan"
	"moec/runtime/cuda/driver"
	"moec/runtime/sample"
	"moec/runtime/step"
)

// gpu is a device whose work happens when the host waits for it, and which has
// two kernels: one of a whole step, and the one that chooses tokens. Its memory
// is one array.
type gpu struct {
	driver.Device
	memory []byte
	queue  []func() // on the stream
	passed int      // entries that have run
	events map[driver.Event]int
	steps  int // queued
	most   int // of them at the same time
	lost   bool
	idle   bool // steps compute nothing
	draws  []sample.Draw
}

// Functions of the device.
const (
	stepFunction driver.Function = iota + 1
	chooseFunction
)

// Where the inputs and logits of the step are: logits lie over them, as a plan
// may have it. Sizes are those of the test's plan.
const (
	testVocab, testRows, testPage, testContext = 19, 5, 4, 32
	tokensAt, positionsAt, sequencesAt, rowsAt = 0, 20, 40, 60
	logitsAt, memoryEnd                        = 16, 1024
)

type hostMemory []byte

func (h hostMemory) Bytes() []byte { return h }
func (h hostMemory) Free() error   { return nil }

func (g *gpu) Do(f func() error) error                                 { return f() }
func (g *gpu) Function(driver.Module, string) (driver.Function, error) { return chooseFunction, nil }
func (g *gpu) Alloc(bytes int64) (driver.Ptr, error) {
	at := len(g.memory)
	g.memory = append(g.memory, slices.Repeat([]byte{0xa5}, int(bytes))...)
	return driver.Ptr(at), nil
}
func (g *gpu) AllocHost(bytes int64) (driver.HostBuffer, error) {
	return hostMemory(slices.Repeat([]byte{0xa5}, int(bytes))), nil
}
func (g *gpu) NewEvent(bool) (driver.Event, error) {
	e := driver.Event(len(g.events) + 1)
	g.events[e] = -1
	return e, nil
}
func (g *gpu) put(f func()) error {
	g.queue = append(g.queue, f)
	return nil
}
func (g *gpu) Record(e driver.Event, _ driver.Stream) error {
	g.events[e] = g.passed + len(g.queue)
	return nil
}
func (g *gpu) SyncEvent(_ context.Context, e driver.Event) error {
	if g.lost {
		return errLost
	}
	g.most = max(g.most, g.steps)
	for ; g.passed < g.events[e]; g.passed++ {
		g.queue[0]()
		g.queue = g.queue[1:]
	}
	return nil
}

func (g *gpu) Sync(context.Context, driver.Stream) error {
	e, _ := g.NewEvent(false)
	g.Record(e, 0)
	return g.SyncEvent(context.Background(), e)
}
func (g *gpu) CloseEvent(e driver.Event) error {
	delete(g.events, e)
	return nil
}

var errLost = errors.New("lost")

func (g *gpu) Elapsed(from, to driver.Event) (time.Duration, error) {
	return time.Duration(g.events[to]-g.events[from]) * time.Millisecond, nil
}
func (g *gpu) HtoDAsync(dst driver.Ptr, src driver.HostPart, _ driver.Stream) error {
	return g.put(func() { copy(g.memory[dst:], src.Buffer.Bytes()[src.Offset:src.Offset+src.Bytes]) })
}
func (g *gpu) DtoHAsync(dst driver.HostPart, src driver.Ptr, _ driver.Stream) error {
	return g.put(func() { copy(dst.Buffer.Bytes()[dst.Offset:dst.Offset+dst.Bytes], g.memory[src:]) })
}
func (g *gpu) Launch(f driver.Function, shape driver.Shape, p *driver.Params, _ driver.Stream) error {
	rows, args := int(shape.Grid.X), slices.Clone(p.Bytes())
	if f == stepFunction {
		g.steps++
		return g.put(func() { g.steps--; g.step(rows) })
	}
	return g.put(func() { g.choose(rows, args) })
}

func (g *gpu) number(at, i int) int32 {
	return int32(binary.LittleEndian.Uint32(g.memory[at+4*i:]))
}
func (g *gpu) set(at, i int, v int32) {
	binary.LittleEndian.PutUint32(g.memory[at+4*i:], uint32(v))
}

// step writes logits that depend on all inputs.
func (g *gpu) step(rows int) {
	if g.idle {
		return
	}
	var out [][]float32
	for i := range rows {
		k := int(g.number(rowsAt, i))
		out = append(out, logitsOf(g.number(tokensAt, k), g.number(positionsAt, k), g.number(sequencesAt, k)))
	}
	for i, row := range out {
		for j, v := range row {
			g.set(logitsAt, i*testVocab+j, int32(math.Float32bits(v)))
		}
	}
}

func logitsOf(token, position, slot int32) []float32 {
	row := make([]float32, testVocab)
	for j := range row {
		row[j] = float32((int(token)*7+int(position)*3+int(slot)*5+j*j)%11) / 3
	}
	return row
}

// choose does what sample.cuh does.
func (g *gpu) choose(rows int, args []byte) {
	word := func(i int) int { return int(binary.LittleEndian.Uint64(args[i:])) }
	logits, draws := word(0), word(8)
	feed := make([]int, 8)
	for i := range feed {
		feed[i] = word(20 + 8*i)
	}
	chosen, at, slots := feed[4], feed[5], feed[6]
	for i := range rows {
		row := make([]float32, testVocab)
		for j := range row {
			row[j] = math.Float32frombits(uint32(g.number(logits, i*testVocab+j)))
		}
		g.set(chosen, i, int32(g.drawOf(draws+32*i).Next(row, g.draws[i].Sequence, int(g.number(at, i))+1)))
	}
	for i := range rows {
		g.set(at, i, g.number(at, i)+1)
		g.set(feed[0], i, g.number(chosen, i))
		g.set(feed[1], i, g.number(at, i))
		g.set(feed[2], i, g.number(slots, i))
		g.set(feed[3], i, int32(i))
	}
}

// drawOf reads struct Draw, and finds by its key what the random numbers are of.
func (g *gpu) drawOf(at int) sample.Params {
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(g.memory[at+8*i:]) }
	p := sample.Params{Temperature: math.Float64frombits(word(0)), TopP: math.Float64frombits(word(1)), TopK: int(word(3))}
	for _, d := range g.draws {
		if sample.Key(d.Seed, d.Sequence) == word(2) {
			p.Seed = d.Seed
		}
	}
	return p
}

// testProgram is a program of one step on the device.
func testProgram(g *gpu) *Program {
	rows := tensor.S(tensor.Rows)
	p := &plan.Plan{Limits: plan.Limits{Tokens: testRows, Rows: testRows, Sequences: testRows, Context: testContext, Page: testPage, Pages: 40}}
	p.Model.Vocab = testVocab
	p.Memory = make([]plan.Memory, 1)
	p.Programs = []plan.Program{{Name: "all", Outputs: []plan.Output{{Name: "logits", Buffer: "y", Type: tensor.Of(tensor.F32, rows, tensor.N(testVocab))}}}}
	g.memory, g.events = make([]byte, memoryEnd), make(map[driver.Event]int)
	d := &device{gpu: g, modules: make([]driver.Module, 1), tables: make(map[int]driver.Ptr)}
	one := call{op: "step", function: stepFunction, launch: &codegen.Launch{Threads: 1, PerBlock: 1, Items: codegen.Extent{N: 1, Syms: []tensor.Sym{tensor.Rows}}}}
	d.programs = []queue{{turns: []turn{{name: "all", calls: []call{one}}},
		inputs: map[string]driver.Ptr{"tokens": tokensAt, "positions": positionsAt, "sequences": sequencesAt, "rows": rowsAt, "y": logitsAt}}}
	d.staged.buffer = make(hostMemory, 4096)
	return &Program{plan: p, devices: []*device{d}}
}

// testStep is a step of three sequences in slots that are not in order.
func testStep() (*step.Step, []sample.Draw) {
	grp := step.Group{Tokens: []int32{3, 18, 7}, Positions: []int32{5, 0, 20}, Sequences: []int32{4, 0, 2}, Rows: []int32{0, 1, 2}, Pages: make([][]int32, testRows)}
	for s := range grp.Pages {
		grp.Pages[s] = make([]int32, testContext/testPage)
	}
	return &step.Step{Groups: []step.Group{grp}}, []sample.Draw{{}, {Params: sample.Params{Temperature: 1.5, Seed: 3}, Sequence: 8}, {Params: sample.Params{Temperature: 1, TopK: 6, TopP: 0.7}, Sequence: 1}}
}

// TestContinue compares tokens with those chosen on the host, and counts what
// is queued.
func TestContinue(t *testing.T) {
	for _, c := range []struct{ n, stop, taken, most int }{{1, 99, 1, 1}, {2, 99, 2, 2}, {10, 99, 10, aheadSteps}, {10, 1, aheadSteps, aheadSteps}, {10, 5, 4 + aheadSteps, aheadSteps}, {6, 5, 6, aheadSteps}} {
		s, draws := testStep()
		g := &gpu{draws: draws}
		p := testProgram(g)
		for range 2 { // the second time with what the first one left
			grp := s.Groups[0]
			tokens, taken := slices.Clone(grp.Tokens), 0
			ok, err := p.Continue(context.Background(), s, draws, c.n, func(got []int32) bool {
				for i, d := range draws {
					position := grp.Positions[i] + int32(taken)
					tokens[i] = int32(d.Next(logitsOf(tokens[i], position, grp.Sequences[i]), d.Sequence, int(position)+1))
				}
				if !slices.Equal(got, tokens) {
					t.Errorf("%+v: step %d chose %v, want %v", c, taken, got, tokens)
				}
				taken++
				return taken < c.stop
			})
			if !ok || err != nil || taken != c.taken || g.most != c.most || g.steps != 0 {
				t.Errorf("%+v: %v, %v; %d steps taken, %d queued at a time, %d left", c, ok, err, taken, g.most, g.steps)
			}
			if m, err := p.Measure(); err != nil || len(m.Steps) != taken || m.Steps[0] != 3*time.Millisecond || m.Launches != 2 {
				t.Errorf("%+v: measured %+v, %v", c, m, err)
			}
		}
	}
}

// TestContinueNot are steps that are not continued, and nothing is queued.
func TestContinueNot(t *testing.T) {
	for name, change := range map[string]func(p *Program, s *step.Step, draws *[]sample.Draw){
		"poison":      func(p *Program, _ *step.Step, _ *[]sample.Draw) { p.options.Poison = true },
		"two devices": func(p *Program, _ *step.Step, _ *[]sample.Draw) { p.devices = append(p.devices, p.devices[0]) },
		"fewer rows":  func(_ *Program, s *step.Step, _ *[]sample.Draw) { s.Groups[0].Rows = s.Groups[0].Rows[:2] },
		"fewer draws": func(_ *Program, _ *step.Step, d *[]sample.Draw) { *d = (*d)[:2] },
		"bf16 logits": func(p *Program, _ *step.Step, _ *[]sample.Draw) {
			p.plan.Programs[0].Outputs[0].Type.DType = tensor.BF16
		},
	} {
		s, draws := testStep()
		g := &gpu{draws: draws}
		p := testProgram(g)
		change(p, s, &draws)
		ok, err := p.Continue(context.Background(), s, draws, 3, func([]int32) bool { t.Errorf("%s: a token", name); return false })
		if ok || err != nil || len(g.queue) > 0 {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
	}
}

func TestContinueErrors(t *testing.T) {
	s, draws := testStep()
	g := &gpu{draws: draws}
	p := testProgram(g)
	none := func([]int32) bool { return true }
	if _, err := p.Continue(context.Background(), s, draws, 13, none); err == nil || fmt.Sprint(err) != "13 steps of sequence slot 2 from position 20 on: it has room for 32 positions" {
		t.Errorf("too many steps: error %v", err)
	}
	if ok, err := p.Continue(context.Background(), s, draws, 12, none); !ok || err != nil {
		t.Errorf("as many as fit: %v, %v", ok, err)
	}
	g.lost = true
	if _, err := p.Continue(context.Background(), s, draws, 3, none); err != errLost {
		t.Errorf("error %v", err)
	}
	if _, err := p.Step(context.Background(), s); err != errLost {
		t.Errorf("a step after that: error %v", err)
	}
}
