package plan_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"moec/ir"
	"moec/ir/placement"
	"moec/ir/tensor"
	"moec/planner/plan"
)

// mutant is a change to an honest plan that a rule must see.
type mutant struct {
	rule, sample, name string
	change             func(e *edit)
}

// edit is a plan that is being changed.
type edit struct {
	t testing.TB
	*plan.Plan
}

func (e *edit) block(name string) *plan.Block {
	for i := range e.Programs[0].Blocks {
		if b := &e.Programs[0].Blocks[i]; b.Name == name {
			return b
		}
	}
	e.t.Fatalf("no block %q", name)
	return nil
}

func (e *edit) queue(block string, device int) *plan.Queue {
	b := e.block(block)
	for i := range b.Queues {
		if b.Queues[i].Device == device {
			return &b.Queues[i]
		}
	}
	e.t.Fatalf("no queue of device %d in %q", device, block)
	return nil
}

// at finds the n-th step with an op, counted from 0.
func (e *edit) at(block string, device int, op string, n int) int {
	q := e.queue(block, device)
	for i := range q.Steps {
		if q.Steps[i].Op == op {
			if n--; n < 0 {
				return i
			}
		}
	}
	e.t.Fatalf("no such %s in %s of device %d", op, block, device)
	return -1
}

func (e *edit) step(block string, device int, op string, n int) *plan.Step {
	return &e.queue(block, device).Steps[e.at(block, device, op, n)]
}

// drop removes a step.
func (e *edit) drop(block string, device int, op string, n int) {
	q, i := e.queue(block, device), e.at(block, device, op, n)
	q.Steps = slices.Delete(q.Steps, i, i+1)
}

// move puts a step before another place in the queue.
func (e *edit) move(block string, device, from, to int) {
	q := e.queue(block, device)
	s := q.Steps[from]
	q.Steps = slices.Delete(q.Steps, from, from+1)
	q.Steps = slices.Insert(q.Steps, to, s)
}

// swap exchanges two steps.
func (e *edit) swap(block string, device, a, b int) {
	q := e.queue(block, device)
	q.Steps[a], q.Steps[b] = q.Steps[b], q.Steps[a]
}

// buffer finds a buffer of the block or of the program.
func (e *edit) buffer(block string, device int, name string) *plan.Buffer {
	for _, list := range [][]plan.Buffer{e.block(block).Buffers, e.Programs[0].Buffers} {
		for i := range list {
			if list[i].Name == name && list[i].Device == device {
				return &list[i]
			}
		}
	}
	e.t.Fatalf("no buffer %q of device %d in %q", name, device, block)
	return nil
}

// weight finds the weight of a device whose name ends so.
func (e *edit) weight(device int, suffix string) *plan.Weight {
	for i := range e.Weights {
		if w := &e.Weights[i]; w.Device == device && strings.HasSuffix(w.Name, suffix) {
			return w
		}
	}
	e.t.Fatalf("no weight %q on device %d", suffix, device)
	return nil
}

func (e *edit) set(block string, device int, op string, n int, name string, value any) {
	s := e.step(block, device, op, n)
	s.Attrs = s.Attrs.With(name, value)
}

// all changes the n-th step with an op on every device.
func (e *edit) all(block, op string, n int, f func(s *plan.Step)) {
	b := e.block(block)
	for i := range b.Queues {
		f(e.step(block, b.Queues[i].Device, op, n))
	}
}

// over puts the result of a step over a buffer of the same device.
func (e *edit) over(block string, device int, op string, n int, other string) {
	out := e.buffer(block, device, e.step(block, device, op, n).Out)
	out.Offset = e.buffer(block, device, other).Offset
}

const body = "layer0" // the block of the folded layers

// mutants has a row for each mutant, by rule.
var mutants = slices.Concat(formMutants, memoryMutants, pageMutants, channelMutants, flowMutants, typeMutants, shardMutants, orderMutants, sumMutants)

