package prove_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"moec/planner/mutate"
	"moec/planner/plan"
	"moec/planner/prove"
)

// damage breaks a plan without breaking its types.
type damage struct {
	name    string
	subject string        // of the table below
	do      func(e *edit) // what is done
	kind    prove.Kind    // of the mismatch; "" takes any
	at      []string      // what the message says
}

// edit is a plan that is being damaged.
type edit struct {
	*plan.Plan
	t *testing.T
}

// block returns a block of the first program.
func (e *edit) block(name string) *plan.Block {
	for i := range e.Programs[0].Blocks {
		if b := &e.Programs[0].Blocks[i]; b.Name == name {
			return b
		}
	}
	e.t.Fatalf("no block %s", name)
	return nil
}

func (e *edit) queue(block string, device int) *plan.Queue {
	b := e.block(block)
	for i := range b.Queues {
		if b.Queues[i].Device == device {
			return &b.Queues[i]
		}
	}
	e.t.Fatalf("%s: no queue for device %d", block, device)
	return nil
}

// steps lists the steps of a device's queue with an op, those of bodies too.
func (e *edit) steps(block string, device int, op string) []*plan.Step {
	var list []*plan.Step
	q := e.queue(block, device)
	for i := range q.Steps {
		for _, s := range append([]*plan.Step{&q.Steps[i]}, pointers(q.Steps[i].Body)...) {
			if s.Op == op {
				list = append(list, s)
			}
		}
	}
	return list
}

func pointers(list []plan.Step) []*plan.Step {
	out := make([]*plan.Step, len(list))
	for i := range list {
		out[i] = &list[i]
	}
	return out
}

// step returns the n-th step of a device's queue with an op.
func (e *edit) step(block string, device int, op string, n int) *plan.Step {
	list := e.steps(block, device, op)
	if n >= len(list) {
		e.t.Fatalf("%s: device %d: %d steps %s", block, device, len(list), op)
	}
	return list[n]
}

// everywhere calls f with the n-th step of an op on every device of a block.
func (e *edit) everywhere(block, op string, n int, f func(*plan.Step)) {
	for _, q := range e.block(block).Queues {
		f(e.step(block, q.Device, op, n))
	}
}

// weight returns what a device keeps under a name that contains text.
func (e *edit) weight(device int, text string) *plan.Weight {
	for i := range e.Weights {
		if w := &e.Weights[i]; w.Device == device && strings.Contains(w.Name, text) {
			return w
		}
	}
	e.t.Fatalf("device %d: no weight %s", device, text)
	return nil
}

// buffer returns a buffer of a block or of the program.
func (e *edit) buffer(block string, device int, name string) *plan.Buffer {
	for _, list := range [][]plan.Buffer{e.block(block).Buffers, e.Programs[0].Buffers} {
		for i := range list {
			if list[i].Device == device && list[i].Name == name {
				return &list[i]
			}
		}
	}
	e.t.Fatalf("%s: device %d: no buffer %s", block, device, name)
	return nil
}

// remove takes a step out of its queue.
func (e *edit) remove(block string, device int, s *plan.Step) {
	q := e.queue(block, device)
	for i := range q.Steps {
		if &q.Steps[i] == s {
			q.Steps = slices.Delete(q.Steps, i, i+1)
			return
		}
	}
	e.t.Fatalf("%s: device %d: step is not in the queue", block, device)
}

func set(name string, value any) func(*plan.Step) {
	return func(s *plan.Step) { s.Attrs = s.Attrs.With(name, value) }
}

