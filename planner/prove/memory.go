package prove

import (
	"cmp"
	"fmt"
	"slices"

	"moec/ir/tensor"
	"moec/planner/plan"
)

// loc is a piece of a device's arena: the bytes that a buffer, a const, a
// weight of one layer or a cache of one layer takes in the largest step. Bytes
// are those of full size; only what they hold is divided.
//
// What is written to a loc is there until a byte of it is written through
// another: then all of it is lost. A value is found only where it was written,
// not in a buffer that happens to lie at the same place.
type loc struct {
	device   int
	lo, hi   int64
	dtype    tensor.DType
	name     string
	overlaps []*loc

	content *array
	layout  layout // of content
	cache   *cache
	load    func() (*array, error) // of a resident, when it is first read
	changed int                    // the owner's time at the last change
	loss    origin                 // why there is no content
}

// layout is how elements follow each other for any number of rows.
type layout struct {
	outer int
	sym   tensor.Sym
	inner int
}

func layoutOf(t tensor.Type) layout {
	outer, sym, inner := elementsOf(t)
	return layout{outer, sym, inner}
}

// origin says why something is no number.
type origin struct {
	why   string
	loc   *loc
	with  *loc  // another whose bytes it shares
	by    *site // who did it
	layer int
}

func (o origin) String() string {
	text := o.why
	if o.loc != nil {
		text = fmt.Sprintf("%s of device %d %s", o.loc.name, o.loc.device, text)
	}
	if o.by != nil {
		text += " " + o.by.in(o.layer)
	}
	if o.with != nil {
		text += ", which gives its bytes to " + o.with.name
	}
	return text
}

// The reasons.
const (
	neverWritten  = "was not written"
	overwritten   = "was overwritten by"
	endedWithTurn = "lost what it held at the beginning of"
	endedWithStep = "lost what it held when the step began"
	otherElements = "holds elements in another order or number"
	neverStored   = "has no entry for a position that is read by"
	notHeld       = "a row of a slot that is not served here, made by"
	notChosen     = "a choice of experts by a router row that the model does not have, made by"
)

// poison returns the word that stands for no number, because of o.
func (m *machine) poison(o origin) uint64 {
	id, ok := m.blamed[o]
	if !ok {
		id = uint64(len(m.origins))
		m.origins = append(m.origins, o)
		m.blamed[o] = id
	}
	return poisoned | id
}

// reason returns why a word is no number.
func (m *machine) reason(x uint64) origin {
	if id := x &^ poisoned; id < uint64(len(m.origins)) {
		return m.origins[id]
	}
	return origin{why: neverWritten}
}

// align is the alignment of everything in an arena, in bytes; see the plan
// format, "Memory".
const align = 256

// loc makes a loc of a piece of a device's arena.
func (m *machine) loc(device int, lo, bytes int64, d tensor.DType, name string) (*loc, error) {
	if device < 0 || device >= len(m.devices) {
		return nil, fmt.Errorf("%s is on device %d of %d", name, device, len(m.devices))
	}
	if lo%align != 0 {
		return nil, fmt.Errorf("%s begins at byte %d of device %d, which is no multiple of %d", name, lo, device, align)
	}
	if total := m.p.Memory[device].Total; lo < 0 || bytes < 0 || lo > total-bytes {
		return nil, fmt.Errorf("%s takes bytes %d to %d of device %d, which has %d", name, lo, lo+bytes, device, total)
	}
	l := &loc{device: device, lo: lo, hi: lo + bytes, dtype: d, name: name, loss: origin{why: neverWritten}}
	l.loss.loc = l
	m.devices[device].all = append(m.devices[device].all, l)
	return l, nil
}

// buffer returns the loc of a buffer.
func (m *machine) buffer(b *plan.Buffer) (*loc, error) {
	if l := m.buffers[b]; l != nil {
		return l, nil
	}
	if g := b.Type.Shape.Sym().Group(); g >= m.p.Groups() {
		return nil, fmt.Errorf("buffer %s of device %d, %s, is of token group %d of %d", b.Name, b.Device, b.Type, g, m.p.Groups())
	}
	need := b.Type.Bytes(m.limits)
	if b.Bytes < need {
		return nil, fmt.Errorf("buffer %s of device %d, %s, has %d bytes, needs %d", b.Name, b.Device, b.Type, b.Bytes, need)
	}
	l, err := m.loc(b.Device, b.Offset, b.Bytes, b.Type.DType, b.Name)
	m.buffers[b] = l
	return l, err
}

// findOverlaps tells every loc which others share bytes with it.
func (d *device) findOverlaps() {
	list := slices.Clone(d.all)
	slices.SortStableFunc(list, func(a, b *loc) int { return cmp.Compare(a.lo, b.lo) })
	for i, a := range list {
		for _, b := range list[i+1:] {
			if b.lo >= a.hi {
				break
			}
			if b.lo < b.hi && a.lo < a.hi {
				a.overlaps = append(a.overlaps, b)
				b.overlaps = append(b.overlaps, a)
			}
		}
	}
}

// drop forgets what a loc holds.
func (l *loc) drop(o origin, now int) {
	o.loc = l
	l.content, l.cache, l.load, l.loss, l.changed = nil, nil, nil, o, now
}

// dropOverlaps forgets what shares bytes with a loc that is written.
func (l *loc) dropOverlaps(o origin, now int) {
	o.with = l
	for _, other := range l.overlaps {
		if other.content != nil || other.cache != nil || other.load != nil {
			other.drop(o, now)
		}
	}
}

// read returns what a loc holds, seen as an operand.
func (m *machine) read(l *loc, as *operand, dims []int) (*array, error) {
	if l.content == nil && l.load != nil {
		a, err := l.load()
		if err != nil {
			return nil, err
		}
		l.content, l.layout, l.load = a, layout{1, "", as.layout.inner}, nil
	}
	if l.content != nil && l.layout == as.layout && (m.follow != nil || len(l.content.data) == volume(dims)) {
		return l.content.as(dims), nil
	}
	why := l.loss
	if l.content != nil {
		why = origin{why: otherElements, loc: l}
	}
	if m.follow != nil {
		return &array{dtype: l.dtype, lost: m.poison(why)}, nil
	}
	a := newArray(l.dtype, dims)
	fill(a.data, m.poison(why))
	return a, nil
}

// write makes a loc hold a value.
func (m *machine) write(d *device, l *loc, a *array, by layout, o origin) error {
	now := d.clock[d.id]
	l.dropOverlaps(o, now)
	l.content, l.layout, l.load, l.changed = a, by, nil, now
	return d.settle(l, o)
}
