package simulate

import (
	"moec/ir/cost"
	"moec/ir/routing"
	"moec/planner/plan"
)

// Part is a kind of step and how many of them there are.
type Part struct {
	Load  cost.Load `json:"load"`
	Count int64     `json:"count"`
}

// Workload is steps of several kinds, one after the other.
type Workload []Part

// Prompt returns the steps of a prompt of one sequence: chunks of as many
// tokens as a step of the plan may have. A token at position p sees p+1
// positions; each chunk has the mean of its tokens. Logits are wanted for the
// last token only.
func Prompt(p *plan.Plan, tokens int) Workload {
	var w Workload
	chunk := max(1, p.Limits.Tokens)
	for at := 0; at < tokens; at += chunk {
		n := min(chunk, tokens-at)
		l := cost.Load{Sequences: 1, Tokens: n, Context: at + (n+1)/2}
		if at+n == tokens {
			l.Rows = 1
		}
		w = append(w, Part{l, 1})
	}
	return w
}

// Decode returns steps of a token for each of some sequences that have so many
// positions.
func Decode(sequences, context int, count int64) Part {
	return Part{cost.Load{Sequences: sequences, Tokens: sequences, Rows: sequences, Context: context}, count}
}

// Total is what a workload takes.
type Total struct {
	Time   int64     `json:"time_ps"`
	Closed int64     `json:"lockstep_ps"`
	Steps  []*Result `json:"steps"` // one for each part
}

// Run simulates each part of a workload once. The batches of all parts are
// drawn by batch; nil spreads slots evenly.
func (s *Simulator) Run(w Workload, o Options, batch func(tokens int) Batch) (*Total, error) {
	t := &Total{}
	for _, p := range w {
		if batch != nil {
			o.Batch = batch(p.Load.Tokens)
		}
		r, err := s.Step(p.Load, o)
		if err != nil {
			return nil, err
		}
		t.Time += p.Count * r.Time
		t.Closed += p.Count * r.Closed.Time
		t.Steps = append(t.Steps, r)
	}
	return t, nil
}

// Shapes returns what each layer of a plan chooses, for package routing.
func Shapes(p *plan.Plan) []routing.Shape {
	list := make([]routing.Shape, p.Model.Layers)
	for i := range p.Programs {
		prog := &p.Programs[i]
		shapes := make(map[string]routing.Shape)
		for j := range prog.Blocks {
			shapes[prog.Blocks[j].Name] = blockShape(prog, &prog.Blocks[j])
		}
		for _, r := range prog.Runs {
			if s := shapes[r.Block]; s.Experts > 0 && r.Layers != plan.NoLayers {
				for l := r.Layers.First; l <= min(r.Layers.Last, len(list)-1); l++ {
					list[l] = s
				}
			}
		}
	}
	return list
}

// blockShape looks for a step that works on experts: its ids have a column for
// each slot.
func blockShape(prog *plan.Program, b *plan.Block) routing.Shape {
	local, shared := index(b.Buffers), index(prog.Buffers)
	for _, q := range b.Queues {
		for _, s := range flat(q.Steps) {
			at := map[string]int{"expert_matmul": 2, "expert_matmul_nodes": 2, "combine": 1, "combine_nodes": 1}[s.Op]
			if at == 0 || at >= len(s.Args) {
				continue
			}
			k := key{s.Args[at].Device, s.Args[at].Name}
			ids := local[k]
			if ids == nil {
				ids = shared[k]
			}
			if ids != nil && len(ids.Type.Shape) == 2 {
				return routing.Shape{Experts: s.Attrs.Int("total", 0), Slots: ids.Type.Shape[1].N}
			}
		}
	}
	return routing.Shape{}
}

// flat lists steps, and those of bodies instead of fused ones.
func flat(steps []plan.Step) []*plan.Step {
	var list []*plan.Step
	for i := range steps {
		if len(steps[i].Body) > 0 {
			list = append(list, flat(steps[i].Body)...)
		} else {
			list = append(list, &steps[i])
		}
	}
	return list
}