var damages = []damage{
	{"keys and values are exchanged", "tp", func(e *edit) {
		s := e.step("layer0", 1, "kv_append", 0)
		s.Args[0], s.Args[1] = s.Args[1], s.Args[0]
	}, prove.Value, []string{"layer0: device 1", "(attention) in layer 0"}},
	{"keys are turned by their sequences", "pp", func(e *edit) {
		s := e.step("layer0", 0, "rope", 1)
		s.Args[1].Name = "sequences"
		e.queue("layer0", 0).Steps[5].Args[1].Name = "sequences"
	}, prove.Value, []string{"layer0: device 0: step 5, body 0 (rope)"}},
	{"an operand of an all_reduce is dropped", "tp", func(e *edit) {
		e.everywhere("layer0", "all_reduce", 0, func(s *plan.Step) {
			s.Args = s.Args[:1]
			s.Attrs = s.Attrs.With("spans", s.Attrs.Sets("spans")[:1])
		})
	}, prove.Value, []string{"layer0: device", "(all_reduce) in layer 0"}},
	{"two experts of one device are exchanged", "ep", func(e *edit) {
		w := e.weight(1, "swiglu.w2")
		w.Parts[0].Experts = []int{w.Parts[0].Experts[1], w.Parts[0].Experts[0]}
	}, prove.Value, []string{"layer0: device 1", "(expert_matmul)", "swiglu.w2"}},
	{"two devices exchange an expert's down projection", "ep", func(e *edit) {
		a, b := e.weight(0, "swiglu.w2"), e.weight(1, "swiglu.w2")
		a.Parts[0].Experts[0], b.Parts[0].Experts[0] = b.Parts[0].Experts[0], a.Parts[0].Experts[0]
	}, prove.Value, []string{"(expert_matmul)", "swiglu.w2"}},
	{"eps is another", "ep", func(e *edit) { set("eps", 1e-6)(e.step("layer0", 0, "rms_norm", 1)) },
		prove.Value, []string{"layer0: device 0", "(rms_norm) in layer 0", "eps"}},
	{"scale is another", "tp", func(e *edit) { set("scale", 0.25)(e.step("layer2", 1, "attention", 0)) },
		prove.Value, []string{"layer2: device 1", "(attention) in layer 2", "scale"}},
	{"window is another", "tp", func(e *edit) { e.everywhere("layer0", "attention", 0, set("window", 5)) },
		prove.Value, []string{"(attention) in layer 0", "window"}},
	{"scores are capped", "sinks", func(e *edit) { e.everywhere("layer1", "attention", 0, set("softcap", 30.0)) },
		prove.Value, []string{"(attention) in layer 1", "softcap"}},
	{"a sink is left out", "sinks", func(e *edit) {
		s := e.step("layer1", 1, "attention", 0)
		s.Args = s.Args[:4]
	}, prove.Value, []string{"layer1: device 1", "(attention) in layer 1"}},
	{"rope has another base", "tp", func(e *edit) { e.Consts[0].Values[1] /= 2 },
		prove.Value, []string{"(rope) in layer 0"}},
	{"rope pairs other entries", "pp", func(e *edit) { set("style", "interleaved")(e.step("layer2", 1, "rope", 1)) },
		prove.Value, []string{"layer2: device 1", "(rope) in layer 2"}},
	{"caches of layers overlap", "pp", func(e *edit) { e.Caches[0].Stride -= 256 },
		prove.Value, []string{"(attention) in layer", "cache layers.", "overwritten by", "which gives its bytes to cache layers."}},
	{"caches of all layers are one", "tp", func(e *edit) { e.Caches[1].Stride = 0 },
		prove.Value, []string{"device 1", "(attention) in layer", "cache layers."}},
	{"pages are longer than the cache has room for", "tp", func(e *edit) { e.Limits.Page *= 2 },
		"", []string{"was overwritten by", "which gives its bytes to cache layers."}},
	{"a buffer is used again too early", "tp", func(e *edit) {
		dead, live := e.step("layer0", 0, "attention", 0), e.step("layer0", 0, "add", 0)
		e.buffer("layer0", 0, dead.Out).Offset = e.buffer("layer0", 0, live.Args[0].Name).Offset
	}, prove.Value, []string{"x0 of device 0 lost what it held at the beginning of layer0: device 0", "which gives its bytes to b7"}},
	{"a result is over an operand", "pp", func(e *edit) {
		s := e.step("layer0", 0, "dispatch", 0)
		e.buffer("layer0", 0, s.Out).Offset = e.buffer("layer0", 0, s.Args[0].Name).Offset
	}, prove.Race, []string{"layer0: device 0", "(dispatch)", "over its operand"}},
	{"two layers exchange a norm", "pp", func(e *edit) {
		w := e.weight(0, "layers.{layer}.n1")
		other := *w
		other.Layers, w.Layers = plan.Range{First: 0, Last: 0}, plan.Range{First: 1, Last: 1}
		other.Offset, w.Offset = w.Offset, w.Offset+w.Stride
		other.Parts, w.Parts = slices.Clone(w.Parts), slices.Clone(w.Parts)
		other.Parts[0].Weight, w.Parts[0].Weight = "layers.1.n1", "layers.0.n1"
		e.Weights = append(e.Weights, other)
	}, prove.Value, []string{"layer0: device 0: step 0, body 0 (rms_norm) in layer 0", "weight layers.1.n1"}},
	{"a slice begins one entry late", "pp", func(e *edit) {
		s := e.step("layer0", 0, "slice", 1)
		s.Attrs = s.Attrs.With("lo", s.Attrs.Int("lo", 0)+1).With("hi", s.Attrs.Int("hi", 0)+1)
	}, prove.Value, []string{"layer0: device 0", "(rope) in layer 0", "entries of"}},
	{"a weight's slice begins one entry late", "tp", func(e *edit) {
		p := &e.weight(0, "attention.wo").Parts[0]
		p.Slice[1][0], p.Slice[1][1] = p.Slice[1][0]+1, p.Slice[1][1]+1
	}, prove.Value, []string{"layer0: device 0", "(matmul_nodes) in layer 0"}},
	{"gate and up are exchanged", "tp", func(e *edit) {
		s := e.step("layer0", 1, "silu", 0)
		m := e.step("layer0", 1, "mul", 0)
		s.Args[0].Name, m.Args[1].Name = m.Args[1].Name, s.Args[0].Name
	}, prove.Value, []string{"layer0: device 1", "(silu) in layer 0"}},
	{"another function", "ep", func(e *edit) { e.step("layer2", 2, "silu", 0).Op = "gelu" },
		prove.Value, []string{"layer2: device 2", "(gelu) in layer 2"}},
	{"a value is read before it is rounded", "pp", func(e *edit) {
		r, m := e.step("layer0", 0, "round", 0), e.step("layer0", 0, "matmul", 0)
		if m.Args[0].Name != r.Out {
			e.t.Fatal("the first matmul does not read what is rounded first")
		}
		m.Args[0] = r.Args[0]
	}, prove.Value, []string{"layer0: device 0: step 0, body 2 (matmul) in layer 0"}},
	{"another leaf", "tp", func(e *edit) { set("leaf", 4)(e.step("layer0", 0, "expert_matmul_nodes", 0)) },
		prove.Value, []string{"layer0: device 0", "(expert_matmul_nodes) in layer 0", "leaf=4"}},
	{"a sum lists its parts in another order", "tp", func(e *edit) {
		e.everywhere("layer0", "all_reduce", 1, set("spans", [][]int{{4, 8}, {0, 4}}))
	}, prove.Fault, []string{"(all_reduce) in layer 0", "takes operand 0 for leaves [4 8] of 8; it holds [0 4] of 8"}},
	{"two devices exchange their leaves", "tp", func(e *edit) {
		set("leaf", 4)(e.step("layer0", 0, "expert_matmul_nodes", 0))
		set("leaf", 0)(e.step("layer0", 1, "expert_matmul_nodes", 0))
		e.everywhere("layer0", "all_reduce", 1, set("spans", [][]int{{4, 8}, {0, 4}}))
	}, prove.Value, []string{"(expert_matmul_nodes) in layer 0"}},
	{"a segment ends elsewhere", "tp", func(e *edit) { set("bounds", []int{0, 2, 3, 4, 6})(e.step("layer0", 1, "expert_matmul_nodes", 0)) },
		prove.Value, []string{"layer0: device 1", "(expert_matmul_nodes) in layer 0"}},
	{"queries read another KV head", "tp", func(e *edit) { set("q_first", 1)(e.step("layer0", 0, "attention", 0)) },
		prove.Value, []string{"layer0: device 0", "(attention) in layer 0", "q_first"}},
	{"KV heads are numbered otherwise", "tp", func(e *edit) { set("kv_first", 0)(e.step("layer0", 1, "attention", 0)) },
		"", []string{"layer0: device 1", "(attention)"}},
	{"more experts for each token", "latent", func(e *edit) { set("top_groups", 2)(e.step("layer1", 0, "topk", 0)) },
		prove.Value, []string{"layer1: device 0", "(topk) in layer 1"}},
	{"shares of the scores with the bias", "latent", func(e *edit) {
		s := e.step("layer1", 0, "gather", 0)
		s.Args[0].Name = e.step("layer1", 0, "sigmoid", 0).Args[0].Name
	}, "", []string{"layer1: device 0", "(gather)"}},
	{"the residual is of another value", "ep", func(e *edit) {
		s := e.step("layer0", 1, "add", 1)
		for i := range s.Args {
			if s.Args[i].Name == "b11" || strings.HasPrefix(s.Args[i].Name, "b") {
				s.Args[i].Name = "x0"
				break
			}
		}
	}, "", []string{"layer0: device 1"}},
	{"a norm has no weight", "dp", func(e *edit) {
		s := e.step("end", 0, "rms_norm", 0)
		s.Args = s.Args[:1]
	}, prove.Value, []string{"end: device 0", "(rms_norm)"}},
	{"a norm has another norm's weight", "adp", func(e *edit) {
		s := e.step("layer0", 1, "fused", 0)
		s.Args[1].Name = strings.Replace(s.Args[1].Name, "n1", "n2", 1)
		s.Body[0].Args[1].Name = s.Args[1].Name
	}, prove.Value, []string{"layer0: device 1: step 0, body 0 (rms_norm) in layer 0", "n2"}},
	{"shards are gathered in another order", "tp", func(e *edit) {
		e.everywhere("begin", "all_gather", 0, func(s *plan.Step) { s.Args[0], s.Args[1] = s.Args[1], s.Args[0] })
	}, prove.Value, []string{"layer0: device", "(rms_norm) in layer 0", "entries of"}},
	{"token groups are gathered in another order", "adp", func(e *edit) {
		e.everywhere("layer0", "all_gather", 0, func(s *plan.Step) { s.Args[0], s.Args[1] = s.Args[1], s.Args[0] })
	}, prove.Form, []string{"(all_gather)"}},
	{"a group takes another group's rows", "adp", func(e *edit) { set("group", 0)(e.step("layer0", 1, "own_rows", 0)) },
		prove.Form, []string{"layer0: device 1", "(own_rows)"}},
	{"shares that are not divided by their sum", "pp", func(e *edit) {
		s := e.step("layer0", 0, "div", 0)
		s.Args[1].Name = e.step("layer0", 0, "sum", 0).Args[0].Name
	}, prove.Value, []string{"layer0: device 0", "(combine) in layer 0"}},
	{"a combination has no shares of its own", "tp", func(e *edit) {
		s := e.step("layer2", 0, "combine", 0)
		s.Args[2].Name = e.step("layer2", 0, "gather", 0).Out
	}, "", []string{"layer2: device 0", "(combine)"}},
	{"words are looked up in the output's table", "pp", func(e *edit) {
		e.step("begin", 0, "embed", 0).Args[1].Name = "unembed"
		w := *e.weight(1, "unembed")
		w.Device, w.Offset = 0, e.weight(0, "embedding").Offset
		e.Weights = append(e.Weights, w)
	}, prove.Value, []string{"layer0: device 0", "(rms_norm) in layer 0", "of x0, entries of weight unembed"}},
	{"layers run in another order", "pp", func(e *edit) {
		e.Programs[0].Runs = []plan.Run{{Block: "begin", Layers: plan.NoLayers}, {Block: "layer0", Layers: plan.Range{First: 1, Last: 1}},
			{Block: "layer0", Layers: plan.Range{First: 0, Last: 0}}, {Block: "layer2", Layers: plan.Range{First: 2, Last: 2}}, {Block: "end", Layers: plan.NoLayers}}
	}, prove.Value, []string{"layer0: device 0: step 0, body 0 (rms_norm) in layer 1"}},
	{"a layer is left out", "pp", func(e *edit) { e.Programs[0].Runs[1].Layers.Last = 0 },
		prove.Value, []string{"layer2: device 1", "(rms_norm) in layer 2"}},
	{"keys are not stored", "dp", func(e *edit) {
		e.remove("layer0", 1, e.step("layer0", 1, "kv_append", 0))
	}, prove.Value, []string{"layer0: device 1", "(attention)", "cache layers."}},
	{"keys are stored after they are read", "dp", func(e *edit) {
		q := e.queue("layer0", 1)
		i := slices.IndexFunc(q.Steps, func(s plan.Step) bool { return s.Op == "kv_append" })
		q.Steps[i], q.Steps[i+1] = q.Steps[i+1], q.Steps[i]
	}, prove.Value, []string{"layer0: device 1", "(attention)", "cache layers."}},
	{"a send is left out", "pp", func(e *edit) {
		e.remove("layer2", 0, e.step("layer2", 0, "send", 0))
	}, prove.Race, []string{"layer2: device 1: step 0 (transfer) in layer 2", "x0"}},
	{"another value is sent and taken", "tp", func(e *edit) {
		e.everywhere("layer0", "all_reduce", 0, func(s *plan.Step) { s.Args[1].Name = e.step("layer0", 1, "all_reduce", 0).Args[0].Name })
	}, "", []string{"layer0: device"}},
	{"two collectives change places", "tp", func(e *edit) {
		a, b := e.step("layer0", 1, "all_reduce", 0), e.step("layer0", 1, "all_reduce", 1)
		x, y := a.Attrs.Int("channel", 0), b.Attrs.Int("channel", 0)
		set("channel", y)(a)
		set("channel", x)(b)
	}, prove.Deadlock, []string{"wait for ever", "device 0", "device 1", "channel"}},
	{"a member writes what another reads", "tp", func(e *edit) {
		s := e.step("layer0", 0, "all_reduce", 0)
		e.buffer("layer0", 0, s.Out).Offset = e.buffer("layer0", 0, s.Args[0].Name).Offset
	}, prove.Race, []string{"layer0: device 0", "(all_reduce)", "reads in the same collective"}},
	{"a step reads another device without meeting it", "tp", func(e *edit) {
		s := e.step("layer0", 0, "combine", 0)
		s.Args[2].Name = e.step("layer0", 1, "combine", 0).Args[2].Name
		s.Args[2].Device = 1
	}, prove.Race, []string{"layer0: device 0", "(combine)", "of device 1"}},
	{"the logits are another device's", "dp", func(e *edit) {
		o := e.Programs[0].Outputs
		o[0].Device, o[1].Device = o[1].Device, o[0].Device
		o[0].Buffer, o[1].Buffer = o[1].Buffer, o[0].Buffer
	}, "", []string{"logits"}},
	{"a copy of an expert serves another copy's turn", "turns", func(e *edit) {
		for i := range e.Programs[0].Blocks {
			b := &e.Programs[0].Blocks[i]
			for _, q := range b.Queues {
				for _, op := range []string{"expert_matmul", "combine_nodes", "expert_rows"} {
					for _, s := range e.steps(b.Name, q.Device, op) {
						takeTurn(s)
					}
				}
			}
		}
	}, prove.Value, []string{"(all_reduce)"}},
}

