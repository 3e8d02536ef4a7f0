package search

import (
	"slices"

	"moec/ir/placement"
	"moec/passes"
)

// trial is an edit that has been made to the placement of a state, and the
// prices of the parts that depend on it. The state itself is as before until
// the trial is kept.
type trial struct {
	undo  edit
	parts []tried
	score int64
	bytes []int64
	times []int64 // of each batch, where something depends on them; see timed
}

type tried struct {
	at int
	*partState
}

// try edits the placement of s and prices what depends on the edit: the layers
// themselves, the layer after them if values move differently, and those before
// as far as what they must leave behind has changed. The trial is good until
// the next one.
func (m *model) try(s *state, e edit) (*trial, error) {
	t := &m.trial
	t.parts, t.score = t.parts[:0], s.score
	t.bytes = append(t.bytes[:0], s.bytes...)
	t.undo = e.apply(s.p, t.undo)
	lo, hi := m.reach(s, e, t.undo)
	var needs []passes.Need // of the part after the one that is priced
	key := needsKey(nil)
	if hi < len(m.parts)-1 {
		needs, key = s.parts[hi+1].script.needs, s.parts[hi+1].script.key
	}
	for i := hi; i >= 0; i-- {
		was := needsKey(nil)
		if i < len(m.parts)-1 {
			was = s.parts[i+1].script.key
		}
		if i < lo && key == was {
			break // nothing that it depends on has changed
		}
		ps, err := m.tryPart(s, i, needs, key == was)
		if err != nil {
			t.undo.put(s.p)
			return nil, err
		}
		needs, key = ps.script.needs, ps.script.key
		t.parts = append(t.parts, tried{i, ps})
		t.score += ps.score - s.parts[i].score
		for d := range t.bytes {
			t.bytes[d] += ps.bytes[d] - s.parts[i].bytes[d]
		}
	}
	m.retieTrial(s, t)
	if m.timed() {
		m.sumTimes(s, t)
	}
	if m.Workload.Quantile > 0 {
		t.score = m.quantile(t.times)
	}
	return t, nil
}

// tryPart prices one part of a trial, if it was not priced before.
func (m *model) tryPart(s *state, i int, needs []passes.Need, sameNeeds bool) (*partState, error) {
	c, l := m.parts[i], &s.p.Layers[m.layerOf(i)]
	if c.experts == 0 || c.slow || m.outside(c, l) {
		return m.evaluate(i, s.p, needs, m.reusable(s, m.trial.undo, i, sameNeeds))
	}
	script := m.reusable(s, m.trial.undo, i, sameNeeds)
	if script == nil {
		var err error
		if script, err = m.script(i, s.p, needs); err != nil {
			return nil, err
		}
	}
	m.homesKey(l.Experts)
	known := script.known[c]
	if ps := known[string(m.key8)]; ps != nil {
		return ps, nil
	}
	if m.memo == maxMemo { // all are forgotten: those that are asked for again come back soon
		m.forget()
		known = nil
	}
	if known == nil {
		known = make(map[string]*partState)
		script.known[c] = known
	}
	key := string(m.key8)
	m.counts.Layers++
	ps := m.follow(c, script, l)
	known[key] = ps
	m.memo++
	return ps, nil
}

// maxMemo bounds how many prices are kept.
const maxMemo = 1 << 15

// forget drops all prices that are kept.
func (m *model) forget() {
	for _, c := range m.parts {
		for _, s := range c.scripts {
			clear(s.known)
		}
	}
	m.memo = 0
}

// homesKey leaves in key8 where experts are.
func (m *model) homesKey(experts []placement.Expert) {
	k := scriptKey{b: m.key8[:0]}
	for _, copies := range experts {
		k.number(len(copies))
		k.splits(copies)
	}
	m.key8 = k.b
}

