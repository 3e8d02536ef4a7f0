// Package compiler runs the stages in order: description, graph, passes,
// plan.
//
// It holds no logic of its own beyond passing each stage's data to the next;
// the command line and the tests compile through it.
package compiler

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"moec/ir"
	"moec/planner/plan"
)

// Describe identifies a logical graph: what plan.Model says of it, without
// bindings. Weights that are declared and not read are not parameters.
func Describe(g *ir.Graph) plan.Model {
	m := plan.Model{Name: g.Name, Hash: Hash(g), Layers: g.Layers}
	live := live(g)
	slots := slots(live)
	for _, n := range live {
		if n.Op.Name != "weight" {
			continue
		}
		w := g.Weight(n.Attrs.Text("name"))
		m.Params += elements(w)
		m.Active += elements(w)
		if k, ok := slots[w.Name]; ok && w.Experts > k { // a token does not choose the others
			m.Active -= elements(w) / int64(w.Experts) * int64(w.Experts-k)
		}
	}
	for _, o := range g.Outputs {
		if s := o.Value.Type.Shape; o.Name == "logits" {
			m.Vocab = s.Last().N
		}
	}
	return m
}

func elements(w *ir.Weight) int64 { return w.Bytes() / int64(w.DType.Bytes()) }

// live returns the nodes that outputs or effects need.
func live(g *ir.Graph) []*ir.Node {
	needed := make(map[*ir.Node]bool, len(g.Nodes))
	for _, o := range g.Outputs {
		needed[o.Value] = true
	}
	var list []*ir.Node
	for _, n := range slices.Backward(g.Nodes) {
		if needed[n] || n.Op.Has(ir.Effect) {
			list = append(list, n)
			for _, a := range n.Args {
				needed[a] = true
			}
		}
	}
	return list
}

// slots returns how many experts of a weight a token uses.
func slots(nodes []*ir.Node) map[string]int {
	slots := make(map[string]int)
	for _, n := range nodes {
		switch n.Op.Name {
		case "expert_matmul":
			slots[n.Args[1].Attrs.Text("name")] = n.Args[2].Type.Shape[1].N
		case "expert_rows":
			slots[n.Args[0].Attrs.Text("name")] = n.Args[1].Type.Shape[1].N
		}
	}
	return slots
}

// Hash identifies the bound description: weights with their keys, shapes and
// types, and what is computed from them. Names and places in the source do
// not count, nor does the model's name, so that checkpoints of one
// architecture share plans.
func Hash(g *ir.Graph) string {
	bare := *g
	bare.Name = ""
	bare.Numerics = ir.Numerics{}
	bare.Nodes = nil
	copies := make(map[*ir.Node]*ir.Node, len(g.Nodes))
	for i, n := range g.Nodes {
		c := &ir.Node{Op: n.Op, Attrs: n.Attrs, Type: n.Type, Layer: n.Layer, Device: n.Device, Group: n.Group}
		for _, a := range n.Args {
			c.Args = append(c.Args, copies[a])
		}
		copies[n] = c
		bare.Insert(c, int64(i))
	}
	bare.Outputs = nil
	for _, o := range g.Outputs {
		bare.Outputs = append(bare.Outputs, ir.Output{Name: o.Name, Group: o.Group, Value: copies[o.Value]})
	}
	var text strings.Builder
	text.WriteString(ir.Print(&bare))
	sum := sha256.Sum256([]byte(text.String()))
	return hex.EncodeToString(sum[:])
}