var formMutants = []mutant{
	{"V24", "tensor", "the machine has one device", func(e *edit) { e.Machine.Devices = 1 }},
	{"V24", "tensor", "a queue is on device 7", func(e *edit) { e.queue(body, 1).Device = 7 }},
	{"V24", "tensor", "a step reads device 2", func(e *edit) { e.step(body, 0, "all_reduce", 0).Args[1].Device = 2 }},
	{"V24", "tensor", "a step reads device -1", func(e *edit) { e.step(body, 0, "all_reduce", 0).Args[1].Device = -1 }},
	{"V24", "one", "a weight is on device 1", func(e *edit) { e.weight(0, "wq").Device = 1 }},
	{"V24", "one", "a cache is on device 1", func(e *edit) { e.Caches[0].Device = 1 }},
	{"V24", "one", "a buffer is on device 3", func(e *edit) { e.block(body).Buffers[0].Device = 3 }},
	{"V24", "one", "the output is on device 1", func(e *edit) { e.Programs[0].Outputs[0].Device = 1 }},
	{"V24", "tensor", "an account is missing", func(e *edit) { e.Memory = e.Memory[:1] }},
	{"V24", "tensor", "accounts are exchanged", func(e *edit) { e.Memory[0], e.Memory[1] = e.Memory[1], e.Memory[0] }},
	{"V24", "one", "there is no device", func(e *edit) { e.Memory = nil }},
	{"V24", "one", "an expert is placed on device 5", func(e *edit) {
		e.Placement.Layers = []placement.Layer{{Experts: []placement.Expert{{{{Device: 5, Hi: 4}}}}}}
	}},
	{"V24", "one", "a token group has device 5", func(e *edit) { e.Placement.Layers = []placement.Layer{{Groups: [][]int{{5}}}} }},

	{"V27", "one", "a const is NaN", func(e *edit) { e.Consts[0].Values[1] = float32(math.NaN()) }},
	{"V27", "one", "a const is infinite", func(e *edit) { e.Consts[0].Values[0] = float32(math.Inf(-1)) }},
	{"V27", "one", "a norm adds NaN", func(e *edit) { e.set(body, 0, "rms_norm", 0, "eps", math.NaN()) }},
	{"V27", "one", "attention scales by infinity", func(e *edit) { e.set(body, 0, "attention", 0, "scale", math.Inf(1)) }},

	{"V01", "one", "two buffers of the same name", func(e *edit) { e.block(body).Buffers[1].Name = e.block(body).Buffers[0].Name }},
	{"V01", "one", "a buffer has a program buffer's name", func(e *edit) { e.block(body).Buffers[1].Name = "x0" }},
	{"V01", "one", "a buffer has no name", func(e *edit) { e.block(body).Buffers[1].Name = "" }},
	{"V01", "one", "a name cannot be told from a weight", func(e *edit) { e.block(body).Buffers[1].Name = "weight:b" }},
	{"V01", "one", "a buffer is as large as the address space", func(e *edit) {
		e.block(body).Buffers[0].Type = tensor.Of(tensor.F32, tensor.S(tensor.Tokens), tensor.N(1<<30), tensor.N(1<<30))
	}},
	{"V01", "one", "a buffer has two symbols", func(e *edit) {
		e.block(body).Buffers[0].Type = tensor.Of(tensor.F32, tensor.S(tensor.Tokens), tensor.S(tensor.Rows))
	}},
	{"V01", "groups", "a buffer is of token group 2", func(e *edit) {
		e.block(body).Buffers[0].Type.Shape[0] = tensor.S(tensor.Tokens.Of(2))
	}},
	{"V01", "one", "a run of a block that does not exist", func(e *edit) { e.Programs[0].Runs[1].Block = "layer9" }},
	{"V01", "one", "a run ends after the last layer", func(e *edit) { e.Programs[0].Runs[1].Layers.Last = 4 }},
	{"V01", "one", "a run goes backwards", func(e *edit) { e.Programs[0].Runs[1].Layers = plan.Range{First: 2, Last: 0} }},
	{"V01", "one", "a run begins before the first layer", func(e *edit) { e.Programs[0].Runs[1].Layers.First = -3 }},
	{"V01", "one", "a block that nothing runs", func(e *edit) { e.Programs[0].Runs = slices.Delete(e.Programs[0].Runs, 2, 3) }},
	{"V01", "one", "two blocks of the same name", func(e *edit) { e.block("layer3").Name = body }},
	{"V01", "tensor", "a device has two queues", func(e *edit) { e.queue(body, 1).Device = 0 }},
	{"V01", "one", "a weight ends before the last layer", func(e *edit) { e.weight(0, "wq").Layers.Last-- }},
	{"V01", "one", "a weight is for layers that the model lacks", func(e *edit) { e.weight(0, "wq").Layers.Last = 40 }},
	{"V01", "one", "a weight is given twice", func(e *edit) { e.Weights = append(e.Weights, e.Weights[0]) }},
	{"V01", "one", "a weight is both in and outside the layers", func(e *edit) {
		w := *e.weight(0, "wq")
		w.Layers = plan.NoLayers
		e.Weights = append(e.Weights, w)
	}},
	{"V01", "one", "a weight has an extent of -1", func(e *edit) { e.weight(0, "wq").Shape[0] = -1 }},
	{"V01", "one", "a weight's size overflows", func(e *edit) { e.weight(0, "wq").Shape = []int{1 << 30, 1 << 30, 1 << 30} }},
	{"V01", "one", "a weight holds integers", func(e *edit) { e.weight(0, "wq").DType = tensor.I32 }},
	{"V01", "one", "a weight that does not exist is read", func(e *edit) { e.step(body, 0, "matmul", 0).Args[1].Name = "layers.{layer}.wz" }},
	{"V01", "one", "a const that does not exist is read", func(e *edit) { e.step(body, 0, "rope", 0).Args[2].Name = "c9" }},
	{"V01", "one", "a cache ends before the last layer", func(e *edit) { e.Caches[0].Layers.Last-- }},
	{"V01", "one", "a cache is of a token group that the plan lacks", func(e *edit) { e.Caches[0].Group = 1 }},
	{"V01", "one", "a cache of no heads", func(e *edit) { e.Caches[0].Heads = 0 }},
	{"V01", "one", "a result goes nowhere", func(e *edit) { e.step(body, 0, "matmul", 0).Out = "b99" }},
	{"V01", "one", "an operand is of no kind", func(e *edit) { e.step(body, 0, "matmul", 0).Args[1].Kind = "disk" }},
	{"V01", "one", "an op that no plan has", func(e *edit) { e.step(body, 0, "softmax", 0).Op = "reshape" }},
	{"V01", "one", "an unknown op", func(e *edit) { e.step(body, 0, "softmax", 0).Op = "hardmax" }},
	{"V01", "one", "a plain step has a body", func(e *edit) {
		s := e.step(body, 0, "softmax", 0)
		s.Body = []plan.Step{*e.step(body, 0, "softmax", 0)}
	}},
	{"V01", "one fused", "a fused step has no body", func(e *edit) { e.step(body, 0, "fused", 0).Body = nil }},
	{"V01", "experts", "a body has a collective", func(e *edit) {
		e.step(body, 0, "fused", 0).Body[0] = *e.step(body, 0, "all_reduce", 0)
	}},
	{"V01", "one fused", "a body has a body", func(e *edit) {
		s := e.step(body, 0, "fused", 0)
		s.Body[0].Body = slices.Clone(s.Body)
	}},
	{"V01", "tensor", "a collective has no channel", func(e *edit) {
		s := e.step(body, 0, "all_reduce", 0)
		s.Attrs = s.Attrs.Without("channel")
	}},
	{"V01", "tensor", "a sum of 2^40 leaves", func(e *edit) { e.set(body, 0, "all_reduce", 0, "leaves", 1<<40) }},
	{"V01", "tensor", "a leaf of -1", func(e *edit) { e.set(body, 0, "matmul_nodes", 0, "leaf", -1) }},
	{"V01", "one", "an attribute that the op does not take", func(e *edit) { e.set(body, 0, "softmax", 0, "eps", 1e-5) }},
	{"V01", "one", "an attribute of another kind", func(e *edit) { e.set(body, 0, "rms_norm", 0, "eps", 1) }},
	{"V01", "one", "2^40 experts", func(e *edit) { e.set(body, 0, "combine", 0, "total", 1<<40) }},
	{"V01", "one", "an output is in no buffer", func(e *edit) { e.Programs[0].Outputs[0].Buffer = "x9" }},
	{"V01", "one", "an output is of group -1", func(e *edit) { e.Programs[0].Outputs[0].Group = -1 }},
	{"V01", "one", "no program", func(e *edit) { e.Programs = nil }},
	{"V01", "one", "two programs of the same name", func(e *edit) { e.Programs = append(e.Programs, e.Programs[0]) }},
	{"V01", "one", "a bucket names no program", func(e *edit) { e.Buckets[2].Program = "fast" }},
	{"V01", "one", "buckets do not ascend", func(e *edit) { e.Buckets[1].Tokens = 1 }},
	{"V01", "one", "buckets end too early", func(e *edit) { e.Buckets = e.Buckets[:3] }},
	{"V01", "one", "steps of no tokens", func(e *edit) { e.Limits.Tokens = 0; e.Buckets = nil }},
	{"V01", "one", "pages of 2^40 positions", func(e *edit) { e.Limits.Page = 1 << 40 }},
	{"V01", "one", "a million layers", func(e *edit) { e.Model.Layers = 1 << 20 }},
	{"V01", "one", "numerics of no kind", func(e *edit) { e.Numerics.Mode = "quick" }},
	{"V01", "one", "an account of 2^60 bytes", func(e *edit) { e.Memory[0].Weights = 1 << 60 }},
	{"V01", "one", "a kernel for a step that does not exist", func(e *edit) {
		e.Kernels = []plan.Kernels{{Backend: "cuda", Choices: []plan.Choice{{Program: "all", Block: body, Step: 400, Kernel: "k"}}}}
	}},
	{"V01", "one", "a whole kernel of no tokens", func(e *edit) { e.whole(plan.Whole{Program: "all", Kernel: "k"}) }},
	{"V01", "one", "a whole kernel for a program that does not exist", func(e *edit) { e.whole(plan.Whole{Program: "some", Kernel: "k", Tokens: 1}) }},
	{"V01", "one", "a whole kernel on a device that does not exist", func(e *edit) { e.whole(plan.Whole{Program: "all", Kernel: "k", Tokens: 1, Device: 1}) }},
	{"V01", "one", "a whole kernel with -1 bytes", func(e *edit) { e.whole(plan.Whole{Program: "all", Kernel: "k", Tokens: 1, Space: -1}) }},
	{"V01", "one", "two whole kernels for a program", func(e *edit) {
		w := plan.Whole{Program: "all", Kernel: "k", Tokens: 1}
		e.whole(w, w)
	}},
	{"V01", "one", "tiles of a weight that does not exist", func(e *edit) { e.layout("w9", plan.Tiles) }},
	{"V01", "one", "tiles of four-byte elements", func(e *edit) {
		e.layout(e.weight(0, "wq").Name, plan.Tiles)
		w := e.weight(0, "wq")
		w.DType, w.Shape = tensor.F32, []int{64, 64}
	}},
	{"V01", "one", "tiles that do not divide a weight", func(e *edit) { e.layout(e.weight(0, "wq").Name, plan.Tiles) }},
}

