package passes

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"moec/ir"
	"moec/ir/placement"
)

// Strategy is one row of the strategy table: a word that users know for a way
// to place a model. A strategy is only a way to write a placement.
type Strategy struct {
	Name string // the factor's name; a degree may follow
	Doc  string
}

// Strategies is the strategy table. Factors may be multiplied: "pp2tp2" has
// two stages, each on two devices. Devices are numbered with the stages
// outermost, then token groups, then sets of experts, then shares.
var Strategies = [...]Strategy{
	{"tp", "tensor parallel: attention heads, feed-forward features and every expert's features are split"},
	{"ep", "expert parallel: whole experts on devices; attention and dense parts, and models without experts, are split as in tp"},
	{"pp", "pipeline parallel: runs of layers on devices"},
	{"dp", "data parallel: copies of the whole model, each for its own sequences"},
	{"adp", "attention data parallel: attention and dense parts as in dp, experts spread over all devices"},
}

// PlacementError says why a strategy cannot be applied.
type PlacementError struct {
	Strategy         string
	What, Need, Have string
	Remedy           string
}

// Error implements error on one line.
func (e *PlacementError) Error() string {
	s := fmt.Sprintf("strategy %q %s", e.Strategy, e.What)
	if e.Need != "" {
		s += ": need " + e.Need + ", have " + e.Have
	}
	return s + "; " + e.Remedy
}

// degrees are the factors of a strategy.
type degrees struct{ pp, dp, adp, tp, ep int }

var factor = regexp.MustCompile(`^(tp|ep|pp|dp|adp)(\d{0,4})`)

// parseStrategy reads factors; one without a degree takes what the others
// leave of the devices.
func parseStrategy(name string, devices int) (degrees, error) {
	given := map[string]int{}
	open := ""
	for rest := name; rest != "" || name == ""; {
		m := factor.FindStringSubmatch(rest)
		if m == nil {
			return degrees{}, unknownStrategy(name)
		}
		if _, twice := given[m[1]]; twice {
			return degrees{}, &PlacementError{Strategy: name, What: "has " + m[1] + " twice", Remedy: "multiply the degrees"}
		}
		n, _ := strconv.Atoi(m[2])
		if m[2] == "" && open != "" {
			return degrees{}, &PlacementError{Strategy: name, What: "leaves two degrees open", Remedy: "give all degrees but one"}
		}
		if m[2] == "" {
			open = m[1]
		} else if n < 1 {
			return degrees{}, &PlacementError{Strategy: name, What: "has a degree of 0", Remedy: "degrees are 1 and more"}
		}
		given[m[1]] = n
		rest = rest[len(m[0]):]
	}
	return fill(name, given, open, devices)
}

func unknownStrategy(name string) error {
	var names []string
	for _, s := range Strategies {
		names = append(names, s.Name)
	}
	return &PlacementError{Strategy: name, What: "is unknown", Remedy: "strategies are made of " + strings.Join(names, ", ") + ", each with a degree, such as tp4, ep or pp2tp2"}
}

// fill completes the degrees and checks their product.
func fill(name string, given map[string]int, open string, devices int) (degrees, error) {
	product := 1
	for _, n := range given {
		product *= max(1, n)
	}
	if open != "" {
		if devices%product != 0 {
			return degrees{}, &PlacementError{Strategy: name, What: "does not divide the devices", Need: fmt.Sprintf("a multiple of %d", product), Have: strconv.Itoa(devices), Remedy: "give other degrees"}
		}
		given[open] = devices / product
		product = devices
	}
	if product != devices {
		return degrees{}, &PlacementError{Strategy: name, What: "does not use the devices", Need: fmt.Sprintf("%d devices", product), Have: strconv.Itoa(devices), Remedy: fmt.Sprintf("use --gpus %d or other degrees", product)}
	}
	one := func(k string) int { return max(1, given[k]) }
	d := degrees{one("pp"), one("dp"), one("adp"), one("tp"), one("ep")}
	if d.dp > 1 && d.adp > 1 {
		return d, &PlacementError{Strategy: name, What: "has both dp and adp", Remedy: "choose one: adp spreads the experts, dp copies them"}
	}
	return d, nil
}

// Named writes the placement of a named strategy for a logical graph.
func Named(g *ir.Graph, name string, devices int) (*placement.Placement, error) {
	return NamedFor(Summarise(g), name, devices)
}

// NamedFor writes the placement of a named strategy for a model.
func NamedFor(m placement.Summary, name string, devices int) (*placement.Placement, error) {
	d, err := parseStrategy(name, devices)
	if err != nil {
		return nil, err
	}
	b := &strategist{name: name, degrees: d, model: m}
	if err := b.check(); err != nil {
		return nil, err
	}
	p := &placement.Placement{Devices: devices, Strategy: name, Segments: m.Segments}
	for l := range m.Layers {
		p.Layers = append(p.Layers, b.layer(l*d.pp/len(m.Layers), m.Layers[l]))
	}
	p.Embed = b.splits(p.Layers[0].Groups, m.Embed)
	p.Head = b.splits(p.Layers[len(p.Layers)-1].Groups, m.Head)
	return p, nil
}

