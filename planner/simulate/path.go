package simulate

import (
	"cmp"
	"slices"

	"moec/ir/cost"
)

// Path is the critical path: spans each of which begins when the one before
// ends, from the start of the step to its end. To shorten the step, shorten
// one of them.
type Path struct {
	Cost  cost.Cost `json:"cost"` // by term; adds up to the time of the step
	Ops   []OpTime  `json:"ops"`  // by op, the longest first
	Spans []Span    `json:"-"`
}

// OpTime is what an op takes on the critical path.
type OpTime struct {
	Op    string `json:"op"`
	Count int    `json:"count"`
	Time  int64  `json:"time_ps"`
}

// path walks back from the span that ends last.
func (e *engine) path(end int) Path {
	p := Path{Spans: []Span{}, Ops: []OpTime{}}
	for i := end; i >= 0; i = e.spans[i].cause {
		p.Spans = append(p.Spans, e.spans[i])
	}
	slices.Reverse(p.Spans)
	at := make(map[string]int)
	for _, s := range p.Spans {
		p.Cost = p.Cost.Add(s.Cost)
		i, ok := at[s.Op]
		if !ok {
			i = len(p.Ops)
			at[s.Op] = i
			p.Ops = append(p.Ops, OpTime{Op: s.Op})
		}
		p.Ops[i].Count++
		p.Ops[i].Time += s.End - s.Start
	}
	slices.SortStableFunc(p.Ops, func(a, b OpTime) int {
		return cmp.Or(cmp.Compare(b.Time, a.Time), cmp.Compare(a.Op, b.Op))
	})
	return p
}
