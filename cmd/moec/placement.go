package main

import (
	"bytes"
	"cmp"
	"errors"
	"io/fs"
	"os"

	"moec/ir"
	"moec/ir/placement"
	"moec/passes"
	"moec/passes/balance"
)

// maxPlacement bounds a placement file; one that places each of 256 experts of
// 61 layers by itself has 2 MB.
const maxPlacement = 64 << 20

// defaultBase is the strategy under homes of experts that another tool chose.
const defaultBase = "ep"

// namedOrFile is a strategy by name, or the placement of a file.
func namedOrFile(g *ir.Graph, what string, devices int) (*placement.Placement, error) {
	if _, err := os.Stat(what); errors.Is(err, fs.ErrNotExist) {
		return passes.Named(g, what, devices)
	}
	return placementFile(g, what, "", devices)
}

// placementFile reads a placement, a map of experts, EPLB's phy2log or a
// solution of ExFlow. The last two say where experts live, and nothing else:
// strategy places the rest.
func placementFile(g *ir.Graph, path, strategy string, devices int) (*placement.Placement, error) {
	bad := func(what, remedy string) (*placement.Placement, error) {
		return nil, &placement.FileError{File: path, What: what, Remedy: remedy}
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return bad("there is no such placement file", "name a file with a placement or a map of experts, or a --strategy")
	case err == nil && (!info.Mode().IsRegular() || info.Size() > maxPlacement):
		return bad("is not a placement", "name a regular file of at most 64 MB")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return bad(err.Error(), "")
	}
	switch start := bytes.TrimLeft(text, " \t\r\n"); {
	case len(start) == 0:
		return bad("is empty", "name a file with a placement or a map of experts")
	case start[0] == '{' && strategy != "":
		return bad("says itself what strategy it builds on", "leave out --strategy "+strategy)
	case start[0] == '{':
		return passes.FromFile(g, path, text, devices)
	case start[0] == '[' || bytes.HasPrefix(start, []byte("tensor")):
		return importedFile(g, path, cmp.Or(strategy, defaultBase), devices, func(layers, experts int) ([][][]int, error) {
			return eplbHomes(path, text, layers, experts, devices)
		})
	}
	return importedFile(g, path, cmp.Or(strategy, defaultBase), devices, func(layers, experts int) ([][][]int, error) {
		return exflowHomes(path, text, layers, experts, devices)
	})
}

// eplbHomes reads EPLB's phy2log: the devices of each expert of each layer.
func eplbHomes(path string, text []byte, layers, experts, devices int) ([][][]int, error) {
	list, err := balance.ParseLayouts(path, text, layers, experts, devices)
	homes := make([][][]int, len(list))
	for i, l := range list {
		homes[i] = balance.Homes(l, experts, devices)
	}
	return homes, err
}

// exflowHomes reads a solution of ExFlow.
func exflowHomes(path string, text []byte, layers, experts, devices int) ([][][]int, error) {
	list, err := balance.ParseExFlow(path, text, layers, experts, devices)
	homes := make([][][]int, len(list))
	for i, l := range list {
		for _, d := range l {
			homes[i] = append(homes[i], []int{d})
		}
	}
	return homes, err
}

// importedFile places experts where another tool put them, and all else by a
// strategy.
func importedFile(g *ir.Graph, path, strategy string, devices int, read func(layers, experts int) ([][][]int, error)) (*placement.Placement, error) {
	m := passes.Summarise(g)
	layers, experts, err := routedLayers(path, m)
	if err != nil {
		return nil, err
	}
	homes, err := read(len(layers), experts)
	if err != nil {
		return nil, err
	}
	p, err := passes.NamedFor(m, strategy, devices)
	if err != nil {
		return nil, err
	}
	if err := (&placement.Map{File: path, Strategy: strategy, Experts: balance.Map(layers, homes)}).Apply(p); err != nil {
		return nil, err
	}
	return p, p.Check(m)
}

// routedLayers lists the layers that have experts, and how many each has.
func routedLayers(path string, m placement.Summary) (layers []int, experts int, err error) {
	for l, s := range m.Layers {
		switch {
		case s.Experts == 0:
			continue
		case experts > 0 && s.Experts != experts:
			return nil, 0, &placement.FileError{File: path, What: "needs a model whose layers have the same number of experts", Remedy: "write a map of experts"}
		}
		layers, experts = append(layers, l), s.Experts
	}
	if len(layers) == 0 {
		return nil, 0, &placement.FileError{File: path, What: "places experts, and the model has none", Remedy: "name a strategy"}
	}
	return layers, experts, nil
}
