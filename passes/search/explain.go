package search

import (
	"fmt"
	"reflect"
	"slices"

	"moec/ir"
	"moec/ir/cost"
	"moec/ir/placement"
	"moec/passes"
)

// Explanation says what a placement costs, part by part and term by term, and
// what other ways to place its layers would cost.
type Explanation struct {
	Placed *Priced     `json:"placed"`
	Loads  []Step      `json:"loads"`
	Terms  []cost.Cost `json:"terms"` // of each load, the mean over its batches
	Parts  []PartRun   `json:"parts"`
}

// PartRun is a run of parts of a step that are placed alike and cost the same:
// the prologue, some layers, or the epilogue.
type PartRun struct {
	Name string `json:"name"` // "prologue", "layers" or "epilogue"
	// First and Last are layers; -1 outside the layers.
	First int `json:"first"`
	Last  int `json:"last"`
	// Terms is the price of each load in one of the parts, the mean over its
	// batches.
	Terms []cost.Cost `json:"terms"`
	// Total is what all parts of the run add to the score.
	Total cost.Cost `json:"total"`
	// Others are the best other ways to place these layers, the cheapest
	// first; Tried is how many there were.
	Others []Other `json:"others,omitempty"`
	Tried  int     `json:"tried,omitempty"`
}

// Len is the number of parts.
func (r *PartRun) Len() int64 { return int64(r.Last - r.First + 1) }

// Other is another way to place a run of layers, all else as it is.
type Other struct {
	Name string `json:"name"`
	// Extra is how much higher the score would be, in ps; below 0 it would be
	// better.
	Extra int64 `json:"extra_ps"`
	// Loads is how much more one step of each load would take, by term.
	Loads []cost.Cost `json:"loads"`
	// Fits says whether it fits into memory and keeps the limits; Why says what
	// does not.
	Fits bool   `json:"fits"`
	Why  string `json:"why,omitempty"`
	// Like is how many more ways of the same kind cost the same.
	Like int `json:"like,omitempty"`

	kind string
	edit edit
}

// shownOthers is how many other ways are explained.
const shownOthers = 5

// Terms explains what a placement costs, without other ways.
func Terms(p *Problem, pl *placement.Placement) (*Explanation, error) {
	x, err := newExplainer(p, pl)
	if err != nil {
		return nil, err
	}
	return x.explain(0, -1)
}

// Explain explains a placement: all of its parts, and for the layers first to
// last, or all if first is -1, the other ways.
func Explain(p *Problem, pl *placement.Placement, first, last int) (*Explanation, error) {
	x, err := newExplainer(p, pl)
	if err != nil {
		return nil, err
	}
	if first < 0 {
		first, last = 0, x.layers()-1
	}
	if last < first || last >= x.layers() {
		return nil, fmt.Errorf("layers %d to %d: the model has layers 0 to %d", first, last, x.layers()-1)
	}
	return x.explain(first, last)
}

// explain explains all parts, and other ways for some layers.
func (x *explainer) explain(first, last int) (*Explanation, error) {
	pl := x.state.p
	out := &Explanation{Placed: x.priced(&Plan{Name: pl.Strategy, Place: pl, priced: x.state}), Loads: x.Workload.Steps, Terms: make([]cost.Cost, len(x.loads))}
	out.Placed.Why = x.why(x.state.bytes, x.state.times)
	var hand []*Plan
	if first <= last {
		hand = x.hand()
	}
	for i := 0; i < len(x.parts); {
		r := x.partRun(i, first, last)
		for k, c := range r.Terms {
			out.Terms[k] = out.Terms[k].Add(times(c, r.Len()))
		}
		if r.Name == "layers" && r.First >= first && r.Last <= last {
			if err := x.others(&r, hand); err != nil {
				return nil, err
			}
		}
		out.Parts = append(out.Parts, r)
		i += int(r.Len())
	}
	return out, nil
}

// explainer is a priced placement with the prices of its parts by term.
type explainer struct {
	*model
	state *state
	terms [][]cost.Cost // of each part
}

func newExplainer(p *Problem, pl *placement.Placement) (*explainer, error) {
	if err := pl.Check(p.Outline.Summary); err != nil {
		return nil, err
	}
	if pl.Devices != p.Machine.Devices {
		return nil, fmt.Errorf("placement %q is for %d devices, %s has %d; use --gpus %d", pl.Strategy, pl.Devices, p.Machine.Name, p.Machine.Devices, pl.Devices)
	}
	m, err := newModel(p)
	if err != nil {
		return nil, err
	}
	own := *pl // other layers are tried in it
	own.Layers = slices.Clone(pl.Layers)
	s, err := m.place(&own)
	if err != nil {
		return nil, err
	}
	x := &explainer{model: m, state: s}
	x.terms, err = m.allTerms(s)
	return x, err
}

// allTerms splits the prices of all parts of a placement.
func (m *model) allTerms(s *state) ([][]cost.Cost, error) {
	terms := make([][]cost.Cost, len(m.parts))
	for i := range m.parts {
		if i > 0 && m.sameTurn(s, i-1, i) {
			terms[i] = terms[i-1]
			continue
		}
		var err error
		if terms[i], err = m.split(i, s.p, needsOf(s, i)); err != nil {
			return nil, err
		}
	}
	return terms, nil
}

