package ir

import "moec/ir/tensor"

func noWork(*Node, tensor.Bounds) Work { return Work{} }

// traffic is the bytes of all operands read and the result written once.
func traffic(n *Node, b tensor.Bounds) Work {
	w := Work{Write: n.Type.Bytes(b)}
	for _, a := range n.Args {
		w.Read += a.Type.Bytes(b)
	}
	return w
}

// elementWork counts one operation an element of the larger side.
func elementWork(n *Node, b tensor.Bounds) Work {
	w := traffic(n, b)
	w.Flops = int64(n.Type.Shape.Elems(b))
	if len(n.Args) > 0 {
		w.Flops = max(w.Flops, int64(n.Args[0].Type.Shape.Elems(b)))
	}
	return w
}

// moveWork counts what is copied: as much read as written.
func moveWork(n *Node, b tensor.Bounds) Work {
	bytes := n.Type.Bytes(b)
	return Work{Read: bytes, Write: bytes}
}

func matmulWork(n *Node, b tensor.Bounds) Work {
	w := traffic(n, b)
	x := n.Args[0].Type.Shape
	w.Flops = 2 * int64(x.Elems(b)) * int64(n.Args[1].Type.Shape[0].N)
	return w
}

// expertWork assumes that the slots spread evenly over the experts of the
// layer, and that no more experts are read than there are slots here.
func expertWork(n *Node, b tensor.Bounds) Work {
	slots := int64(n.Args[2].Type.Shape.Elems(b))
	held, total := int64(len(n.Attrs.Ints("experts"))), int64(n.Attrs.Int("total", 1))
	here := (slots*held + total - 1) / total
	shape := n.Args[1].Type.Shape
	expert := int64(shape[1].N) * int64(shape[2].N)
	w := Work{Flops: 2 * here * expert, Write: n.Type.Bytes(b)}
	w.Read = n.Args[0].Type.Bytes(b) + min(here, held)*expert*int64(n.Args[1].Type.DType.Bytes())
	return w
}

// attentionWork needs the length of the context; the bound of C gives it.
func attentionWork(n *Node, b tensor.Bounds) Work {
	q, kv := n.Args[0].Type.Shape, n.Args[1].Type
	seen := int64(b(tensor.Cached))
	if win := n.Attrs.Int("window", 0); win > 0 {
		seen = min(seen, int64(win))
	}
	tokens := int64(q[0].Of(b))
	w := Work{Flops: 2 * tokens * seen * int64(q[1].N) * int64(kv.Shape[2].N)}
	w.Read = n.Args[0].Type.Bytes(b) + tokens*seen*int64(kv.Shape[1].N*kv.Shape[2].N*kv.DType.Bytes())
	w.Write = n.Type.Bytes(b)
	return w
}

// collectiveWork counts operands of other devices as sent.
func collectiveWork(n *Node, b tensor.Bounds) Work {
	w := Work{Write: n.Type.Bytes(b)}
	for _, a := range n.Args {
		if a.Device != n.Device {
			w.Sent += a.Type.Bytes(b)
		} else {
			w.Read += a.Type.Bytes(b)
		}
		w.Flops += int64(a.Type.Shape.Elems(b))
	}
	return w
}

func fusedWork(n *Node, b tensor.Bounds) Work {
	w := traffic(n, b)
	for _, inner := range n.Attrs.Body().Nodes {
		w.Flops += inner.Op.Work(inner, b).Flops
	}
	return w
}