// FromFile writes the placement of a file for a logical graph: a whole
// placement, or an expert map on top of a strategy.
func FromFile(g *ir.Graph, file string, text []byte, devices int) (*placement.Placement, error) {
	m := Summarise(g)
	var keys map[string]json.RawMessage
	if json.Unmarshal(text, &keys) == nil && keys["layers"] != nil {
		p, err := placement.Parse(file, text)
		if err != nil {
			return nil, err
		}
		if p.Devices != devices {
			return nil, &PlacementError{Strategy: p.Strategy, What: "of " + file + " is for another number of devices", Need: strconv.Itoa(p.Devices), Have: strconv.Itoa(devices), Remedy: fmt.Sprintf("use --gpus %d", p.Devices)}
		}
		return p, suits(p, m)
	}
	homes, err := placement.ParseMap(file, text)
	if err != nil {
		return nil, err
	}
	p, err := NamedFor(m, homes.Strategy, devices)
	if err != nil {
		return nil, err
	}
	if err := homes.Apply(p); err != nil {
		return nil, err
	}
	return p, suits(p, m)
}

// suits reports why a placement cannot be used for a model.
func suits(p *placement.Placement, m placement.Summary) error {
	err := p.Check(m)
	var e *placement.Error
	if !errors.As(err, &e) {
		return err
	}
	remedy := e.Remedy
	if remedy == "" {
		remedy = "correct the placement, or name a strategy"
	}
	return &PlacementError{Strategy: p.Strategy, What: "does not suit the model: " + e.Where, Need: e.Need, Have: e.Have, Remedy: remedy}
}

// strategist writes the placement of a strategy.
type strategist struct {
	degrees
	name  string
	model placement.Summary
}

// width is the devices of a token group of a stage.
func (b *strategist) width() int { return b.tp * b.ep }

// check refuses degrees that leave devices without work.
func (b *strategist) check() error {
	layers := len(b.model.Layers)
	if layers == 0 {
		return &PlacementError{Strategy: b.name, What: "places layers, and the model has none", Remedy: "describe the layers with a loop"}
	}
	if b.pp > layers {
		return &PlacementError{Strategy: b.name, What: "has more stages than the model has layers", Need: strconv.Itoa(b.pp), Have: strconv.Itoa(layers), Remedy: "degrees of pp that work: " + upTo(layers)}
	}
	for i, l := range b.model.Layers {
		for _, part := range []struct {
			name          string
			degree, parts int
			factor        string
		}{
			{"attention", b.width(), l.Attention, "tp and ep together"},
			{"dense feed-forward part", b.width(), l.Dense, "tp and ep together"},
			{"feed-forward part of each expert", b.tp, l.Inner, "tp"},
			{"routed experts", b.ep * b.adp, l.Experts, "ep and adp together"},
		} {
			if part.parts > 0 && part.degree > part.parts {
				return b.tooFine(i, part.name, part.factor, part.degree, part.parts)
			}
		}
	}
	return nil
}

func (b *strategist) tooFine(layer int, what, factor string, need, have int) error {
	e := &PlacementError{Strategy: b.name, What: fmt.Sprintf("divides the %s of layer %d further than possible", what, layer),
		Need: fmt.Sprintf("%d parts", need), Have: strconv.Itoa(have), Remedy: "degrees of " + factor + " that work: " + upTo(have)}
	if have == b.model.Segments {
		e.Remedy += fmt.Sprintf(", or --segments %d", need)
	}
	return e
}

func upTo(n int) string {
	list := make([]string, min(n, 16))
	for i := range list {
		list[i] = strconv.Itoa(i + 1)
	}
	if n > len(list) {
		list = append(list, "...", strconv.Itoa(n))
	}
	return strings.Join(list, ", ")
}

// layer places a layer of a stage.
func (b *strategist) layer(stage int, m placement.LayerSummary) placement.Layer {
	groups := max(b.dp, b.adp)
	first := stage * groups * b.width()
	var l placement.Layer
	for g := range groups {
		l.Groups = append(l.Groups, consecutive(first+g*b.width(), b.width()))
	}
	l.Attention, l.Dense = b.splits(l.Groups, m.Attention), b.splits(l.Groups, m.Dense)
	for e := range m.Experts {
		l.Experts = append(l.Experts, b.expert(e, m, l.Groups))
	}
	return l
}

func consecutive(first, n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = first + i
	}
	return list
}

// splits divides a part over the devices of each group.
func (b *strategist) splits(groups [][]int, leaves int) []placement.Split {
	var list []placement.Split
	for _, devices := range groups {
		list = append(list, b.split(devices, leaves))
	}
	return list
}

// split divides a part with that many leaves as evenly as possible, in runs of
// the segments that placements count in: 8 leaves over 3 devices are 3, 3, 2.
func (b *strategist) split(devices []int, leaves int) placement.Split {
	if leaves < len(devices) {
		leaves = b.model.Segments // the part is not there, or small: any split will do
	}
	start := func(i int) int { // the first segment of which the leaf is not before share i's first
		first := (i*leaves + len(devices) - 1) / len(devices)
		return (first*b.model.Segments + leaves - 1) / leaves
	}
	var s placement.Split
	for i, d := range devices {
		if start(i) < start(i+1) {
			s = append(s, placement.Share{Device: d, Lo: start(i), Hi: start(i + 1)})
		}
	}
	return s
}

// expert gives an expert its home: the set of devices that its number falls to
// when the experts are dealt out in runs, in every group for dp, among all
// groups for adp.
func (b *strategist) expert(e int, m placement.LayerSummary, groups [][]int) placement.Expert {
	if b.adp > 1 {
		groups = [][]int{slices.Concat(groups...)}
	}
	sets := b.ep * b.adp
	var homes placement.Expert
	for _, devices := range groups {
		set := e * sets / m.Experts
		homes = append(homes, b.split(devices[set*b.tp:(set+1)*b.tp], m.Inner))
	}
	return homes
}