// needsOf is what the part after part i needs of it.
func needsOf(s *state, i int) []passes.Need {
	if i+1 < len(s.parts) {
		return s.parts[i+1].script.needs
	}
	return nil
}

// sameTurn reports whether two neighbouring parts are placed alike and cost the
// same.
func (m *model) sameTurn(s *state, i, j int) bool {
	if i == 0 || j == len(m.parts)-1 || m.parts[i] != m.parts[j] || !slices.Equal(s.parts[i].times, s.parts[j].times) {
		return false
	}
	a, b := &s.p.Layers[i-1], &s.p.Layers[j-1]
	return sameGroups(a.Groups, b.Groups) && sameSplits(a.Attention, b.Attention) && sameSplits(a.Dense, b.Dense) && sameExperts(a.Experts, b.Experts)
}

func sameExperts(a, b []placement.Expert) bool {
	return slices.EqualFunc(a, b, func(a, b placement.Expert) bool { return slices.EqualFunc(a, b, slices.Equal[placement.Split]) })
}

// partRun is the run of parts that begins with part i. Runs end where the
// layers first and last do.
func (x *explainer) partRun(i, first, last int) PartRun {
	r := PartRun{Name: "layers", First: i - 1, Last: i - 1, Terms: x.terms[i], Total: x.weigh(x.terms[i])}
	switch i {
	case 0:
		r.Name, r.First, r.Last = "prologue", -1, -1
		return r
	case len(x.parts) - 1:
		r.Name, r.First, r.Last = "epilogue", -1, -1
		return r
	}
	for j := i; x.sameTurn(x.state, j, j+1) && j != first && j-1 != last; j++ {
		r.Last++
	}
	r.Total = times(r.Total, r.Len())
	return r
}

// times is a price n times.
func times(c cost.Cost, n int64) cost.Cost {
	return cost.Cost{Compute: c.Compute * n, Memory: c.Memory * n, Link: c.Link * n, Launch: c.Launch * n}
}

// minus is by how much a is more than b.
func minus(a, b cost.Cost) cost.Cost { return a.Add(times(b, -1)) }

// weigh sums the prices of loads as often as the workload has them.
func (m *model) weigh(terms []cost.Cost) cost.Cost {
	var sum cost.Cost
	for k := range m.loads {
		sum = sum.Add(times(terms[k], m.loads[k].Count))
	}
	return sum
}

// split prices part i node by node and returns, for each load, the mean over
// its batches of what the device that ends last does.
func (m *model) split(i int, p *placement.Placement, needs []passes.Need) ([]cost.Cost, error) {
	c := m.parts[i]
	placed, err := m.Outline.Place(c.index, m.around(i, p), needs)
	if err != nil {
		return nil, err
	}
	nodes := make([]*ir.Node, len(placed.Nodes))
	for k, n := range placed.Nodes {
		nodes[k] = n.Node
	}
	groups := len(p.Layers[0].Groups)
	terms := make([]cost.Cost, len(m.loads))
	for k := range m.loads {
		l := &m.loads[k]
		pricer := cost.NewPricer(m.Machine, l.Load, groups)
		for b := range l.samples {
			terms[k] = terms[k].Add(pricer.Turn(nodes, m.slots(c, l, b, groups)))
		}
		n := int64(l.samples)
		terms[k] = cost.Cost{Compute: terms[k].Compute / n, Memory: terms[k].Memory / n, Link: terms[k].Link / n, Launch: terms[k].Launch / n}
	}
	return terms, nil
}

// others finds the best other ways to place a run of layers.
func (x *explainer) others(r *PartRun, hand []*Plan) error {
	list := x.candidates(r, hand)
	var best []*Other
	for _, o := range list {
		ok, err := x.price(o)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		r.Tried++
		if i := slices.IndexFunc(best, func(b *Other) bool { return b.kind == o.kind && b.Extra == o.Extra && b.Fits == o.Fits }); i >= 0 {
			best[i].Like++
			continue
		}
		best = append(best, o)
	}
	slices.SortStableFunc(best, func(a, b *Other) int {
		switch {
		case a.Extra < b.Extra:
			return -1
		case a.Extra > b.Extra:
			return 1
		}
		return 0
	})
	for _, o := range best[:min(shownOthers, len(best))] {
		if err := x.itemise(o); err != nil {
			return err
		}
		r.Others = append(r.Others, *o)
	}
	return nil
}

// price tries another way; it reports false if that is not a placement of the
// model.
func (x *explainer) price(o *Other) (bool, error) {
	t, err := x.try(x.state, o.edit)
	if err != nil {
		return false, err
	}
	defer x.drop(x.state, t)
	if x.state.p.Check(x.Outline.Summary) != nil {
		return false, nil
	}
	o.Extra = (t.score - x.state.score) / scoreUnits
	o.Why = x.why(t.bytes, t.times)
	o.Fits = o.Why == ""
	return true, nil
}