// takeTurn makes every copy of an expert that serves every other token serve
// the even ones.
func takeTurn(s *plan.Step) {
	sets := s.Attrs.Sets("turns")
	if sets == nil {
		return
	}
	turns := slices.Clone(sets)
	for i, turn := range turns {
		if turn[1] == 2 {
			turns[i] = []int{0, 2}
		}
	}
	s.Attrs = s.Attrs.With("turns", turns)
}

// TestDamages breaks plans by hand, and looks at what is said of each.
func TestDamages(t *testing.T) {
	table := []string{fmt.Sprintf("%-50s %-7s %-9s %-8s %s", "damage", "verify", "intervals", "check", "message")}
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			r := subject(t, d.subject)
			e := &edit{mutate.Clone(r.Plan), t}
			d.do(e)
			followed := "-"
			if prove.Intervals(e.Plan, r.Logical) != nil {
				followed = "refuses"
			}
			_, err := prove.Check(e.Plan, r.Logical, prove.Options{Seed: 3})
			var m *prove.Mismatch
			if !errors.As(err, &m) {
				t.Fatalf("%v", err)
			}
			if d.kind != "" && m.Kind != d.kind {
				t.Errorf("kind %s, want %s: %v", m.Kind, d.kind, err)
			}
			for _, part := range d.at {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("does not say %q: %v", part, err)
				}
			}
			table = append(table, fmt.Sprintf("%-50s %-7s %-9s %-8s %s", d.name, verified(e.Plan), followed, m.Kind, err))
		})
	}
	t.Log("\n" + strings.Join(table, "\n"))
}

