// Package compiler runs the stages in order: description, graph, passes,
// plan.
//
// It holds no logic of its own beyond passing each stage's data to the next;
// the command line and the tests compile through it.
package compiler

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"moec/ir"
	"moec/planner/plan"
)

// Describe identifies a logical graph: what plan.Model says of it, without
// bindings.
func Describe(g *ir.Graph) plan.Model {
	m := plan.Model{Name: g.Name, Hash: Hash(g), Layers: g.Layers}
	for _, w := range g.Weights {
		m.Params += elements(w)
	}
	m.Active = m.Params - idle(g)
	for _, o := range g.Outputs {
		if s := o.Value.Type.Shape; o.Name == "logits" {
			m.Vocab = s.Last().N
		}
	}
	return m
}

func elements(w *ir.Weight) int64 { return w.Bytes() / int64(w.DType.Bytes()) }

// idle counts the parameters of experts that a token does not choose.
func idle(g *ir.Graph) int64 {
	slots := make(map[string]int) // weight to experts that a token uses
	for _, n := range g.Nodes {
		switch n.Op.Name {
		case "expert_matmul":
			slots[n.Args[1].Attrs.Text("name")] = n.Args[2].Type.Shape[1].N
		case "expert_rows":
			slots[n.Args[0].Attrs.Text("name")] = n.Args[1].Type.Shape[1].N
		}
	}
	var sum int64
	for _, w := range g.Weights {
		if k, ok := slots[w.Name]; ok && w.Experts > k {
			sum += elements(w) / int64(w.Experts) * int64(w.Experts-k)
		}
	}
	return sum
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