// reach returns the parts whose prices depend on an edit at first sight.
func (m *model) reach(s *state, e, undo edit) (lo, hi int) {
	lo, hi = len(m.parts), -1
	if n := len(e.layers); n > 0 {
		lo, hi = e.first+1, e.first+n
		if last := e.first + n - 1; !sameGroups(undo.layers[n-1].Groups, s.p.Layers[last].Groups) {
			hi++ // the next part takes what it reads from other devices
		}
		if e.first == 0 {
			lo = 0 // the prologue works with the groups of layer 0
		}
	}
	if e.embed != nil {
		lo, hi = 0, max(hi, 1) // layer 0 reads the embedding
	}
	if e.head != nil {
		lo, hi = min(lo, len(m.parts)-1), len(m.parts)-1
	}
	return lo, hi
}

// retieTrial corrects the bytes of what the prologue and the epilogue share.
func (m *model) retieTrial(s *state, t *trial) {
	first, last := s.parts[0], s.parts[len(s.parts)-1]
	a, b := first, last
	for _, p := range t.parts {
		switch p.at {
		case 0:
			a = p.partState
		case len(s.parts) - 1:
			b = p.partState
		}
	}
	if a != first || b != last {
		shared(first, last, t.bytes, 1)
		shared(a, b, t.bytes, -1)
	}
}

// keep makes a trial part of the state.
func (m *model) keepTrial(s *state, t *trial) {
	if m.timed() {
		copy(s.times, t.times)
	}
	for _, p := range t.parts {
		s.parts[p.at] = p.partState
	}
	s.score = t.score
	copy(s.bytes, t.bytes)
}

// drop undoes a trial.
func (m *model) drop(s *state, t *trial) { t.undo.put(s.p) }

// timed reports whether changes need to know the times of batches, not only the
// score.
func (m *model) timed() bool { return m.Workload.Quantile > 0 || len(m.limits) > 0 }

// sumTimes sums the times of each batch with a trial.
func (m *model) sumTimes(s *state, t *trial) {
	t.times = append(t.times[:0], s.times...)
	for _, p := range t.parts {
		for j, x := range p.times {
			t.times[j] += x - s.parts[p.at].times[j]
		}
	}
}

// clone copies a state, so that one of the two can be edited.
func (s *state) clone() *state {
	p := *s.p
	p.Layers = slices.Clone(s.p.Layers)
	return &state{p: &p, parts: slices.Clone(s.parts), times: slices.Clone(s.times), score: s.score, bytes: slices.Clone(s.bytes)}
}

// reusable returns the script of a part that has been edited if only homes of
// experts have changed, and not the set of devices that have any.
func (m *model) reusable(s *state, undo edit, i int, sameNeeds bool) *script {
	old := s.parts[i].script
	if i < 2 || i > m.layers() || old.pre == nil || !sameNeeds {
		return nil
	}
	was := func(l int) *placement.Layer {
		if l >= undo.first && l < undo.first+len(undo.layers) {
			return &undo.layers[l-undo.first]
		}
		return &s.p.Layers[l]
	}
	a, b := was(i-1), &s.p.Layers[i-1]
	same := sameGroups(a.Groups, b.Groups) && sameSplits(a.Attention, b.Attention) && sameSplits(a.Dense, b.Dense) &&
		sameGroups(was(i-2).Groups, s.p.Layers[i-2].Groups)
	if !same {
		return nil
	}
	if len(a.Experts) > 0 && &a.Experts[0] != &b.Experts[0] {
		if len(a.Groups) > 1 && a.Local() != b.Local() || deviceSet(a.Experts) != deviceSet(b.Experts) {
			return nil
		}
	}
	return old
}

func sameGroups(a, b [][]int) bool {
	if len(a) > 0 && len(b) > 0 && &a[0] == &b[0] {
		return len(a) == len(b)
	}
	return slices.EqualFunc(a, b, slices.Equal[[]int])
}

func sameSplits(a, b []placement.Split) bool {
	if len(a) > 0 && len(b) > 0 && &a[0] == &b[0] {
		return len(a) == len(b)
	}
	return slices.EqualFunc(a, b, slices.Equal[placement.Split])
}

// set is a set of devices.
type set [4]uint64

// maxDevices is how many devices a set has room for.
const maxDevices = 256

func deviceSet(experts []placement.Expert) set {
	var s set
	for _, e := range experts {
		for _, split := range e {
			for _, sh := range split {
				s[sh.Device/64] |= 1 << (sh.Device % 64)
			}
		}
	}
	return s
}
