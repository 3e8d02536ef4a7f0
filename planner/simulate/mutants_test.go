package simulate

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"moec/ir"
	"moec/ir/tensor"
	"moec/planner/plan"
)

// mutations damage a plan somewhere.
var mutations = []func(r *rand.Rand, p *plan.Plan){
	func(r *rand.Rand, p *plan.Plan) { q := someQueue(r, p); swap(r, q.Steps) },
	func(r *rand.Rand, p *plan.Plan) {
		q := someQueue(r, p)
		i := r.IntN(len(q.Steps))
		q.Steps = append(q.Steps[:i:i], q.Steps[i+1:]...)
	},
	func(r *rand.Rand, p *plan.Plan) { q := someQueue(r, p); q.Steps = append(q.Steps, *someStep(r, p)) },
	func(r *rand.Rand, p *plan.Plan) { *someStep(r, p) = *someStep(r, p) },
	func(r *rand.Rand, p *plan.Plan) { s := someStep(r, p); s.Out = someStep(r, p).Out },
	func(r *rand.Rand, p *plan.Plan) { s := someStep(r, p); s.Args = someStep(r, p).Args },
	func(r *rand.Rand, p *plan.Plan) { s := someStep(r, p); s.Args = nil },
	func(r *rand.Rand, p *plan.Plan) { s := someStep(r, p); s.Attrs = someStep(r, p).Attrs },
	func(r *rand.Rand, p *plan.Plan) { s := someStep(r, p); s.Op = someStep(r, p).Op },
	func(r *rand.Rand, p *plan.Plan) { s := someStep(r, p); s.Body = someStep(r, p).Body },
	func(r *rand.Rand, p *plan.Plan) {
		if s := someStep(r, p); len(s.Args) > 0 {
			s.Args = s.Args[:len(s.Args)-1]
		}
	},
	func(r *rand.Rand, p *plan.Plan) {
		if s := someStep(r, p); len(s.Args) > 0 {
			a := &s.Args[r.IntN(len(s.Args))]
			a.Device, a.Kind = r.IntN(6)-1, []plan.RefKind{plan.BufferRef, plan.WeightRef, plan.ConstRef, plan.CacheRef, "what"}[r.IntN(5)]
		}
	},
	func(r *rand.Rand, p *plan.Plan) {
		if s := someStep(r, p); len(s.Attrs) > 0 {
			a := &s.Attrs[r.IntN(len(s.Attrs))]
			a.Value = []any{0, -1, 1 << 30, []int{}, []int{0, 99}, [][]int{{0}}, [][]int{{3, 2}}, "x", 0.5, nil}[r.IntN(10)]
		}
	},
	func(r *rand.Rand, p *plan.Plan) {
		w := &p.Weights[r.IntN(len(p.Weights))]
		w.Shape = w.Shape[:r.IntN(len(w.Shape))]
	},
	func(r *rand.Rand, p *plan.Plan) {
		p.Weights[r.IntN(len(p.Weights))].Layers = plan.Range{First: 1, Last: 1}
	},
	func(r *rand.Rand, p *plan.Plan) { p.Caches[r.IntN(len(p.Caches))].Heads = r.IntN(3) },
	func(r *rand.Rand, p *plan.Plan) { someBuffer(r, p).Type = tensor.Type{} },
	func(r *rand.Rand, p *plan.Plan) {
		b := someBuffer(r, p)
		b.Type = tensor.Of(tensor.F32, tensor.N(r.IntN(5)))
	},
	func(r *rand.Rand, p *plan.Plan) {
		b := someBuffer(r, p)
		b.Type = tensor.Of(tensor.F32, tensor.S("T.7"), tensor.N(1<<30), tensor.N(1<<30))
	},
	func(r *rand.Rand, p *plan.Plan) { b := someBuffer(r, p); b.Device = r.IntN(7) - 1 },
	func(r *rand.Rand, p *plan.Plan) { p.Memory = p.Memory[:r.IntN(len(p.Memory))] },
	func(r *rand.Rand, p *plan.Plan) { p.Buckets = nil },
	func(r *rand.Rand, p *plan.Plan) {
		p.Programs[0].Runs[0].Layers = plan.Range{First: 0, Last: r.IntN(1 << 30)}
	},
	func(r *rand.Rand, p *plan.Plan) { p.Programs[0].Outputs[0].Group = r.IntN(1 << 20) },
	func(r *rand.Rand, p *plan.Plan) { p.Programs[0].Outputs = nil },
	func(r *rand.Rand, p *plan.Plan) {
		b := &p.Programs[0].Blocks[r.IntN(len(p.Programs[0].Blocks))]
		b.Queues = append(b.Queues, b.Queues[0])
	},
}

func swap(r *rand.Rand, list []plan.Step) {
	i, j := r.IntN(len(list)), r.IntN(len(list))
	list[i], list[j] = list[j], list[i]
}

func someQueue(r *rand.Rand, p *plan.Plan) *plan.Queue {
	for {
		b := &p.Programs[0].Blocks[r.IntN(len(p.Programs[0].Blocks))]
		if q := &b.Queues[r.IntN(len(b.Queues))]; len(q.Steps) > 0 {
			return q
		}
	}
}

func someStep(r *rand.Rand, p *plan.Plan) *plan.Step {
	q := someQueue(r, p)
	return &q.Steps[r.IntN(len(q.Steps))]
}

func someBuffer(r *rand.Rand, p *plan.Plan) *plan.Buffer {
	b := &p.Programs[0].Blocks[r.IntN(len(p.Programs[0].Blocks))]
	if len(b.Buffers) == 0 || r.IntN(4) == 0 {
		return &p.Programs[0].Buffers[r.IntN(len(p.Programs[0].Buffers))]
	}
	return &b.Buffers[r.IntN(len(b.Buffers))]
}

// TestMutants damages plans. Each is refused or simulated to an end that makes
// sense, in bounded time.
func TestMutants(t *testing.T) {
	text, err := json.Marshal(compiled(t, small(2), ir.Invariant, named("dp2ep2", 4)).Plan)
	if err != nil {
		t.Fatal(err)
	}
	const mutants = 250
	refused, begin := 0, time.Now()
	for seed := range uint64(mutants) {
		r := rand.New(rand.NewPCG(seed, 11))
		p := &plan.Plan{}
		if err := json.Unmarshal(text, p); err != nil {
			t.Fatal(err)
		}
		which := r.IntN(len(mutations))
		mutations[which](r, p)
		s, err := New(p, slow(8))
		if err != nil {
			refused++
			continue
		}
		if _, err := s.Lockstep(loads[1], nil); err != nil {
			refused++
			continue
		}
		res, err := s.Step(loads[1], modes[r.IntN(len(modes))])
		if err != nil {
			refused++
			continue
		}
		for _, d := range res.Devices {
			if why := gaps(d.Spans, res.Time); why != "" {
				t.Errorf("seed %d, mutation %d: device %d: %s", seed, which, d.Device, why)
			}
		}
	}
	if took := time.Since(begin); refused < mutants/3 || took > time.Minute {
		t.Errorf("%d of %d mutants are refused, in %v", refused, mutants, took)
	}
}
