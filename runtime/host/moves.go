package host

// Moves copy elements as bytes, whatever their type.

// strip copies count pieces of n bytes, from and to places that advance by
// their strides.
func strip(dst, src []byte, count, n, dstStride, srcStride int) {
	for i := range count {
		copy(dst[i*dstStride:i*dstStride+n], src[i*srcStride:i*srcStride+n])
	}
}

// around splits extents at an axis: elements outside and inside of it.
func around(ext []int, axis int) (outer, inner int) {
	return product(ext[:axis]), product(ext[axis+1:])
}

func runSlice(c *call) {
	in, out := c.dims(0), c.outDims()
	axis := c.step.Attrs.Int("axis", 0)
	lo, skip := c.step.Attrs.Int("lo", 0), c.step.Attrs.Int("step", 1)
	outer, inner := around(in, axis)
	size := inner * c.out.DType.Bytes()
	for o := range outer {
		src := c.args[0].data[(o*in[axis]+lo)*size:]
		dst := c.out.data[o*out[axis]*size:]
		if skip == 1 {
			copy(dst[:out[axis]*size], src)
		} else {
			strip(dst, src, out[axis], size, size, skip*size)
		}
	}
}

// runConcat also is all_gather: operands may be other devices'.
func runConcat(c *call) {
	axis, out := c.step.Attrs.Int("axis", 0), c.outDims()
	outer, inner := around(out, axis)
	size := inner * c.out.DType.Bytes()
	at := 0
	for i, a := range c.args {
		n := c.dims(i)[axis] * size
		strip(c.out.data[at:], a.data, outer, n, out[axis]*size, n)
		at += n
	}
}

func runBroadcast(c *call) {
	axis, out := c.step.Attrs.Int("axis", 0), c.outDims()
	outer, inner := around(out, axis)
	size := inner * c.out.DType.Bytes()
	for o := range outer {
		strip(c.out.data[o*out[axis]*size:], c.args[0].data[o*size:], out[axis], size, size, 0)
	}
}

func runTakeRows(c *call) {
	out := c.outDims()
	size := product(out[1:]) * c.out.DType.Bytes()
	for i, r := range c.args[1].i32(out[0]) {
		copy(c.out.data[i*size:(i+1)*size], c.args[0].data[int(r)*size:])
	}
}

func runEmbed(c *call) {
	out := c.outDims()
	size := out[1] * c.out.DType.Bytes()
	for t, id := range c.args[0].i32(out[0]) {
		copy(c.out.data[t*size:(t+1)*size], c.args[1].data[int(id)*size:])
	}
}

func runGather(c *call) {
	in, out := c.dims(0), c.outDims()
	size := c.out.DType.Bytes()
	for t := range out[0] {
		ids := c.args[1].i32(out[0] * out[1])[t*out[1]:]
		for j := range out[1] {
			copy(c.out.data[(t*out[1]+j)*size:][:size], c.args[0].data[(t*in[1]+int(ids[j]))*size:])
		}
	}
}

func runDispatch(c *call) {
	out := c.outDims()
	size := out[2] * c.out.DType.Bytes()
	for t := range out[0] {
		strip(c.out.data[t*out[1]*size:], c.args[0].data[t*size:], out[1], size, size, 0)
	}
}

// runCopy also is transfer: the operand may be another device's.
func runCopy(c *call) {
	n := product(c.outDims()) * c.out.DType.Bytes()
	copy(c.out.data[:n], c.args[0].data[:n])
}

func runOwnRows(c *call) {
	out := c.outDims()
	first := 0
	for g := range c.step.Attrs.Int("group", 0) {
		first += c.bounds(c.args[0].Shape[0].Sym.Base().Of(g))
	}
	size := product(out[1:]) * c.out.DType.Bytes()
	copy(c.out.data[:out[0]*size], c.args[0].data[first*size:])
}

// runExpertRows leaves slots undefined whose expert is not here; NaN shows if
// one is read all the same.
func runExpertRows(c *call) {
	out := c.outDims()
	h := newHeld(c)
	size := out[2] * c.out.DType.Bytes()
	ids := c.args[1].i32(out[0] * out[1])
	for t := range out[0] {
		for j := range out[1] {
			dst := c.out.data[(t*out[1]+j)*size:][:size]
			if e := h.index(int(ids[t*out[1]+j]), t); e >= 0 {
				copy(dst, c.args[0].data[e*size:])
			} else {
				poison(dst)
			}
		}
	}
}
