// Package weights fills the weight buffers of a plan.
//
// A Source gives the bytes of a slice of a weight; Load assembles what each
// device keeps and hands it on, buffer by buffer, so that no more than one
// buffer for each device is held at a time.
package weights

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"moec/ir/tensor"
	"moec/planner/plan"
)

// Source gives weights.
type Source interface {
	// Read fills dst with the part's slice, row-major, in type d. The
	// part's names and keys are for the given layer (-1 outside the layers).
	Read(p plan.Part, d tensor.DType, layer int, dst []byte) error
}

// Sink takes one finished buffer: bytes for an offset of a device's arena.
type Sink func(device int, offset int64, data []byte) error

// Load gives every weight of the plan to sink, devices side by side.
func Load(ctx context.Context, p *plan.Plan, src Source, sink Sink) error {
	var wg sync.WaitGroup
	errs := make([]error, len(p.Memory))
	for i, m := range p.Memory {
		wg.Go(func() {
			for _, w := range p.Weights {
				if w.Device != m.Device || errs[i] != nil {
					continue
				}
				errs[i] = loadWeight(ctx, w, src, sink)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// loadWeight does all layers of one weight of one device.
func loadWeight(ctx context.Context, w plan.Weight, src Source, sink Sink) error {
	for turn := range w.Layers.Len() {
		if err := ctx.Err(); err != nil {
			return err
		}
		layer := -1
		if w.Layers != plan.NoLayers {
			layer = w.Layers.First + turn
		}
		data, err := assemble(w, src, layer)
		if err != nil {
			return err
		}
		if err := sink(w.Device, w.Offset+int64(turn)*w.Stride, data); err != nil {
			return err
		}
	}
	return nil
}

// assemble reads the parts of a weight and joins them along its axis.
func assemble(w plan.Weight, src Source, layer int) ([]byte, error) {
	data := make([]byte, w.Bytes())
	if len(w.Parts) == 1 {
		return data, src.Read(w.Parts[0], w.DType, layer, data)
	}
	size := w.DType.Bytes()
	outer, inner := 1, size
	for i, d := range w.Shape {
		if i < w.Axis {
			outer *= d
		} else if i > w.Axis {
			inner *= d
		}
	}
	row, at := w.Shape[w.Axis]*inner, 0
	for _, p := range w.Parts {
		n := p.Extents()[w.Axis] * inner
		part := make([]byte, outer*n)
		if err := src.Read(p, w.DType, layer, part); err != nil {
			return nil, err
		}
		for o := range outer {
			copy(data[o*row+at:o*row+at+n], part[o*n:])
		}
		at += n
	}
	if at != row {
		return nil, fmt.Errorf("internal error: parts of weight %s fill %d of %d bytes a row", w.Name, at, row)
	}
	return data, nil
}

// Name returns a part's logical name in a layer.
func Name(p plan.Part, layer int) string {
	return strings.ReplaceAll(p.Weight, "{layer}", strconv.Itoa(layer))
}