// whole gives the plan kernels for whole programs.
func (e *edit) whole(list ...plan.Whole) {
	e.Kernels = []plan.Kernels{{Backend: "cuda", Arch: "sm_90a", Wholes: list}}
}

// layout says how a weight of device 0 lies.
func (e *edit) layout(weight, layout string) {
	e.Kernels = []plan.Kernels{{Backend: "cuda", Arch: "sm_90a", Layouts: []plan.Layout{{Weight: weight, Layout: layout}}}}
}

var memoryMutants = []mutant{
	{"V11", "one", "a buffer is not aligned", func(e *edit) { e.block(body).Buffers[0].Offset += 16 }},
	{"V11", "one", "a buffer ends outside the arena", func(e *edit) { e.block(body).Buffers[0].Offset = e.Memory[0].Total - 256 }},
	{"V11", "one", "a buffer is in the weights", func(e *edit) { e.block(body).Buffers[0].Offset = e.weight(0, "wq").Offset }},
	{"V11", "one", "a buffer is at -256", func(e *edit) { e.block(body).Buffers[0].Offset = -256 }},
	{"V11", "one", "a buffer's end overflows", func(e *edit) { e.block(body).Buffers[0].Offset = math.MaxInt64 &^ 255 }},
	{"V11", "one", "a buffer has -256 bytes", func(e *edit) { e.block(body).Buffers[0].Bytes = -256 }},
	{"V11", "one", "the arena shrinks", func(e *edit) { e.Memory[0].Buffers -= 512; e.Memory[0].Total -= 512 }},
	{"V11", "one", "a weight over a weight", func(e *edit) { e.weight(0, "wk").Offset = e.weight(0, "wq").Offset + 256 }},
	{"V11", "one", "a weight over itself", func(e *edit) { e.weight(0, "wq").Stride = 256 }},
	{"V11", "one", "a weight is not aligned", func(e *edit) { e.weight(0, "head").Offset += 2 }},
	{"V11", "one", "a weight is at 2^62", func(e *edit) { e.weight(0, "wq").Offset = 1 << 62 }},
	{"V11", "one", "a stride of 2^62", func(e *edit) { e.weight(0, "wq").Stride = 1 << 62 }},
	{"V11", "one", "a stride of -256", func(e *edit) { e.weight(0, "wq").Stride = -256 }},
	{"V11", "one", "a cache over a weight", func(e *edit) { e.Caches[0].Offset = e.weight(0, "wq").Offset }},
	{"V11", "one", "a cache over itself", func(e *edit) { e.Caches[0].Stride -= 256 }},
	{"V11", "one", "a const over a weight", func(e *edit) { e.Consts[0].Offset = e.weight(0, "wq").Offset }},
	{"V11", "tensor", "a const outside the residents of a device", func(e *edit) { e.Consts[0].Offset = e.Memory[0].Total }},

	{"V12", "one", "an account does not add up", func(e *edit) { e.Memory[0].Total += 256 }},
	{"V12", "one", "a device has too little", func(e *edit) { e.Memory[0].Budget = e.Memory[0].Total - 1 }},
	{"V12", "tensor", "the machine has too little", func(e *edit) { e.Machine.Memory = e.Memory[1].Total }},
	{"V12", "one", "the driver needs too much", func(e *edit) { e.Machine.Reserve = e.Machine.Memory - 256 }},
	{"V12", "one", "a negative reserve", func(e *edit) { e.Machine.Reserve = -1 }},

	{"V28", "one", "bytes are elements", func(e *edit) {
		b := &e.block(body).Buffers[1]
		b.Bytes = (b.Bytes/2 + 255) / 256 * 256
	}},
	{"V28", "one", "a buffer is larger than its type", func(e *edit) { e.block("end").Buffers[0].Bytes += 256 }},
	{"V28", "one", "weights are not accounted", func(e *edit) {
		e.Memory[0].Weights += 256
		e.Memory[0].Caches -= 256
	}},
	{"V28", "one", "a const lacks a value", func(e *edit) { e.Consts[0].Values = e.Consts[0].Values[:3] }},
	{"V28", "one", "consts are not accounted", func(e *edit) {
		e.Memory[0].Consts += 256
		e.Memory[0].Weights -= 256
	}},
	{"V28", "one", "caches of more pages", func(e *edit) { e.Limits.Pages++ }},

	{"V20", "one", "steps of more tokens", func(e *edit) { e.Limits.Tokens = 4096; e.Buckets[len(e.Buckets)-1].Tokens = 4096 }},
	{"V20", "one", "more logits rows", func(e *edit) { e.Limits.Rows = 512 }},
	{"V20", "groups", "a group may get half the tokens only", func(e *edit) {
		for i := range e.Programs[0].Buffers {
			if b := &e.Programs[0].Buffers[i]; b.Name == "x1" {
				b.Bytes /= 2
			}
		}
	}},
	{"V20", "one", "experts get one slot a token", func(e *edit) { e.buffer(body, 0, e.step(body, 0, "dispatch", 0).Out).Bytes /= 2 }},
	{"V23", "one", "too few pages for a sequence", func(e *edit) { e.Limits.Context = 4096 }},
}

var pageMutants = []mutant{
	{"V23", "one", "page tables of 2^31 entries", func(e *edit) { e.Limits.Sequences = 1 << 29 }},
	{"V23", "one", "caches of 2^31 positions", func(e *edit) { e.Limits.Pages = 1 << 29 }},
}