// itemise says what another way costs more, by load and term.
func (x *explainer) itemise(o *Other) error {
	t, err := x.try(x.state, o.edit)
	if err != nil {
		return err
	}
	defer x.drop(x.state, t)
	o.Loads = make([]cost.Cost, len(x.loads))
	needs := make(map[int][]passes.Need) // of the parts that were tried
	for _, p := range t.parts {
		needs[p.at] = p.script.needs
	}
	var last *tried
	var terms []cost.Cost
	for k := range t.parts { // the last part first
		p := &t.parts[k]
		wants, ok := needs[p.at+1]
		if !ok {
			wants = needsOf(x.state, p.at)
		}
		if last == nil || x.parts[last.at] != x.parts[p.at] || !slices.Equal(last.times, p.times) {
			if terms, err = x.split(p.at, x.state.p, wants); err != nil {
				return err
			}
		}
		last = p
		for i := range o.Loads {
			o.Loads[i] = o.Loads[i].Add(minus(terms[i], x.terms[p.at][i]))
		}
	}
	return nil
}

// Worst is the load for which another way, or another placement, loses most in
// the workload, and the term in which it does; false if it loses nowhere.
func Worst(loads []Step, extra []cost.Cost) (load int, term string, lost int64, ok bool) {
	most := int64(0)
	for k, c := range extra {
		if x := c.Total() * loads[k].Count; x > most {
			load, most, ok = k, x, true
		}
	}
	if !ok {
		return 0, "", 0, false
	}
	term, lost = Most(extra[load])
	return load, term, lost, true
}

// Most is the largest term of a price, and its name.
func Most(c cost.Cost) (term string, ps int64) {
	for i, t := range []struct {
		name string
		ps   int64
	}{{"memory", c.Memory}, {"arithmetic", c.Compute}, {"links", c.Link}, {"launches", c.Launch}} {
		if i == 0 || t.ps > ps {
			term, ps = t.name, t.ps
		}
	}
	return term, ps
}

// Comparison says where two placements of a problem differ in price.
type Comparison struct {
	A     *Priced     `json:"a"`
	B     *Priced     `json:"b"`
	Loads []Step      `json:"loads"`
	Terms []cost.Cost `json:"terms"` // how much more a step of each load takes with B, by term
	Parts []PartDiff  `json:"parts"`
}

// PartDiff is a run of parts in which the two differ alike.
type PartDiff struct {
	Name  string      `json:"name"`
	First int         `json:"first"` // layer, or -1
	Last  int         `json:"last"`
	Terms []cost.Cost `json:"terms"` // how much more all parts of the run take with B
	Extra int64       `json:"extra_ps"`
	// Alike says that both place the layers the same way.
	Alike bool `json:"alike"`
}

// Compare compares the prices of two placements.
func Compare(p *Problem, a, b *placement.Placement) (*Comparison, error) {
	x, err := newExplainer(p, a)
	if err != nil {
		return nil, err
	}
	y, err := newExplainer(p, b)
	if err != nil {
		return nil, err
	}
	of := func(x *explainer, p *placement.Placement) *Priced {
		out := x.priced(&Plan{Name: p.Strategy, Place: p, priced: x.state})
		out.Why = x.why(x.state.bytes, x.state.times)
		return out
	}
	c := &Comparison{A: of(x, a), B: of(y, b), Loads: p.Workload.Steps, Terms: make([]cost.Cost, len(x.loads))}
	for i := range x.parts {
		d := x.partDiff(y, i)
		for k, t := range d.Terms {
			c.Terms[k] = c.Terms[k].Add(t)
		}
		if n := len(c.Parts); i > 1 && n > 0 && x.sameTurn(x.state, i-1, i) && y.sameTurn(y.state, i-1, i) {
			last := &c.Parts[n-1]
			last.Last, last.Extra = d.Last, last.Extra+d.Extra
			for k, t := range d.Terms {
				last.Terms[k] = last.Terms[k].Add(t)
			}
			continue
		}
		c.Parts = append(c.Parts, d)
	}
	return c, nil
}

// partDiff compares a part.
func (x *explainer) partDiff(y *explainer, i int) PartDiff {
	d := PartDiff{Name: "layers", First: i - 1, Last: i - 1, Terms: make([]cost.Cost, len(x.loads)), Extra: (y.state.parts[i].score - x.state.parts[i].score) / scoreUnits}
	for k := range d.Terms {
		d.Terms[k] = minus(y.terms[i][k], x.terms[i][k])
	}
	switch i {
	case 0:
		d.Name, d.First, d.Last = "prologue", -1, -1
		d.Alike = reflect.DeepEqual(x.state.p.Embed, y.state.p.Embed)
	case len(x.parts) - 1:
		d.Name, d.First, d.Last = "epilogue", -1, -1
		d.Alike = reflect.DeepEqual(x.state.p.Head, y.state.p.Head)
	default:
		d.Alike = reflect.DeepEqual(x.state.p.Layers[i-1], y.state.p.Layers[i-1])
	}
	return d
}
