package search

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"

	"moec/ir/placement"
)

// wayfinder collects other ways to place a run of layers.
type wayfinder struct {
	*explainer
	run  *PartRun
	old  placement.Layer
	seen map[string]bool
	list []*Other
}

// busy is how many of a layer's experts are moved, swapped and copied one by
// one: those that are chosen most. Swaps are with those chosen least.
const busy = 16

// candidates lists other ways: the layers of the named strategies, whole or one
// part of them, and single changes.
func (x *explainer) candidates(r *PartRun, hand []*Plan) []*Other {
	w := &wayfinder{explainer: x, run: r, old: x.state.p.Layers[r.First], seen: map[string]bool{}}
	w.seen[fmt.Sprint(w.old)] = true
	for _, h := range hand {
		if h.Place != nil && len(h.Place.Layers[0].Groups) == len(w.old.Groups) {
			w.strategy(h)
		}
	}
	w.splits()
	if x.parts[r.First+1].experts > 0 {
		w.allExperts()
		w.singleExperts()
	}
	return w.list
}

// add adds a way to place every layer of the run.
func (w *wayfinder) add(kind, name string, l placement.Layer) {
	key := fmt.Sprint(l)
	if w.seen[key] {
		return
	}
	w.seen[key] = true
	w.addLayers(kind, name, slices.Repeat([]placement.Layer{l}, int(w.run.Len())))
}

func (w *wayfinder) addLayers(kind, name string, layers []placement.Layer) {
	v := &mover{model: w.model}
	e := v.ends(w.state.p, edit{first: w.run.First, layers: layers})
	w.list = append(w.list, &Other{Name: name, kind: kind, edit: e})
}

// strategy adds the layers of a strategy, and parts of them on the same
// groups.
func (w *wayfinder) strategy(h *Plan) {
	layers := h.Place.Layers[w.run.First : w.run.Last+1]
	l := layers[0]
	alike := !slices.ContainsFunc(layers, func(o placement.Layer) bool { return !reflect.DeepEqual(o, l) })
	if !alike {
		w.addLayers("strategy", "as in "+h.Name, slices.Clone(layers))
		return
	}
	w.add("strategy", "as in "+h.Name, l)
	if !sameGroups(l.Groups, w.old.Groups) {
		return
	}
	c := w.old
	c.Attention = l.Attention
	w.add("attention", "attention as in "+h.Name, c)
	c = w.old
	c.Dense = l.Dense
	w.add("dense", "dense parts as in "+h.Name, c)
	c = w.old
	c.Experts = l.Experts
	w.add("experts", "experts as in "+h.Name, c)
}

// splits adds other splits of attention and dense parts in every group: even
// over the first devices, and copies.
func (w *wayfinder) splits() {
	s := w.Outline.Summary.Layers[w.run.First]
	most := 0
	for _, g := range w.old.Groups {
		most = max(most, len(g))
	}
	for n := 1; n <= most; n++ {
		var over, copies []placement.Split
		for _, g := range w.old.Groups {
			k := min(n, len(g))
			over = append(over, even(g[:k], w.segments()))
			copies = append(copies, copyOn(g[:k], w.segments()))
		}
		for _, kind := range []struct {
			text   string
			splits []placement.Split
		}{{"split over", over}, {"copied on", copies}} {
			text := fmt.Sprintf("%s %d of the devices", kind.text, n)
			if n == most {
				text = kind.text + " all devices"
			}
			if n == 1 {
				text = "on one device"
			}
			c := w.old
			if c.Attention = kind.splits; s.Attention > 0 {
				w.add("attention", "attention "+text, c)
			}
			c = w.old
			if c.Dense = kind.splits; s.Dense > 0 {
				w.add("dense", "dense parts "+text, c)
			}
		}
	}
}

// copyOn is a copy on each of the devices.
func copyOn(devices []int, segments int) placement.Split {
	var s placement.Split
	for _, d := range devices {
		s = append(s, placement.Share{Device: d, Lo: 0, Hi: segments})
	}
	return s
}

// allExperts adds ways that place all experts alike.
func (w *wayfinder) allExperts() {
	on := hosts(&w.old)
	v := &mover{model: w.model}
	divided, dealt, copied := w.old, w.old, w.old
	n := len(w.old.Experts)
	divided.Experts, dealt.Experts, copied.Experts = make([]placement.Expert, n), make([]placement.Expert, n), make([]placement.Expert, n)
	for e := range n {
		divided.Experts[e] = placement.Expert{even(on, w.segments())}
		dealt.Experts[e] = v.home(on[e*len(on)/n])
		for _, d := range on {
			copied.Experts[e] = append(copied.Experts[e], v.home(d)...)
		}
	}
	w.add("experts", "every expert divided between all devices", divided)
	w.add("experts", "experts dealt out in runs", dealt)
	if len(on) > 1 {
		w.add("experts", "every expert copied on all devices", copied)
	}
}

// singleExperts adds changes of one expert, or two.
func (w *wayfinder) singleExperts() {
	order := w.byUse()
	hot := order[:min(busy, len(order))]
	cold := order[max(0, len(order)-busy):]
	v := &mover{model: w.model}
	for _, e := range hot {
		old := w.old.Experts[e]
		for _, d := range hosts(&w.old) {
			w.expert("move", fmt.Sprintf("expert %d whole on device %d", e, d), e, v.home(d))
			if !holds(old, d) {
				w.expert("copy", fmt.Sprintf("expert %d also on device %d", e, d), e, append(slices.Clone(old), v.home(d)...))
			}
		}
		if len(old) > 1 {
			for k := range old {
				w.expert("drop", fmt.Sprintf("expert %d without copy %d", e, k), e, slices.Delete(slices.Clone(old), k, k+1))
			}
		}
		w.expert("divide", fmt.Sprintf("expert %d divided between all devices", e), e, placement.Expert{even(hosts(&w.old), w.segments())})
		for _, f := range cold {
			c := w.old
			c.Experts = slices.Clone(c.Experts)
			c.Experts[e], c.Experts[f] = c.Experts[f], c.Experts[e]
			w.add("swap", fmt.Sprintf("experts %d and %d swapped", min(e, f), max(e, f)), c)
		}
	}
}

// expert adds a way in which one expert is placed otherwise.
func (w *wayfinder) expert(kind, name string, e int, homes placement.Expert) {
	c := w.old
	c.Experts = slices.Clone(c.Experts)
	c.Experts[e] = homes
	w.add(kind, name, c)
}

// byUse lists the experts of the run's first layer, those chosen most first.
func (w *wayfinder) byUse() []int {
	order := upTo(len(w.old.Experts))
	weight := w.Stats.Layers[w.run.First].Weight
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(weight[b], weight[a]) })
	return order
}

// holds reports whether a device has a part of an expert.
func holds(e placement.Expert, device int) bool {
	return slices.ContainsFunc(e, func(s placement.Split) bool {
		return slices.ContainsFunc(s, func(sh placement.Share) bool { return sh.Device == device })
	})
}