var channelMutants = []mutant{
	{"V21", "pipeline", "a send is dropped", func(e *edit) { e.drop("layer2", 0, "send", 0) }},
	{"V05", "pipeline", "a send sends something else", func(e *edit) { e.step("layer2", 0, "send", 0).Args[0].Name = "tokens" }},
	{"V05", "pipeline", "a send of nothing", func(e *edit) { e.step("layer2", 0, "send", 0).Args = nil }},
	{"V05", "pipeline", "nobody receives", func(e *edit) { e.drop("layer2", 1, "transfer", 0) }},
	{"V21", "pipeline", "a value is read without a transfer", func(e *edit) { e.step("layer2", 1, "rms_norm", 0).Args[0] = e.step("layer2", 1, "transfer", 0).Args[0] }},
	{"V21", "tensor", "a contributor takes no part", func(e *edit) { e.drop(body, 1, "all_reduce", 0) }},
	{"V05", "tensor", "a member has its operands exchanged", func(e *edit) { slices.Reverse(e.step(body, 1, "all_reduce", 0).Args) }},
	{"V05", "tensor", "a member reads another value", func(e *edit) { e.step(body, 1, "all_reduce", 0).Args[1].Name = e.step(body, 1, "rms_norm", 0).Out }},
	{"V05", "tensor", "a member sums other leaves", func(e *edit) { e.set(body, 1, "all_reduce", 0, "spans", [][]int{{0, 1}, {1, 4}}) }},
	{"V05", "tensor", "a member gathers", func(e *edit) {
		s := e.step(body, 1, "all_reduce", 0)
		s.Op, s.Attrs = "all_gather", ir.MakeAttrs(attr("axis", 0), attr("channel", s.Attrs.Int("channel", 0)))
	}},
	{"V05", "four", "a member lacks an operand", func(e *edit) {
		s := e.step(body, 3, "all_reduce", 0)
		s.Args = s.Args[:3]
	}},
	{"V05", "tensor", "a collective reads a weight", func(e *edit) {
		e.all("end", "all_gather", 0, func(s *plan.Step) { s.Args[0] = plan.Ref{Kind: plan.WeightRef, Name: "head", Device: 0} })
	}},

	{"V21", "tensor", "a sum is a copy of another device's part", func(e *edit) {
		s := e.step(body, 0, "all_reduce", 0)
		*s = plan.Step{Op: "copy", Out: s.Out, Args: s.Args[1:2]}
	}},

	{"V07", "tensor", "a member twice", func(e *edit) {
		q, i := e.queue(body, 0), e.at(body, 0, "all_reduce", 0)
		q.Steps = slices.Insert(q.Steps, i, q.Steps[i])
	}},
	{"V07", "tensor", "two collectives with one number", func(e *edit) {
		e.all(body, "all_reduce", 1, func(s *plan.Step) { s.Attrs = s.Attrs.With("channel", 0) })
	}},
	{"V07", "tensor", "a member on a channel of its own", func(e *edit) { e.set(body, 1, "all_reduce", 0, "channel", 9) }},

	{"V06", "tensor", "two collectives exchanged on one device", func(e *edit) {
		e.swap(body, 1, e.at(body, 1, "all_reduce", 0), e.at(body, 1, "all_reduce", 1))
	}},
	{"V06", "tensor", "channel numbers exchanged on one device", func(e *edit) {
		e.set(body, 1, "all_reduce", 0, "channel", 1)
		e.set(body, 1, "all_reduce", 1, "channel", 0)
	}},

	{"V02", "tensor", "collectives in opposite orders", func(e *edit) {
		e.swap(body, 0, e.at(body, 0, "all_reduce", 0), e.at(body, 0, "all_reduce", 1))
	}},
	{"V02", "four", "three transfers that wait for each other", func(e *edit) { circle(e) }},
	{"V02", "tensor", "a collective twice in a row", func(e *edit) {
		q, i := e.queue(body, 0), e.at(body, 0, "all_reduce", 0)
		q.Steps = slices.Insert(q.Steps, i, q.Steps[i])
	}},

	{"V08", "tensor", "each waits for the other", func(e *edit) {
		e.swap(body, 0, e.at(body, 0, "all_reduce", 0), e.at(body, 0, "all_reduce", 1))
	}},
	{"V08", "four", "three devices wait in a circle", func(e *edit) { circle(e) }},
	{"V08", "tensor", "one waits for itself", func(e *edit) {
		q, i := e.queue(body, 1), e.at(body, 1, "all_reduce", 1)
		q.Steps = append(q.Steps, q.Steps[i])
	}},

	{"V09", "tensor", "a sum over what the other device adds", func(e *edit) {
		s := e.step(body, 0, "all_reduce", 0)
		e.over(body, 0, "all_reduce", 0, s.Args[0].Name)
	}},
	{"V09", "groups", "gathered rows over a shard", func(e *edit) {
		s := e.step(body, 1, "all_gather", 0)
		e.over(body, 1, "all_gather", 0, s.Args[1].Name)
	}},

	{"V09", "pipeline", "a value is overwritten that another device reads without a transfer", func(e *edit) {
		e.step("layer2", 1, "rms_norm", 0).Args[0] = e.step("layer2", 1, "transfer", 0).Args[0]
	}},
	{"V09", "tensor", "a part is made while the other device reads it", func(e *edit) {
		e.drop(body, 1, "all_reduce", 0)
		e.step(body, 0, "all_reduce", 0).Args = e.step(body, 0, "all_reduce", 0).Args[1:]
	}},

	{"V22", "tensor", "a sum over its own part", func(e *edit) {
		s := e.step(body, 1, "all_reduce", 0)
		e.over(body, 1, "all_reduce", 0, s.Args[1].Name)
	}},
	{"V22", "one", "a matmul over its operand", func(e *edit) { e.over(body, 0, "matmul", 0, e.step(body, 0, "matmul", 0).Args[0].Name) }},
	{"V22", "one", "a rounding over its wider operand", func(e *edit) { e.over(body, 0, "round", 0, e.step(body, 0, "round", 0).Args[0].Name) }},
	{"V22", "one", "a sum repeated over its smaller operand", func(e *edit) {
		s := e.step(body, 0, "softmax", 0)
		e.over(body, 0, "softmax", 0, s.Args[0].Name)
	}},
	{"V22", "one fused", "a fused step over its operand", func(e *edit) { e.over(body, 0, "fused", 0, e.step(body, 0, "fused", 0).Args[0].Name) }},
}

// circle adds a transfer from device 0 to 1, 1 to 2 and 2 to 0, each of which
// waits for the one before.
func circle(e *edit) {
	for d := range 3 {
		next := (d + 1) % 3
		name := fmt.Sprintf("y%d", next)
		b := e.block(body)
		b.Buffers = append(b.Buffers, plan.Buffer{Name: name, Device: next, Type: tensor.Of(tensor.I32, tensor.S(tensor.Tokens)), Offset: e.Memory[next].Total, Bytes: 256})
		arg := []plan.Ref{{Kind: plan.BufferRef, Name: "tokens", Device: d}}
		channel := ir.MakeAttrs(attr("channel", 100+d))
		receive := plan.Step{Op: "transfer", Out: name, Args: arg, Attrs: channel}
		send := plan.Step{Op: "send", Args: arg, Attrs: channel}
		from, to := e.queue(body, d), e.queue(body, next)
		from.Steps = append(from.Steps, send)
		to.Steps = slices.Insert(to.Steps, 0, receive)
	}
	for d := range 3 {
		e.Memory[d].Total += 256
		e.Memory[d].Buffers += 256
	}
}

