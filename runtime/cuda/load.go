package cuda

import (
	"context"
	"encoding/binary"
	"math"
	"slices"

	"moec/codegen"
	"moec/planner/plan"
	"moec/runtime/cuda/driver"
	"moec/runtime/weights"
)

// loadThreads is the block of the kernels that load (table.go), and loadBlocks
// a grid that keeps a GPU of any size busy.
const (
	loadThreads = 256
	loadBlocks  = 4096
)

// stagingBytes is what of a weight goes through a device's memory at once on
// its way into tiles.
const stagingBytes = 64 << 20

// fill puts constants and weights in their places.
func (g *Program) fill(ctx context.Context, src weights.Source) error {
	for _, d := range g.devices {
		for _, c := range g.plan.Consts {
			if err := d.gpu.HtoD(d.arena+driver.Ptr(c.Offset), floatBytes(c.Values)); err != nil {
				return err
			}
		}
	}
	if r, ok := src.(weights.Random); ok {
		return g.makeUp(ctx, r)
	}
	return weights.Load(ctx, g.plan, src, func(device int, offset int64, data []byte) error {
		d := g.devices[device]
		if err := d.put(ctx, g.plan, offset, data); err != nil {
			return err
		}
		g.progress(int64(len(data)))
		return nil
	})
}

func (g *Program) progress(bytes int64) {
	if g.options.Progress != nil {
		g.options.Progress(bytes)
	}
}

// tiled reports whether a weight lies in tiles on the device.
func (d *device) tiled(name string) bool {
	return slices.Contains(d.layouts, plan.Layout{Weight: name, Device: d.id, Layout: plan.Tiles})
}

// put copies a weight of one layer to where it is kept, row by row or in tiles.
func (d *device) put(ctx context.Context, p *plan.Plan, offset int64, data []byte) error {
	i := slices.IndexFunc(p.Weights, func(w plan.Weight) bool {
		return w.Device == d.id && offset >= w.Offset && offset < w.Offset+int64(w.Layers.Len())*max(w.Stride, w.Bytes())
	})
	if i < 0 || !d.tiled(p.Weights[i].Name) {
		return d.gpu.HtoD(d.arena+driver.Ptr(offset), data)
	}
	w := p.Weights[i]
	return d.putTiles(ctx, offset, data, w)
}

// putTiles goes by pieces of whole tiles' rows.
func (d *device) putTiles(ctx context.Context, offset int64, data []byte, w plan.Weight) error {
	k := w.Shape[len(w.Shape)-1]
	band := plan.TileSide * k * w.DType.Bytes()
	piece := max(band, stagingBytes/band*band)
	staging, err := d.gpu.Alloc(int64(min(piece, len(data))))
	if err != nil {
		return err
	}
	lay, err := d.gpu.Function(d.modules[d.loading], codegen.SymbolOf("lay_tiles", w.DType))
	for at := 0; at < len(data) && err == nil; at += piece {
		part := data[at:min(len(data), at+piece)]
		if err = d.gpu.HtoD(staging, part); err != nil {
			break
		}
		chunks := len(part) / 16
		var params driver.Params
		params.Ptr(d.arena + driver.Ptr(offset+int64(at))).Ptr(staging).Int64(int64(chunks)).Int32(int32(k))
		if err = d.gpu.Launch(lay, line((chunks+loadThreads-1)/loadThreads), &params, d.stream); err == nil {
			err = d.gpu.Sync(ctx, d.stream)
		}
	}
	if free := d.gpu.Free(staging); err == nil {
		err = free
	}
	return err
}

// line is the shape of a loading kernel.
func line(blocks int) driver.Shape {
	return driver.Shape{Grid: driver.Dim{X: uint32(blocks), Y: 1, Z: 1}, Block: driver.Dim{X: loadThreads, Y: 1, Z: 1}}
}

// makeUp fills weights on the devices themselves, with the numbers that the
// host would give them.
func (g *Program) makeUp(ctx context.Context, r weights.Random) error {
	for _, d := range g.devices {
		for _, w := range g.plan.Weights {
			if w.Device != d.id {
				continue
			}
			layout := "rows"
			if d.tiled(w.Name) {
				layout = plan.Tiles
			}
			f, err := d.gpu.Function(d.modules[d.loading], codegen.SymbolOf("make_up", w.DType, layout))
			if err != nil {
				return err
			}
			for turn := range w.Layers.Len() {
				if err := d.makeUpLayer(f, w, turn, r); err != nil {
					return err
				}
			}
			if err := d.gpu.Sync(ctx, d.stream); err != nil {
				return err
			}
			g.progress(w.Bytes() * int64(w.Layers.Len()))
		}
	}
	return nil
}

// makeUpLayer fills the parts of a weight in one layer, run by run of experts
// that follow each other.
func (d *device) makeUpLayer(f driver.Function, w plan.Weight, turn int, r weights.Random) error {
	layer := -1
	if w.Layers != plan.NoLayers {
		layer = w.Layers.First + turn
	}
	at := 0 // along the axis that parts are joined along
	for _, p := range w.Parts {
		slice := slices.Clone(p.Slice)
		for i := 0; i < max(1, len(p.Experts)); {
			n := 1
			if p.Experts != nil {
				for i+n < len(p.Experts) && p.Experts[i+n] == p.Experts[i]+n {
					n++
				}
				slice[0] = []int{p.Experts[i], p.Experts[i] + n}
			}
			starts := make([]int, len(slice))
			starts[w.Axis] = at
			if p.Experts != nil {
				starts[0] += i
			}
			var params driver.Params
			params.Ptr(d.arena + driver.Ptr(w.Offset+int64(turn)*w.Stride)).Struct(piece(r.Key(p, layer), p.Shape, slice, starts, w.Shape))
			if err := d.gpu.Launch(f, line(loadBlocks), &params, d.stream); err != nil {
				return err
			}
			i += n
		}
		at += p.Extents()[w.Axis]
	}
	return nil
}

// piece is struct Piece of load.cuh.
func piece(key uint64, shape []int, slice [][]int, starts, kept []int) []byte {
	const axes = 3
	fan, vector := shape[len(shape)-1], 0
	if len(shape) == 1 {
		vector = 1
	}
	var strides [axes]uint64
	extents, begins, keeps := [axes]int{1, 1, 1}, [axes]int{}, [axes]int{1, 1, 1}
	first, stride, count := uint64(0), uint64(1), 1
	for i := len(shape) - 1; i >= 0; i-- {
		to := axes - len(shape) + i
		strides[to], extents[to], begins[to], keeps[to] = stride, slice[i][1]-slice[i][0], starts[i], kept[i]
		first += uint64(slice[i][0]) * stride
		stride *= uint64(shape[i])
		count *= extents[to]
	}
	b := binary.LittleEndian.AppendUint64(nil, key)
	b = binary.LittleEndian.AppendUint64(b, first)
	for _, s := range strides {
		b = binary.LittleEndian.AppendUint64(b, s)
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(count))
	for _, list := range [][axes]int{extents, begins, keeps} {
		for _, n := range list {
			b = binary.LittleEndian.AppendUint32(b, uint32(n))
		}
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(vector))
	return binary.LittleEndian.AppendUint64(b, math.Float64bits(weights.Scale(fan)))
}