// TestDamagesOfRealSize breaks Mixtral's own sizes by one entry, or by one
// device's share: dividing must not hide it.
func TestDamagesOfRealSize(t *testing.T) {
	r := shallow(t)
	for _, d := range []damage{
		{"a slice begins one entry late", "", func(e *edit) {
			s := e.step("layer0", 3, "slice", 1)
			s.Attrs = s.Attrs.With("lo", s.Attrs.Int("lo", 0)+1).With("hi", s.Attrs.Int("hi", 0)+1)
		}, prove.Value, []string{"layer0: device 3", "(rope) in layer 0"}},
		{"a weight begins one share late", "", func(e *edit) {
			w := e.weight(2, "swiglu.w2")
			for i := range w.Parts {
				w.Parts[i].Slice[2] = slices.Clone(e.weight(3, "swiglu.w2").Parts[i].Slice[2])
			}
		}, prove.Value, []string{"layer0: device 2", "(expert_matmul_nodes) in layer 0"}},
		{"a segment ends one entry early", "", func(e *edit) {
			s := e.step("layer0", 1, "expert_matmul_nodes", 0)
			bounds := slices.Clone(s.Attrs.Ints("bounds"))
			bounds[1]--
			s.Attrs = s.Attrs.With("bounds", bounds)
		}, prove.Value, []string{"layer0: device 1", "(expert_matmul_nodes) in layer 0"}},
		{"one expert of the last layers is another", "", func(e *edit) {
			w := e.weight(0, "swiglu.w1")
			w.Parts[1].Experts = slices.Clone(w.Parts[1].Experts)
			w.Parts[1].Experts[6], w.Parts[1].Experts[7] = 7, 6
		}, prove.Value, []string{"layer0: device 0", "(expert_matmul) in layer 0"}},
		{"one frequency is another", "", func(e *edit) { e.Consts[0].Values[63] *= 1.0001 }, prove.Value, []string{"(rope) in layer 0"}},
	} {
		e := &edit{mutate.Clone(r.Plan), t}
		d.do(e)
		for name, check := range map[string]func(*plan.Plan) error{
			"check":     func(p *plan.Plan) error { _, err := prove.Check(p, r.Logical, prove.Options{Seed: 2}); return err },
			"intervals": func(p *plan.Plan) error { return prove.Intervals(p, r.Logical) },
		} {
			err := check(e.Plan)
			var m *prove.Mismatch
			if !errors.As(err, &m) {
				t.Fatalf("%s: %s: %v", d.name, name, err)
			}
			for _, part := range d.at {
				if name == "check" && !strings.Contains(err.Error(), part) {
					t.Errorf("%s: does not say %q: %v", d.name, part, err)
				}
			}
			t.Logf("%s: %s: %v", d.name, name, err)
		}
	}
}

// verified returns the first rule that a plan breaks, if any.
func verified(p *plan.Plan) string {
	var v *plan.VerifyError
	if err := plan.Verify(p); errors.As(err, &v) {
		return v.Problems[0].Rule
	}
	return "-"
}