var flowMutants = []mutant{
	{"V03", "one", "a step is dropped", func(e *edit) { e.drop(body, 0, "silu", 0) }},
	{"V03", "one", "the last step is dropped", func(e *edit) { e.drop("end", 0, "matmul", 0) }},
	{"V03", "one", "a step is done twice", func(e *edit) {
		q, i := e.queue(body, 0), e.at(body, 0, "silu", 0)
		q.Steps = slices.Insert(q.Steps, i, q.Steps[i])
	}},
	{"V03", "one", "two steps write one buffer", func(e *edit) { e.step(body, 0, "round", 1).Out = e.step(body, 0, "round", 0).Out }},
	{"V03", "one", "a step writes the tokens", func(e *edit) { e.step(body, 0, "topk", 0).Out = "tokens" }},
	{"V03", "one", "a result is thrown away", func(e *edit) { e.step(body, 0, "silu", 0).Out = "" }},
	{"V03", "one", "storing has a result", func(e *edit) { e.step(body, 0, "kv_append", 0).Out = "x0" }},
	{"V03", "one", "tokens are not stored", func(e *edit) { e.drop(body, 0, "kv_append", 0) }},
	{"V03", "one", "tokens are stored twice", func(e *edit) {
		q, i := e.queue(body, 0), e.at(body, 0, "kv_append", 0)
		q.Steps = slices.Insert(q.Steps, i, q.Steps[i])
	}},
	{"V03", "one", "layers share a cache", func(e *edit) { e.Caches[0].Layers = plan.NoLayers }},
	{"V03", "one", "a cache that nothing fills", func(e *edit) {
		c := e.Caches[0]
		c.Name = "other"
		e.Caches = append(e.Caches, c)
	}},
	{"V03", "one", "a layer is run twice", func(e *edit) {
		e.Programs[0].Runs = slices.Insert(e.Programs[0].Runs, 2, plan.Run{Block: body, Layers: plan.Range{First: 1, Last: 1}})
	}},
	{"V03", "one", "a layer is left out", func(e *edit) { e.Programs[0].Runs[1].Layers.First = 1 }},
	{"V03", "groups", "a token group has no logits", func(e *edit) {
		e.Programs[0].Outputs = append(e.Programs[0].Outputs[1:], plan.Output{Name: "other", Group: 0, Device: 0, Buffer: "x2", Type: e.Programs[0].Outputs[0].Type})
	}},
	{"V03", "one", "logits are given twice", func(e *edit) { e.Programs[0].Outputs = append(e.Programs[0].Outputs, e.Programs[0].Outputs[0]) }},
	{"V03", "one", "no outputs", func(e *edit) { e.Programs[0].Outputs = nil }},
	{"V03", "one fused", "a body ends elsewhere", func(e *edit) {
		s := e.step(body, 0, "fused", 0)
		s.Body[len(s.Body)-1].Out = s.Body[0].Out
	}},
	{"V03", "one fused", "a body lacks its last step", func(e *edit) {
		s := e.step(body, 0, "fused", 0)
		s.Body = s.Body[:len(s.Body)-1]
	}},

	{"V04", "one", "a step comes before its operand", func(e *edit) {
		i := e.at(body, 0, "softmax", 0)
		e.swap(body, 0, i, i-1)
	}},
	{"V04", "one", "the residual is read before the embedding", func(e *edit) { e.step("begin", 0, "embed", 0).Args[0].Name = "x0" }},
	{"V04", "one", "attention comes before the tokens are stored", func(e *edit) {
		e.move(body, 0, e.at(body, 0, "kv_append", 0), e.at(body, 0, "attention", 0))
	}},
	{"V04", "tensor", "a part is computed after it is added", func(e *edit) {
		i, j := e.at(body, 1, "matmul_nodes", 0), e.at(body, 1, "all_reduce", 0)
		e.swap(body, 1, i, j)
	}},
	{"V04", "one", "a value of the turn before", func(e *edit) {
		q := e.queue(body, 0)
		e.step(body, 0, "rms_norm", 0).Args[0].Name = q.Steps[len(q.Steps)-2].Out
	}},
	{"V04", "one fused", "a body is out of order", func(e *edit) { slices.Reverse(e.step(body, 0, "fused", 0).Body) }},
	{"V04", "one", "blocks are run in another order", func(e *edit) { slices.Reverse(e.Programs[0].Runs) }},
	{"V04", "one", "the embedding comes after the layers", func(e *edit) {
		r := e.Programs[0].Runs
		r[0], r[1], r[2] = r[1], r[2], r[0]
	}},

	{"V10", "one", "the residual is overwritten", func(e *edit) { e.over(body, 0, "rms_norm", 0, "x0") }},
	{"V10", "one", "the tokens' positions are overwritten", func(e *edit) { e.over(body, 0, "matmul", 1, "positions") }},
	{"V10", "one", "rows are overwritten in an earlier block", func(e *edit) { e.over(body, 0, "matmul", 1, "rows") }},
	{"V10", "one", "the logits are overwritten", func(e *edit) {
		q := e.queue("end", 0)
		q.Steps = append(q.Steps, plan.Step{Op: "copy", Out: "b99", Args: []plan.Ref{{Kind: plan.BufferRef, Name: "x0"}}})
		b := e.block("end")
		b.Buffers = append(b.Buffers, *e.buffer("end", 0, "x0"))
		n := len(b.Buffers) - 1
		b.Buffers[n].Name, b.Buffers[n].Offset = "b99", e.buffer("end", 0, e.Programs[0].Outputs[0].Buffer).Offset
	}},
	{"V10", "one", "choices are overwritten before the combine", func(e *edit) { e.over(body, 0, "silu", 0, e.step(body, 0, "topk", 0).Out) }},
	{"V10", "tensor", "a part is overwritten before it is added", func(e *edit) {
		// The other device's sum is late; its part must live until then.
		q := e.queue(body, 0)
		i := e.at(body, 0, "all_reduce", 1)
		part := q.Steps[i].Args[0].Name
		e.block(body).Buffers = append(e.block(body).Buffers, *e.buffer(body, 0, part))
		b := &e.block(body).Buffers[len(e.block(body).Buffers)-1]
		b.Name = "b99"
		q.Steps = slices.Insert(q.Steps, i, plan.Step{Op: "copy", Out: "b99", Args: []plan.Ref{{Kind: plan.BufferRef, Name: part}}})
	}},
	{"V10", "one fused", "a body overwrites what it reads later", func(e *edit) {
		s := e.step(body, 0, "fused", 1)
		s.Body = slices.Insert(s.Body, 1, plan.Step{Op: "copy", Out: "b99", Args: s.Body[0].Args[:1]})
		b := *e.buffer(body, 0, s.Body[0].Args[0].Name)
		b.Name, b.Offset = "b99", e.buffer(body, 0, s.Body[0].Out).Offset
		e.block(body).Buffers = append(e.block(body).Buffers, b)
	}},
}

