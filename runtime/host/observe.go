package host

import (
	"fmt"
	"strings"

	"moec/ir/tensor"
	"moec/planner/plan"
	"moec/runtime/step"
)

// Choice is what a layer chooses for each token: so many of its experts. Both
// are 0 in a layer without.
type Choice struct {
	Experts, Slots int
}

// Observer is told after a step which experts its tokens chose: chosen[l] has
// the choices of layer l, slot by slot and best first, for the tokens of all
// groups one after the other. It holds -1 for a token that the layer did not
// choose for, and is empty for a layer without experts. The lists are the
// observer's until it returns.
type Observer func(s *step.Step, chosen [][]int32)

// Observe has f told of every step from now on, and returns what each layer
// chooses. Nothing that is computed depends on it: the choices are copied when
// the step that makes them is done, before its buffer is used again.
func (g *Program) Observe(f Observer) ([]Choice, error) {
	o := &observation{f: f, choices: make([]Choice, g.plan.Model.Layers)}
	totals := g.expertLayers()
	for _, d := range g.devices {
		for i := range d.turns {
			if t := &d.turns[i]; totals[t.layer] > 0 {
				if err := o.watch(t, totals[t.layer]); err != nil {
					return nil, err
				}
			}
		}
	}
	for l := range o.choices {
		if totals[l] > 0 && o.choices[l].Slots == 0 {
			return nil, fmt.Errorf("layer %d has experts, but no step of the plan chooses among all %d of them: its choices cannot be observed", l, totals[l])
		}
	}
	for _, w := range o.watches {
		w.call.watch = w
	}
	g.observed = o
	return o.choices, nil
}

// expertLayers returns how many experts each layer adds up.
func (g *Program) expertLayers() map[int]int {
	totals := make(map[int]int)
	for _, d := range g.devices {
		for i := range d.turns {
			eachCall(d.turns[i].calls, func(c *call) {
				if strings.HasPrefix(c.step.Op, "combine") && d.turns[i].layer >= 0 {
					totals[d.turns[i].layer] = c.step.Attrs.Int("total", 0)
				}
			})
		}
	}
	return totals
}

// eachCall visits calls and the bodies of fused ones.
func eachCall(calls []*call, f func(*call)) {
	for _, c := range calls {
		f(c)
		eachCall(c.body, f)
	}
}

// observation is what Observe set up.
type observation struct {
	f       Observer
	choices []Choice
	watches []*watch
}

// watch copies the result of one step that chooses experts.
type watch struct {
	call  *call
	layer int
	slots int
	rows  tensor.Sym // whose rows: tokens or wanted rows, of all groups or one
	ids   []int32
}

// watch finds the step of a turn that chooses among all experts of its layer.
// Where several devices choose for the same rows, the first is watched.
func (o *observation) watch(t *turn, total int) (err error) {
	eachCall(t.calls, func(c *call) {
		if c.step.Op != "topk" || len(c.args[0].Shape) != 2 || c.args[0].Shape[1].N != total {
			return
		}
		w := &watch{call: c, layer: t.layer, slots: c.out.Shape[1].N, rows: c.out.Shape.Sym()}
		for _, other := range o.watches {
			if other.layer != w.layer || other.rows != w.rows {
				continue
			}
			if other.call.device == c.device {
				err = fmt.Errorf("layer %d chooses among its experts more than once: only one choice a layer can be observed", t.layer)
			}
			return
		}
		o.watches = append(o.watches, w)
		o.choices[t.layer] = Choice{total, w.slots}
	})
	return err
}

// take copies the choices that a call just made.
func (w *watch) take(c *call) {
	n := product(c.outDims())
	w.ids = append(w.ids[:0], c.out.i32(n)...)
}

// tell gives the choices of a step to the observer.
func (o *observation) tell(s *step.Step) {
	tokens := 0
	first := make([]int, len(s.Groups)) // token of each group
	for i := range s.Groups {
		first[i] = tokens
		tokens += len(s.Groups[i].Tokens)
	}
	chosen := make([][]int32, len(o.choices))
	for l, c := range o.choices {
		chosen[l] = make([]int32, tokens*c.Slots)
		for i := range chosen[l] {
			chosen[l][i] = -1
		}
	}
	for _, w := range o.watches {
		k, row := w.slots, 0
		for i := range s.Groups {
			if g := w.rows.Group(); g >= 0 && g != i {
				continue
			}
			for _, t := range rowTokens(&s.Groups[i], w.rows) {
				copy(chosen[w.layer][(first[i]+t)*k:][:k], w.ids[row*k:])
				row++
			}
		}
	}
	o.f(s, chosen)
}

// rowTokens lists the tokens of a group that the rows of a result belong to.
func rowTokens(g *step.Group, rows tensor.Sym) []int {
	var list []int
	if rows.Base() == tensor.Rows {
		for _, t := range g.Rows {
			list = append(list, int(t))
		}
		return list
	}
	for t := range g.Tokens {
		list = append(list, t)
	}
	return list
}

// layerOf names the layer of a turn: -1 outside the layers.
func layerOf(run plan.Run, i int) int {
	if run.Layers == plan.NoLayers {
		return -1
	}
	return run.Layers.First + i
}
