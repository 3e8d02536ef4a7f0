package calibrate

import (
	"context"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"moec/ir/arith"
	"moec/ir/tensor"
	"moec/planner/plan"
	"moec/runtime"
	"moec/runtime/step"
)

// job is a loaded plan and the step to time.
type job struct {
	program runtime.Program
	step    *step.Step
}

func (j *job) close() error {
	if j == nil {
		return nil
	}
	return j.program.Close()
}

// load puts a plan on the backend.
func (c *calibration) load(ctx context.Context, p *plan.Plan, s *size) (*job, error) {
	program, err := c.Backend.Load(ctx, p, filler{}, c.Load)
	if err != nil {
		return nil, err
	}
	return &job{program, newStep(s, p.Model.Vocab)}, nil
}

// newStep is a step of a size: the last tokens of each of its sequences.
func newStep(s *size, vocab int) *step.Step {
	var g step.Group
	each, pages := s.load.Tokens/s.load.Sequences, (s.length+page-1)/page
	for q := range s.load.Sequences {
		for i := range each {
			n := int32(len(g.Tokens))
			g.Tokens = append(g.Tokens, n%int32(vocab))
			g.Rows = append(g.Rows, n)
			g.Positions = append(g.Positions, int32(s.length-each+i))
			g.Sequences = append(g.Sequences, int32(q))
		}
		list := make([]int32, pages)
		for i := range list {
			list[i] = int32(q*pages + i)
		}
		g.Pages = append(g.Pages, list)
	}
	return &step.Step{Groups: []step.Group{g}}
}

// How often steps are timed, after how many that are not. Above the least, as
// often as there is time.
const (
	warm  = 2
	least = 10
	most  = 200
)

// patience is how long to go on timing, and what a step may take at most.
func (c *calibration) patience() (enough, slow time.Duration) {
	if c.Quick {
		return 200 * time.Millisecond, 2 * time.Second
	}
	return time.Second, 20 * time.Second
}

// time returns by how much the median step of one job is longer than that of
// the other, in ps. They take turns, so that what else happens on the host
// happens to both. A step cannot be stopped: backends that may have to stop
// one look at the device from time to time, and would see its end too late.
func (c *calibration) time(ctx context.Context, more, less *job) (int64, error) {
	enough, slow := c.patience()
	endless := context.WithoutCancel(ctx)
	var took [2][]time.Duration
	start := time.Now()
	for i := range warm + most {
		if i >= warm+least && time.Since(start) > enough {
			break
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		for k, j := range []*job{more, less} {
			begin := time.Now()
			if _, err := j.program.Step(endless, j.step); err != nil {
				return 0, err
			}
			d := time.Since(begin)
			switch {
			case i >= warm:
				took[k] = append(took[k], d)
			case d > slow:
				return 0, errSlow
			}
		}
	}
	return 1000 * (median(took[0]) - median(took[1])).Nanoseconds(), nil
}

func median(list []time.Duration) time.Duration {
	slices.Sort(list)
	return (list[(len(list)-1)/2] + list[len(list)/2]) / 2
}

// filler gives weights that keep the size of what they multiply. They repeat
// after a while, for speed; "routes" sends tokens to the experts in turn, as
// prices take it.
type filler struct{}

// Read implements weights.Source.
func (filler) Read(p plan.Part, d tensor.DType, _ int, dst []byte) error {
	if p.Weight == "routes" {
		for at := range len(dst) / 4 {
			t, e, n := at/p.Shape[1], at%p.Shape[1], p.Shape[1]
			binary.LittleEndian.PutUint32(dst[4*at:], math.Float32bits(-float32(((e-slots*t)%n+n)%n)))
		}
		return nil
	}
	scale := math.Sqrt(3 / float64(p.Shape[len(p.Shape)-1])) // of uniform numbers with that variance
	r := rand.New(rand.NewPCG(1, 2))
	block := make([]byte, 0, min(len(dst), 1<<18))
	for len(block) < cap(block) {
		v := float32(scale * (2*r.Float64() - 1))
		switch d {
		case tensor.BF16:
			block = binary.LittleEndian.AppendUint16(block, arith.ToBF16(v))
		case tensor.F16:
			block = binary.LittleEndian.AppendUint16(block, arith.ToF16(v))
		default:
			block = binary.LittleEndian.AppendUint32(block, math.Float32bits(v))
		}
	}
	for len(dst) > 0 {
		dst = dst[copy(dst, block):]
	}
	return nil
}

// slots are the choices of a token in experts.moe.
const slots = 2