var typeMutants = []mutant{
	{"V17", "one", "a buffer of another element type", func(e *edit) { e.buffer(body, 0, e.step(body, 0, "round", 0).Out).Type.DType = tensor.F16 }},
	{"V17", "one", "a rounding to another type", func(e *edit) { e.set(body, 0, "round", 0, "dtype", tensor.F16) }},
	{"V17", "one", "an operand of other width", func(e *edit) { e.step(body, 0, "matmul", 0).Args[0].Name = e.step(body, 0, "topk", 0).Out }},
	{"V17", "one", "an operand read with other elements", func(e *edit) {
		e.step(body, 0, "rope", 0).Args[0].Type = tensor.Of(tensor.BF16, tensor.S(tensor.Tokens), tensor.N(3), tensor.N(8))
	}},
	{"V17", "tensor", "a stack of parts read as rows", func(e *edit) {
		s := e.step(body, 0, "matmul_nodes", 0)
		e.buffer(body, 0, s.Out).Type.Shape = tensor.Shape{tensor.S(tensor.Tokens), tensor.N(1), tensor.N(32)}
		b := e.buffer(body, 0, s.Out)
		b.Type.Shape = tensor.Shape{tensor.N(2), tensor.S(tensor.Tokens), tensor.N(16)}
	}},
	{"V17", "one", "an operand too many", func(e *edit) {
		s := e.step(body, 0, "silu", 0)
		s.Args = append(s.Args, s.Args[0])
	}},
	{"V17", "one", "an operand is missing", func(e *edit) {
		s := e.step(body, 0, "matmul", 0)
		s.Args = s.Args[:1]
	}},
	{"V17", "one", "an attribute is missing", func(e *edit) {
		s := e.step(body, 0, "attention", 0)
		s.Attrs = s.Attrs.Without("chunk")
	}},
	{"V17", "one", "segments that do not span the features", func(e *edit) { e.set(body, 0, "matmul", 3, "bounds", []int{0, 8, 16}) }},
	{"V17", "one", "a weight of another layer kind", func(e *edit) { e.step(body, 0, "matmul", 0).Args[1].Name = "layers.{layer}.gate" }},
	{"V17", "one", "a weight of another type", func(e *edit) {
		e.weight(0, "head").DType = tensor.F32
		e.step("end", 0, "matmul", 0).Args[1] = e.step("end", 0, "matmul", 0).Args[0]
	}},
	{"V17", "one", "a norm adds less than nothing", func(e *edit) { e.set(body, 0, "rms_norm", 0, "eps", -1e-5) }},
	{"V17", "one", "norms of integers", func(e *edit) { e.step(body, 0, "rms_norm", 0).Args[0].Name = "tokens" }},
	{"V17", "one", "positions and sequences exchanged", func(e *edit) {
		a := e.step(body, 0, "attention", 0).Args
		a[2], a[3] = a[3], a[2]
	}},
	{"V17", "one", "keys stored at tokens", func(e *edit) { e.step(body, 0, "kv_append", 0).Args[3].Name = "tokens" }},
	{"V17", "one", "positions are embedded", func(e *edit) { e.step("begin", 0, "embed", 0).Args[0].Name = "positions" }},
	{"V17", "one", "rope by sequence", func(e *edit) { e.step(body, 0, "rope", 0).Args[1].Name = "sequences" }},
	{"V17", "one", "logits of the tokens' rows", func(e *edit) { e.step("end", 0, "take_rows", 0).Args[1].Name = "tokens" }},
	{"V17", "one", "experts are chosen of fewer", func(e *edit) { e.set(body, 0, "combine", 0, "total", 8) }},
	{"V17", "one", "a vocabulary that the table lacks", func(e *edit) { e.Model.Vocab = 100 }},
	{"V17", "one", "an input of another type", func(e *edit) {
		for i := range e.Programs[0].Buffers {
			if b := &e.Programs[0].Buffers[i]; b.Name == "rows" {
				b.Type.Shape[0] = tensor.S(tensor.Tokens)
			}
		}
	}},
	{"V17", "groups", "an input of the other group", func(e *edit) {
		e.buffer("begin", 0, "tokens.0").Name = "tokens.1"
		e.step("begin", 0, "embed", 0).Args[0].Name = "tokens.1"
	}},
	{"V17", "groups", "a group's rows of the other", func(e *edit) { e.set(body, 0, "own_rows", 0, "group", 1) }},
	{"V17", "groups", "rows of one group are gathered", func(e *edit) {
		e.all(body, "all_gather", 0, func(s *plan.Step) { s.Args = s.Args[:1] })
	}},
	{"V17", "groups", "groups are gathered in another order", func(e *edit) {
		e.all(body, "all_gather", 0, func(s *plan.Step) { slices.Reverse(s.Args) })
	}},
	{"V17", "one", "logits are of another width", func(e *edit) { e.Programs[0].Outputs[0].Type.Shape[1] = tensor.N(32) }},
	{"V17", "groups", "logits of the other group", func(e *edit) {
		o := e.Programs[0].Outputs
		o[0].Group, o[1].Group = 1, 0
	}},
	{"V17", "tensor", "a cache of more heads", func(e *edit) { e.Caches[0].Heads = 2; e.Caches[0].KeyDim = 4; e.Caches[0].ValDim = 4 }},
	{"V17", "one", "keys and values of other sizes", func(e *edit) { e.Caches[0].KeyDim = 4; e.Caches[0].ValDim = 12 }},
	{"V17", "tensor", "attention with the other device's heads", func(e *edit) {
		e.set(body, 1, "attention", 0, "kv_first", 0)
		e.set(body, 1, "attention", 0, "q_first", 0)
	}},
	{"V17", "tensor", "a cache of other heads", func(e *edit) { e.Caches[1].First = 0 }},
	{"V17", "groups", "a cache of the other group", func(e *edit) { e.Caches[0].Group = 1 }},
	{"V17", "one", "attention sees more than the cache keeps", func(e *edit) { e.Caches[0].Window = 8; e.set(body, 0, "attention", 0, "window", 9) }},
	{"V17", "one", "attention reads a weight", func(e *edit) {
		e.step(body, 0, "attention", 0).Args[1] = plan.Ref{Kind: plan.WeightRef, Name: e.weight(0, "w1").Name}
	}},
	{"V17", "one fused", "a body reads what is no operand", func(e *edit) {
		s := e.step(body, 0, "fused", 1)
		s.Args = s.Args[:1]
	}},
	{"V17", "one fused", "a body makes another type", func(e *edit) {
		s := e.step(body, 0, "fused", 0)
		s.Body[1].Attrs = s.Body[1].Attrs.With("dtype", tensor.F16)
	}},
}

