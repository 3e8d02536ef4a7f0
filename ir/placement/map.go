package placement

import (
	"fmt"
	"path/filepath"
)

// Map is an expert map file: which devices keep each expert, on top of what a
// strategy says of everything else.
//
//	{"strategy": "ep",
//	 "experts": [{"layers": "0-31", "homes": [[0],[0],[1],[1,2]]}]}
//
// An expert with several homes has a copy on each, and the copies take turns.
// Layers that are not listed keep the strategy's placement.
type Map struct {
	File     string
	Strategy string
	Experts  []MapRun
}

// MapRun places the experts of the layers First to Last.
type MapRun struct {
	First, Last int
	Homes       [][]int // for each expert, the devices that keep it
}

// ParseMap reads an expert map file. It checks the form only.
func ParseMap(file string, text []byte) (*Map, error) {
	var f struct {
		Strategy string `json:"strategy"`
		Experts  []struct {
			Layers span    `json:"layers"`
			Homes  [][]int `json:"homes"`
		} `json:"experts"`
	}
	if err := strict(text, &f); err != nil {
		return nil, fileError(file, text, err)
	}
	if f.Strategy == "" || len(f.Experts) == 0 {
		return nil, &FileError{File: file, What: "has no strategy or no experts",
			Remedy: `write {"strategy": "ep", "experts": [{"layers": "0-31", "homes": [[0], [1], ...]}]}`}
	}
	m := &Map{File: file, Strategy: f.Strategy}
	for _, r := range f.Experts {
		m.Experts = append(m.Experts, MapRun{r.Layers.first, r.Layers.last, r.Homes})
	}
	return m, nil
}

// Apply gives the experts of p, which the map's strategy wrote, the homes of
// the map.
func (m *Map) Apply(p *Placement) error {
	fail := func(format string, args ...any) error {
		return &FileError{File: m.File, What: fmt.Sprintf(format, args...)}
	}
	done := make(map[int]bool)
	for _, r := range m.Experts {
		for l := r.First; l <= r.Last; l++ {
			switch {
			case l >= len(p.Layers):
				return fail("layer %d: the model has layers 0 to %d", l, len(p.Layers)-1)
			case done[l]:
				return fail("layer %d is listed twice", l)
			case len(r.Homes) != len(p.Layers[l].Experts):
				return fail("layer %d: need homes for its %d experts, have %d", l, len(p.Layers[l].Experts), len(r.Homes))
			}
			done[l] = true
			experts := make([]Expert, len(r.Homes))
			for e, homes := range r.Homes {
				if len(homes) == 0 {
					return fail("layer %d: expert %d has no home", l, e)
				}
				for i, d := range homes {
					if d < 0 || d >= p.Devices || contains(homes[:i], d) {
						return fail("layer %d: expert %d lives on %v: need different devices from 0 to %d", l, e, homes, p.Devices-1)
					}
					experts[e] = append(experts[e], Split{{d, 0, p.Segments}})
				}
			}
			p.Layers[l].Experts = experts
		}
	}
	p.Strategy += " with " + filepath.Base(m.File)
	return nil
}
