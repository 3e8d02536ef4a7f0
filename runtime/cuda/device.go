package cuda

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"moec/codegen"
	"moec/planner/plan"
	"moec/runtime/cuda/driver"
)

// device is one device of the plan.
type device struct {
	id     int
	gpu    driver.Device
	index  int // of the GPU
	stream driver.Stream
	arena  driver.Ptr
	// tables are the page tables of the token groups that have caches here.
	tables  map[int]driver.Ptr
	modules []driver.Module
	loading int           // index of the module that puts weights in their places
	layouts []plan.Layout // of weights
	// space is memory of kernels that execute whole programs, one at a time: first
	// that of programs in one kernel, then that of series.
	space       driver.Ptr
	spaceBytes  int64
	seriesSpace int64  // where the latter begins
	staged      staged // inputs on their way
	sampling    int    // index of the module that chooses tokens
	ahead       *ahead // nil until a step is continued
	// programs are those of the plan, each with its turns in order.
	programs []queue
	timed    *timed // the last step, if it was of a whole program
	params   driver.Params
	bytes    []byte // of an argument
}

// spaceOf returns the largest spaces that a device's whole programs need: those
// that one kernel executes, and those that a series does.
func spaceOf(k plan.Kernels, device int) (one, series int64) {
	for _, w := range k.Wholes {
		switch {
		case w.Device != device:
		case w.Kernel == codegen.Prefill:
			series = max(series, w.Space)
		default:
			one = max(one, w.Space)
		}
	}
	return one, series
}

// open opens the GPU of every device of the plan and returns the architecture
// that they share.
func (g *Program) open(d driver.Driver) (arch string, err error) {
	gpus := d.Devices()
	need := len(g.plan.Memory)
	if need > len(gpus) && !g.options.Oversubscribe {
		return "", fmt.Errorf("the plan is for %d devices, this machine has %d GPU(s); compile it for %d, or let devices share a GPU with --oversubscribe", need, len(gpus), len(gpus))
	}
	for id := range need {
		index := id % len(gpus)
		if id > 0 && gpus[index].Arch() != arch {
			return "", fmt.Errorf("the plan's devices would be on %v and %v, which need different kernels; choose alike ones with CUDA_VISIBLE_DEVICES", gpus[0], gpus[index])
		}
		arch = gpus[index].Arch()
		gpu, err := d.Device(index)
		if err != nil {
			return "", err
		}
		g.devices = append(g.devices, &device{id: id, gpu: gpu, index: index, tables: make(map[int]driver.Ptr)})
	}
	return arch, nil
}

// tableBytes returns the size of a token group's page table.
func tableBytes(l plan.Limits) int64 { return 4 * int64(l.Sequences) * int64(codegen.TableWidth(l)) }

// groups lists the token groups that have caches on the device.
func (d *device) groups(p *plan.Plan) []int {
	var list []int
	for _, c := range p.Caches {
		if c.Device == d.id && !slices.Contains(list, c.Group) {
			list = append(list, c.Group)
		}
	}
	return list
}

// bytesNeeded returns what the device allocates.
func (d *device) bytesNeeded(p *plan.Plan) int64 {
	return p.Memory[d.id].Total + int64(len(d.groups(p)))*tableBytes(p.Limits) + d.spaceBytes
}

// fits compares what the devices need with what their GPUs have left.
func (g *Program) fits() error {
	need := make(map[int]int64)
	names := make(map[int][]string)
	for _, d := range g.devices {
		need[d.index] += d.bytesNeeded(g.plan)
		names[d.index] = append(names[d.index], fmt.Sprint(d.id))
	}
	for _, d := range g.devices {
		free, total, err := d.gpu.MemInfo()
		if err != nil {
			return err
		}
		if n := need[d.index]; n > free {
			return fmt.Errorf("GPU %d (%s) has too little memory: need %s for device %s of the plan, have %s free of %s; compile for more devices, or with a shorter --context",
				d.index, d.gpu.Info().Name, size(n), strings.Join(names[d.index], " and "), size(free), size(total))
		}
	}
	return nil
}