var shardMutants = []mutant{
	{"V13", "tensor", "a shard is missing", func(e *edit) { e.weight(1, "wo").Parts[0].Slice[1] = []int{0, 16} }},
	{"V13", "tensor", "a slice leaves the weight", func(e *edit) { e.weight(1, "wo").Parts[0].Slice[1] = []int{20, 36} }},
	{"V13", "tensor", "a slice is empty", func(e *edit) { e.weight(1, "wo").Parts[0].Slice[1] = []int{16, 16} }},
	{"V13", "tensor", "a slice has one end", func(e *edit) { e.weight(1, "wo").Parts[0].Slice[1] = []int{16} }},
	{"V13", "tensor", "a slice lacks an axis", func(e *edit) { e.weight(1, "wo").Parts[0].Slice = e.weight(1, "wo").Parts[0].Slice[:1] }},
	{"V13", "tensor", "a slice is another part of the weight", func(e *edit) { e.weight(0, "w1").Parts[0].Slice[1] = []int{4, 12} }},
	{"V13", "tensor", "devices disagree on a weight's shape", func(e *edit) { e.weight(1, "wo").Parts[0].Shape = []int{32, 64} }},
	{"V13", "tensor", "devices disagree on a weight's key", func(e *edit) { e.weight(1, "wo").Parts[0].Source.Key = "model.layers.{layer}.wq" }},
	{"V13", "one", "a weight has no part", func(e *edit) { e.weight(0, "wq").Parts = nil }},
	{"V13", "one", "a weight has its part twice", func(e *edit) {
		w := e.weight(0, "wq")
		w.Parts = append(w.Parts, w.Parts[0])
	}},
	{"V13", "one fused", "parts are in another order than the name says", func(e *edit) { slices.Reverse(e.weight(0, "wv").Parts) }},
	{"V13", "one", "a weight is called like another", func(e *edit) {
		e.weight(0, "wk").Name, e.weight(0, "wv").Name = e.weight(0, "wv").Name, e.weight(0, "wk").Name
	}},
	{"V13", "one fused", "parts are joined along another axis", func(e *edit) { e.weight(0, "wv").Axis = 1 }},
	{"V13", "one fused", "parts are joined along axis 7", func(e *edit) { e.weight(0, "wv").Axis = 7 }},
	{"V13", "one fused", "a part is wider than the others", func(e *edit) { e.weight(0, "wv").Parts[1].Slice[1] = []int{0, 16} }},
	{"V13", "experts", "an expert is kept by nobody", func(e *edit) { e.weight(0, "w1").Parts[0].Experts = []int{1, 2} }},
	{"V13", "experts", "an expert is kept twice by one", func(e *edit) { e.weight(0, "w1").Parts[0].Experts = []int{2, 2} }},
	{"V13", "experts", "an expert that the layer lacks", func(e *edit) { e.weight(0, "w1").Parts[0].Experts = []int{0, 9} }},
	{"V13", "experts", "a slice leaves out experts that are listed", func(e *edit) { e.weight(0, "w1").Parts[0].Slice[0] = []int{0, 3} }},
	{"V13", "one", "a vector is transposed", func(e *edit) { e.weight(0, "n1").Parts[0].Source.Transposed = true }},
	{"V13", "experts", "no expert is kept", func(e *edit) { e.weight(0, "w1").Parts[0].Experts = []int{} }},
	{"V13", "one", "the model has more parameters", func(e *edit) { e.Model.Params++ }},
	{"V13", "one", "a key without its layer", func(e *edit) { e.weight(0, "wq").Parts[0].Source.Key = "model.layers.0.wq" }},
	{"V13", "one", "a key without its expert", func(e *edit) { e.weight(0, "w1").Parts[0].Source.Key = "model.layers.{layer}.w1" }},
	{"V13", "one", "no key", func(e *edit) { e.weight(0, "head").Parts[0].Source.Key = "" }},
	{"V13", "one", "a view of fewer axes", func(e *edit) { s := &e.weight(0, "wq").Parts[0].Source; s.View = s.View[:1] }},
	{"V13", "one", "a view outside the stored tensor", func(e *edit) { e.weight(0, "wq").Parts[0].Source.View[0].Hi = 33 }},
	{"V13", "one", "a view that does not advance", func(e *edit) { e.weight(0, "wq").Parts[0].Source.View[0].Step = 0 }},
	{"V13", "one", "a view of another shape", func(e *edit) { e.weight(0, "wk").Parts[0].Source.Transposed = true }},
	{"V13", "one", "a norm loses its weight", func(e *edit) {
		s := e.step("end", 0, "rms_norm", 0)
		s.Args = s.Args[:1]
	}},
	{"V13", "one", "a weight that nobody reads", func(e *edit) {
		w := *e.weight(0, "head")
		w.Name, w.Offset = "head/2", e.Memory[0].Consts+e.Memory[0].Weights
		e.Weights = append(e.Weights, w)
	}},
	{"V13", "one", "a shape that overflows", func(e *edit) { e.weight(0, "wq").Parts[0].Shape = []int{1 << 40, 1 << 40} }},

	{"V14", "experts", "a step names other experts", func(e *edit) { e.set(body, 0, "expert_matmul", 0, "experts", []int{0, 3}) }},
	{"V14", "experts", "a step names them in another order", func(e *edit) { e.set(body, 1, "expert_matmul", 1, "experts", []int{3, 2, 1}) }},
	{"V14", "experts", "expert lists of two devices exchanged", func(e *edit) {
		for n := range 2 {
			e.set(body, 0, "expert_matmul", n, "experts", []int{1, 2})
			e.set(body, 1, "expert_matmul", n, "experts", []int{0, 2, 3})
		}
	}},
	{"V14", "four", "an expert has copies that do not take turns", func(e *edit) {
		b := e.block(body)
		for i := range b.Queues {
			for j := range b.Queues[i].Steps {
				s := &b.Queues[i].Steps[j]
				s.Attrs = s.Attrs.Without("turns")
			}
		}
	}},
	{"V14", "experts", "a copy takes the other's turn", func(e *edit) {
		for n := range 2 {
			e.set(body, 0, "expert_matmul", n, "turns", [][]int{{0, 1}, {1, 2}})
		}
		e.set(body, 0, "combine_nodes", 0, "turns", [][]int{{0, 1}, {1, 2}})
	}},
	{"V14", "experts", "a copy takes turns of three", func(e *edit) {
		e.set(body, 0, "expert_matmul", 0, "turns", [][]int{{0, 1}, {0, 3}})
	}},
	{"V14", "experts", "rows are combined that are not there", func(e *edit) { e.set(body, 0, "combine_nodes", 0, "turns", [][]int{{0, 1}, {0, 1}}) }},
	{"V14", "experts", "rows of another expert are combined", func(e *edit) { e.set(body, 0, "combine_nodes", 0, "experts", []int{1, 2}) }},
	{"V14", "experts", "a second contraction serves fewer tokens", func(e *edit) {
		e.set(body, 1, "expert_matmul", 1, "turns", [][]int{{0, 1}, {0, 2}, {0, 1}})
	}},
	{"V14", "one", "a device without all experts combines all", func(e *edit) { combineFew(e) }},
	{"V14", "tensor", "an expert's features are served in part", func(e *edit) {
		for _, op := range []string{"expert_matmul", "expert_matmul_nodes"} {
			e.set(body, 1, op, 0, "experts", []int{0, 1, 2})
		}
		for _, name := range []string{"w1", "w2"} {
			w := e.weight(1, name)
			w.Shape[0], w.Parts[0].Experts = 3, []int{0, 1, 2}
		}
	}},
	{"V14", "experts", "a weight has more experts than its step", func(e *edit) {
		w := e.weight(0, "w1")
		w.Shape[0], w.Parts[0].Experts = 3, []int{0, 2, 3}
	}},
}

// combineFew takes expert 3 from the first device.
func combineFew(e *edit) {
	for n := range 2 {
		e.set(body, 0, "expert_matmul", n, "experts", []int{0, 1, 2})
	}
	for _, name := range []string{"w1", "w2"} {
		w := e.weight(0, name)
		w.Shape[0], w.Parts[0].Experts = 3, []int{0, 1, 2}
	}
}

