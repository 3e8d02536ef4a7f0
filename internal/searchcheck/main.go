// Command searchcheck prints what the placement search is measured by: how far
// from the best its answers are, how long they take, and how they compare with
// what people would name.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	"moec/dsl"
	"moec/ir"
	"moec/ir/machine"
	"moec/ir/routing"
	"moec/passes"
	"moec/passes/search"
)

// section is a table that the command prints.
type section struct {
	name, doc string
	run       func(*check) error
}

var sections = []section{
	{"mixtral", "Mixtral 8x7B on four devices: exact, and mcmc over seeds", (*check).mixtral},
	{"random", "random placements against the bound", (*check).random},
	{"hand", "the search against named strategies, on every machine", (*check).hand},
	{"scale", "time against layers, experts and devices", (*check).scale},
	{"anchors", "ranking against measured times of others' kernels on H200s", (*check).anchors},
}

func main() {
	log.SetFlags(0)
	c := &check{}
	flag.StringVar(&c.examples, "examples", "examples", "directory of the descriptions")
	flag.IntVar(&c.seeds, "seeds", 100, "seeds of mcmc")
	flag.IntVar(&c.placements, "placements", 10000, "random placements")
	only := flag.String("only", "", "sections to print, comma-separated")
	flag.Parse()
	for _, s := range sections {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), s.name) {
			continue
		}
		fmt.Printf("== %s: %s\n", s.name, s.doc)
		if err := s.run(c); err != nil {
			log.Fatalf("%s: %v", s.name, err)
		}
		fmt.Println()
	}
	if c.failed.Load() {
		os.Exit(1)
	}
}

// check is the command's settings and whether anything fell short.
type check struct {
	examples          string
	seeds, placements int
	failed            atomic.Bool
}

// short notes that something fell short of what it should reach.
func (c *check) short(out io.Writer, format string, args ...any) {
	c.failed.Store(true)
	fmt.Fprintf(out, "  SHORT: "+format+"\n", args...)
}

// inOrder works on the parts of a table, one on each processor, and prints them
// in order, each when those before are done.
func inOrder(n int, part func(i int, out io.Writer) error) error {
	done := make([]chan error, n)
	texts := make([]bytes.Buffer, n)
	var next atomic.Int64
	for i := range done {
		done[i] = make(chan error, 1)
	}
	for range min(n, runtime.GOMAXPROCS(0)) {
		go func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				done[i] <- part(i, &texts[i])
			}
		}()
	}
	for i := range done {
		err := <-done[i]
		os.Stdout.Write(texts[i].Bytes())
		if err != nil {
			return err
		}
	}
	return nil
}

// outline reads an example with other sizes.
func (c *check) outline(example string, set map[string]string) (*passes.Outline, error) {
	src, err := os.ReadFile(filepath.Join(c.examples, example+".moe"))
	if err != nil {
		return nil, err
	}
	f, list := dsl.Parse(example, src)
	if len(list) > 0 {
		return nil, list
	}
	b, list := dsl.Build(f, dsl.Env{Set: set})
	if len(list) > 0 {
		return nil, list
	}
	ctx := &passes.Context{Numerics: ir.Numerics{Mode: ir.Invariant, Segments: 8}, To: "segment"}
	if err := passes.Run(ctx, b.Graph); err != nil {
		return nil, err
	}
	return passes.NewOutline(b.Graph)
}

// shapes are the routed layers of a model.
func shapes(o *passes.Outline) []routing.Shape {
	var list []routing.Shape
	for l, s := range o.Summary.Layers {
		list = append(list, routing.Shape{Experts: s.Experts, Slots: o.Slots(l + 1)})
	}
	return list
}

// problem is Mixtral, in the type that the machine multiplies, for 8 sequences
// of 4,096 positions.
func (c *check) problem(machineName string, w search.Workload, spec string) (*search.Problem, error) {
	m, err := machine.Lookup(machineName)
	if err != nil {
		return nil, err
	}
	set := map[string]string{}
	if _, ok := m.Device.Rates["bf16"]; !ok && m.Device.Kind == "cuda" {
		set["act"] = "f16"
	}
	o, err := c.outline("mixtral", set)
	if err != nil {
		return nil, err
	}
	stats, err := routing.Parse(spec, shapes(o))
	if err != nil {
		return nil, err
	}
	return &search.Problem{Outline: o, Machine: m, Stats: stats, Workload: w, Positions: 8 * 4096}, nil
}

func milliseconds(ps int64) float64 { return float64(ps) / 1e9 }

func percent(ppm int64) float64 { return float64(ppm) / 1e4 }
