package simulate

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
)

// traceEvent is an event of the trace format that chrome://tracing and
// Perfetto read. Phase X is a span, M names a process (a device) or a thread
// (a lane).
type traceEvent struct {
	Name  string         `json:"name"`
	Cat   string         `json:"cat,omitempty"`
	Phase string         `json:"ph"`
	PID   int            `json:"pid"`
	TID   int            `json:"tid"`
	TS    json.Number    `json:"ts,omitempty"`
	Dur   json.Number    `json:"dur,omitempty"`
	Args  map[string]any `json:"args,omitempty"`
}

// micros prints a time in microseconds, the unit of traces, exactly.
func micros(ps int64) json.Number { return json.Number(fmt.Sprintf("%d.%06d", ps/1e6, ps%1e6)) }

// tracer writes events one a line.
type tracer struct {
	w     *bufio.Writer
	err   error
	first bool
}

// WriteTrace writes a result in the trace format of Chrome and Perfetto:
// each device is a process with a thread for its steps, one for exchanges
// beside them and one for each direction of its ports; shared parts of links
// and the critical path are processes of their own.
func (r *Result) WriteTrace(w io.Writer) error { return r.WriteTraceBeside(w, nil) }

// Measured is what really happened on a device, for a trace. Costs of its spans
// are their prices, whatever they took.
type Measured struct {
	Name  string
	Spans []Span
}

// WriteTraceBeside is WriteTrace with measurements after the devices that were
// simulated.
func (r *Result) WriteTraceBeside(w io.Writer, measured []Measured) error {
	t := &tracer{w: bufio.NewWriter(w), first: true}
	fmt.Fprint(t.w, `{"displayTimeUnit":"ns","traceEvents":[`)
	tids := make(map[int]int) // threads of each process
	for _, d := range r.Devices {
		t.process(d.Device, fmt.Sprintf("device %d", d.Device))
		t.spans(d.Device, 0, "steps", d.Spans)
		tids[d.Device] = 1
		if len(d.Copies) > 0 {
			t.spans(d.Device, 1, "exchanges beside steps", d.Copies)
			tids[d.Device] = 2
		}
	}
	shared := len(r.Devices)
	named := false
	for _, l := range r.Links {
		pid := l.Device
		if l.Shared {
			if pid = shared; !named {
				t.process(pid, "shared parts of links")
				named = true
			}
		}
		t.lane(pid, tids[pid], &l)
		tids[pid]++
	}
	t.process(shared+1, "critical path")
	t.spans(shared+1, 0, "spans", r.Path.Spans)
	for i, m := range measured {
		t.process(shared+2+i, m.Name)
		t.spans(shared+2+i, 0, "steps", m.Spans)
	}
	if t.err == nil {
		_, t.err = t.w.WriteString("\n]}\n")
	}
	if t.err != nil {
		return t.err
	}
	return t.w.Flush()
}

func (t *tracer) event(e traceEvent) {
	if t.err != nil {
		return
	}
	sep := ",\n"
	if t.first {
		sep, t.first = "\n", false
	}
	text, err := json.Marshal(e)
	if err == nil {
		_, err = t.w.WriteString(sep + string(text))
	}
	t.err = err
}

func (t *tracer) process(pid int, name string) {
	t.event(traceEvent{Name: "process_name", Phase: "M", PID: pid, Args: map[string]any{"name": name}})
	t.event(traceEvent{Name: "process_sort_index", Phase: "M", PID: pid, Args: map[string]any{"sort_index": pid}})
}

func (t *tracer) thread(pid, tid int, name string) {
	t.event(traceEvent{Name: "thread_name", Phase: "M", PID: pid, TID: tid, Args: map[string]any{"name": name}})
	t.event(traceEvent{Name: "thread_sort_index", Phase: "M", PID: pid, TID: tid, Args: map[string]any{"sort_index": tid}})
}

func (t *tracer) spans(pid, tid int, name string, list []Span) {
	t.thread(pid, tid, name)
	for i := range list {
		s := &list[i]
		args := map[string]any{"block": s.Block, "layer": s.Layer, "step": s.Step}
		if s.Kind != Wait {
			args["device"], args["cost"] = s.Device, s.Cost
		}
		t.event(traceEvent{Name: s.Name, Cat: string(s.Kind), Phase: "X", PID: pid, TID: tid, TS: micros(s.Start), Dur: micros(s.End - s.Start), Args: args})
	}
}

func (t *tracer) lane(pid, tid int, l *Lane) {
	t.thread(pid, tid, l.Name)
	for _, s := range l.Spans {
		args := map[string]any{"bytes": s.Bytes, "block": s.Block, "layer": s.Layer, "to": s.To}
		if s.From >= 0 {
			args["from"] = s.From
		}
		t.event(traceEvent{Name: s.Op, Cat: string(Link), Phase: "X", PID: pid, TID: tid, TS: micros(s.Start), Dur: micros(s.End - s.Start), Args: args})
	}
}