var orderMutants = []mutant{
	{"V25", "tensor", "a device cuts its features elsewhere", func(e *edit) {
		s := e.step(body, 0, "matmul_nodes", 0)
		b := slices.Clone(s.Attrs.Ints("bounds"))
		b[1]++
		s.Attrs = s.Attrs.With("bounds", b)
	}},
	{"V25", "pipeline", "a layer is cut otherwise on another device", func(e *edit) {
		s := e.step("layer2", 1, "matmul", 3)
		s.Attrs = s.Attrs.With("bounds", []int{0, 16, 32})
	}},
	{"V25", "pipeline", "a layer is not cut on another device", func(e *edit) {
		s := e.step("layer2", 1, "matmul", 3)
		s.Attrs = s.Attrs.Without("bounds")
	}},
	{"V25", "one", "more segments than the plan says", func(e *edit) { e.Numerics.Segments = 2 }},
	{"V25", "tensor", "a device adds other chunks", func(e *edit) { e.set(body, 1, "attention", 0, "chunk", 8) }},
	{"V25", "fast", "shares are said to be invariant", func(e *edit) { e.Numerics.Mode = ir.Invariant }},
}

var sumMutants = []mutant{
	{"V15", "tensor", "a part is left out", func(e *edit) {
		e.all(body, "all_reduce", 0, func(s *plan.Step) {
			s.Args = s.Args[:1]
			s.Attrs = s.Attrs.With("spans", [][]int{{0, 2}})
		})
	}},
	{"V15", "tensor", "a part claims other leaves", func(e *edit) {
		e.all(body, "all_reduce", 0, func(s *plan.Step) { s.Attrs = s.Attrs.With("spans", [][]int{{2, 4}, {0, 2}}) })
	}},
	{"V15", "tensor", "parts are exchanged", func(e *edit) {
		e.all(body, "all_reduce", 0, func(s *plan.Step) { slices.Reverse(s.Args) })
	}},
	{"V15", "tensor", "a sum of more leaves", func(e *edit) {
		e.all(body, "all_reduce", 0, func(s *plan.Step) { s.Attrs = s.Attrs.With("leaves", 5) })
	}},
	{"V15", "tensor", "both devices compute the first leaves", func(e *edit) { e.set(body, 1, "matmul_nodes", 0, "leaf", 0) }},
	{"V15", "tensor", "a device counts its leaves from another", func(e *edit) { e.set(body, 1, "matmul_nodes", 0, "leaf", 1) }},
	{"V15", "tensor", "leaves do not belong to the slice", func(e *edit) {
		a, b := e.weight(0, "wo"), e.weight(1, "wo")
		a.Parts[0].Slice, b.Parts[0].Slice = b.Parts[0].Slice, a.Parts[0].Slice
	}},
	{"V15", "tensor", "a part is used as the sum", func(e *edit) {
		part := e.step(body, 0, "all_reduce", 0).Args[0]
		part.Type = tensor.Of(tensor.F32, tensor.S(tensor.Tokens), tensor.N(32))
		e.step(body, 0, "rms_norm", 1).Args[0] = part
	}},
	{"V15", "tensor", "a part is summed by an add", func(e *edit) {
		part := e.step(body, 0, "all_reduce", 0).Args[0]
		part.Type = tensor.Of(tensor.F32, tensor.S(tensor.Tokens), tensor.N(32))
		e.step(body, 0, "add", 0).Args[1] = part
	}},
	{"V15", "tensor", "a part that nobody adds", func(e *edit) {
		for d := range 2 {
			q, i := e.queue(body, d), e.at(body, d, "all_reduce", 0)
			q.Steps[i] = plan.Step{Op: "copy", Out: q.Steps[i].Out, Args: []plan.Ref{{Kind: plan.BufferRef, Name: "x" + fmt.Sprint(d), Device: d}}}
		}
	}},
	{"V15", "experts", "an expert's part is left out", func(e *edit) {
		e.all(body, "all_reduce", 1, func(s *plan.Step) {
			s.Args = s.Args[1:]
			s.Attrs = s.Attrs.With("spans", [][]int{{1, 2, 2, 3, 3, 4}})
		})
	}},
	{"V15", "experts", "a plain value is added", func(e *edit) {
		e.all(body, "all_reduce", 0, func(s *plan.Step) {
			s.Args[0] = plan.Ref{Kind: plan.BufferRef, Name: "b3", Device: 0, Type: tensor.Of(tensor.F32, tensor.N(1), tensor.S(tensor.Tokens), tensor.N(32))}
		})
	}},

	{"V15", "fast", "a part stands for two leaves", func(e *edit) {
		e.all(body, "all_reduce", 1, func(s *plan.Step) { s.Attrs = s.Attrs.With("spans", [][]int{{0, 2}, {2, 3}}).With("leaves", 3) })
	}},
	{"V15", "fast", "a leaf that no part stands for", func(e *edit) {
		e.all(body, "all_reduce", 1, func(s *plan.Step) { s.Attrs = s.Attrs.With("leaves", 3) })
	}},
	{"V16", "fast", "two parts stand for one leaf", func(e *edit) {
		e.all(body, "all_reduce", 1, func(s *plan.Step) { s.Attrs = s.Attrs.With("spans", [][]int{{0, 1}, {0, 1}}).With("leaves", 1) })
	}},
	{"V16", "four", "a part is added twice", func(e *edit) {
		e.all(body, "all_reduce", 0, func(s *plan.Step) {
			spans := s.Attrs.Sets("spans")
			s.Args = append(slices.Clone(s.Args), s.Args[0])
			s.Attrs = s.Attrs.With("spans", append(slices.Clone(spans), spans[0]))
		})
	}},
	{"V16", "experts", "copies are both added", func(e *edit) {
		e.set(body, 0, "combine_nodes", 0, "turns", [][]int{{0, 1}, {1, 2}})
	}},
	{"V16", "tensor", "both parts have the same leaves", func(e *edit) {
		e.set(body, 1, "matmul_nodes", 0, "leaf", 0)
		e.all(body, "all_reduce", 0, func(s *plan.Step) { s.Attrs = s.Attrs.With("spans", [][]int{{0, 2}, {0, 2}}) })
	}},
}

// encoded are the samples' files.
func encoded(t testing.TB) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	for _, s := range samples {
		text, err := plan.Encode(s.plan(t))
		if err != nil {
			t.Fatal(err)
		}
		files[s.name] = text
	}
	return files
}

// TestMutantsDie applies every mutant and checks that its rule complains, and
// that every rule has mutants.
func TestMutantsDie(t *testing.T) {
	files := encoded(t)
	killed, of := make(map[string]int), make(map[string]int)
	for _, m := range mutants {
		p, err := plan.Decode(m.sample, files[m.sample])
		if err != nil {
			t.Fatalf("%s: %v", m.sample, err)
		}
		m.change(&edit{t, p})
		of[m.rule]++
		var rules []string
		for _, p := range problems(p) {
			rules = append(rules, p.Rule)
		}
		if slices.Contains(rules, m.rule) {
			killed[m.rule]++
		} else {
			t.Errorf("%s: %q (%s) is killed by %v only", m.rule, m.name, m.sample, slices.Compact(rules))
		}
	}
	total := 0
	var list []string
	for _, r := range plan.Rules() {
		if of[r.ID] < 2 {
			t.Errorf("rule %s has %d mutants", r.ID, of[r.ID])
		}
		total += killed[r.ID]
		list = append(list, fmt.Sprintf("%s %d/%d", r.ID, killed[r.ID], of[r.ID]))
	}
	t.Logf("killed %d of %d mutants: %s", total, len(mutants), strings.Join(list, ", "))
}