func size(bytes int64) string {
	if bytes < 1<<30 {
		return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
}

// allocate makes the device's stream and memories and loads its code.
func (d *device) allocate(p *plan.Plan, images [][]byte) (err error) {
	if d.stream, err = d.gpu.NewStream(); err != nil {
		return err
	}
	for _, image := range images {
		m, err := d.gpu.LoadModule(image)
		if err != nil {
			return err
		}
		d.modules = append(d.modules, m)
	}
	if total := p.Memory[d.id].Total; total > 0 {
		if d.arena, err = d.gpu.Alloc(total); err != nil {
			return err
		}
	}
	if d.spaceBytes > 0 {
		if d.space, err = d.gpu.Alloc(d.spaceBytes); err != nil {
			return err
		}
		if err := d.gpu.Memset(d.space, 0, d.spaceBytes); err != nil {
			return err
		}
	}
	if err := d.staged.allocate(d, p); err != nil {
		return err
	}
	for _, group := range d.groups(p) {
		if d.tables[group], err = d.gpu.Alloc(tableBytes(p.Limits)); err != nil {
			return err
		}
	}
	return nil
}

// close gives everything back. Closing the last handle of a GPU's context ends
// it with all that is left in it.
func (d *device) close() error {
	var errs []error
	for _, p := range d.tables {
		errs = append(errs, d.gpu.Free(p))
	}
	if d.ahead != nil {
		errs = append(errs, d.ahead.close(d))
	}
	if d.staged.buffer != nil {
		errs = append(errs, d.staged.buffer.Free())
	}
	if d.space != 0 {
		errs = append(errs, d.gpu.Free(d.space))
	}
	if d.arena != 0 {
		errs = append(errs, d.gpu.Free(d.arena))
	}
	for _, m := range d.modules {
		errs = append(errs, d.gpu.UnloadModule(m))
	}
	if d.stream != 0 {
		errs = append(errs, d.gpu.CloseStream(d.stream))
	}
	return errors.Join(append(errs, d.gpu.Close())...)
}

// at returns the address of bytes of the arena, which the plan may place badly.
func (d *device) at(p *plan.Plan, offset, bytes int64) (driver.Ptr, error) {
	if total := p.Memory[d.id].Total; offset < 0 || bytes < 0 || offset+bytes > total {
		return 0, fmt.Errorf("internal error: %d bytes at %d of device %d, which has %d", bytes, offset, d.id, total)
	}
	return d.arena + driver.Ptr(offset), nil
}

// staged is page-locked memory from which a step's inputs are copied while the
// host goes on.
type staged struct {
	buffer driver.HostBuffer
	used   int64
	tables map[int][]int32 // page tables on the device, by token group
}

// allocate makes room for the largest step.
func (s *staged) allocate(d *device, p *plan.Plan) (err error) {
	bytes := int64(len(d.groups(p))+1) * (4*4*int64(p.Limits.Tokens+p.Limits.Rows) + tableBytes(p.Limits))
	s.tables = make(map[int][]int32)
	s.buffer, err = d.gpu.AllocHost(bytes)
	return err
}

// upload copies numbers to an address before what is put on the stream later.
func (d *device) upload(to driver.Ptr, list []int32) error {
	bytes := int64(4 * len(list))
	if bytes == 0 {
		return nil
	}
	memory := d.staged.buffer.Bytes()
	if d.staged.used+bytes > int64(len(memory)) {
		return fmt.Errorf("internal error: inputs of %d bytes, room for %d", d.staged.used+bytes, len(memory))
	}
	part := driver.HostPart{Buffer: d.staged.buffer, Offset: d.staged.used, Bytes: bytes}
	for i, v := range list {
		binary.LittleEndian.PutUint32(memory[part.Offset+int64(4*i):], uint32(v))
	}
	d.staged.used += bytes
	return d.gpu.HtoDAsync(to, part, d.stream)
}

// uploadTable copies a page table if it is another than before.
func (d *device) uploadTable(group int, list []int32) error {
	if slices.Equal(d.staged.tables[group], list) {
		return nil
	}
	d.staged.tables[group] = list
	return d.upload(d.tables[group], list)
}

func floatBytes(list []float32) []byte {
	b := make([]byte, 0, 4*len(list))
	for _, v := range list {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}
