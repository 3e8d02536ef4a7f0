package passes

import (
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

// Strategies is the strategy table. Factors may be multiplied: "pp2tp2".
var Strategies = [...]Strategy{
	{"tp", "tensor parallel: attention heads, feed-forward features and every expert's features are split"},
	{"ep", "expert parallel: whole experts on devices; attention and dense parts are split as in tp"},
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

var factor = regexp.MustCompile(`^(tp|ep|pp|dp|adp)(\d*)`)

// parseStrategy reads factors; one without a degree takes what the others
// leave of the devices.
func parseStrategy(name string, devices int) (degrees, error) {
	given := map[string]int{}
	open := ""
	for rest := name; rest != ""; {
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
	d, err := parseStrategy(name, devices)
	if err != nil {
		return nil, err
	}
	b := &strategist{name: name, degrees: d, segments: max(1, g.Numerics.Segments), total: totals(g)}
	if err := b.check(g); err != nil {
		return nil, err
	}
	p := &placement.Placement{Devices: devices, Strategy: name, Segments: b.segments}
	for l := range g.Layers {
		p.Layers = append(p.Layers, b.layer(l*d.pp/max(1, g.Layers), b.total[l]))
	}
	if g.Layers == 0 {
		return nil, &PlacementError{Strategy: name, What: "places layers, and the model has none", Remedy: "describe the layers with a loop"}
	}
	p.Embed = b.ends(p.Layers[0].Groups)
	p.Head = b.ends(p.Layers[len(p.Layers)-1].Groups)
	return p, nil
}

// totals returns the number of routed experts of each layer.
func totals(g *ir.Graph) []int {
	t := make([]int, g.Layers)
	for _, n := range g.Nodes {
		if n.Op.Name == "combine" && n.Layer >= 0 {
			t[n.Layer] = n.Attrs.Int("total", 0)
		}
	}
	return t
}

type strategist struct {
	degrees
	name     string
	segments int
	total    []int // experts of each layer
}

// check refuses degrees that leave devices without work.
func (b *strategist) check(g *ir.Graph) error {
	if b.pp > g.Layers {
		return &PlacementError{Strategy: b.name, What: "has more stages than layers", Need: fmt.Sprintf("%d layers", b.pp), Have: strconv.Itoa(g.Layers), Remedy: fmt.Sprintf("use pp1 to pp%d", g.Layers)}
	}
	if width := b.tp * b.ep; width > b.segments {
		return &PlacementError{Strategy: b.name, What: "splits contractions into more parts than they have segments", Need: strconv.Itoa(width), Have: strconv.Itoa(b.segments), Remedy: fmt.Sprintf("use degrees up to %d, or --segments %d", b.segments, width)}
	}
	for _, e := range b.total {
		if n := b.ep * b.adp; e > 0 && n > e {
			return &PlacementError{Strategy: b.name, What: "spreads experts over more devices than there are experts", Need: strconv.Itoa(n), Have: strconv.Itoa(e), Remedy: fmt.Sprintf("use degrees up to %d", e)}
		}
	}
	return b.narrowest(g)
}

// narrowest refuses splits finer than a region's units.
func (b *strategist) narrowest(g *ir.Graph) error {
	for _, r := range FindRegions(g) {
		width := b.tp * b.ep
		if r.Kind == Experts {
			width = b.tp
		}
		if r.Kind == Embedding || r.Kind == Head || r.Units < 2 || width <= r.Leaves() {
			continue
		}
		return &PlacementError{Strategy: b.name, What: fmt.Sprintf("splits the %s part of layer %d too finely", r.Kind, r.Layer), Need: fmt.Sprintf("%d segments", width), Have: strconv.Itoa(r.Leaves()), Remedy: "degrees that work: " + upTo(r.Leaves())}
	}
	return nil
}

func upTo(n int) string {
	var list []string
	for i := 1; i <= n; i++ {
		list = append(list, strconv.Itoa(i))
	}
	return strings.Join(list, ", ")
}

// layer places a layer of a stage.
func (b *strategist) layer(stage, experts int) placement.Layer {
	groups := max(b.dp, b.adp)
	width := b.tp * b.ep // devices of a group
	first := stage * groups * width
	var l placement.Layer
	for g := range groups {
		devices := consecutive(first+g*width, width)
		l.Groups = append(l.Groups, devices)
		l.Attention = append(l.Attention, b.split(devices))
		l.Dense = append(l.Dense, b.split(devices))
	}
	for e := range experts {
		l.Experts = append(l.Experts, b.expert(e, experts, l.Groups))
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

// split divides the segments as evenly as possible.
func (b *strategist) split(devices []int) placement.Split {
	var s placement.Split
	for i, d := range devices {
		s = append(s, placement.Share{Device: d, Lo: i * b.segments / len(devices), Hi: (i + 1) * b.segments / len(devices)})
	}
	return s
}

// expert gives an expert its home, in every group for dp, in one for adp.
func (b *strategist) expert(e, total int, groups [][]int) placement.Expert {
	if b.adp > 1 {
		all := slices.Concat(groups...)
		parts := b.adp * b.ep
		return placement.Expert{b.split(chunk(all, e*parts/total, parts))}
	}
	var homes placement.Expert
	for _, devices := range groups {
		homes = append(homes, b.split(chunk(devices, e*b.ep/total, b.ep)))
	}
	return homes
}

// chunk returns part i of n equal parts of a list.
func chunk(list []int, i, n int) []int {
	size := len(list) / n
	return list[i*size : (i+1)*size]
}

// ends splits the embedding and the head over each group.
func (b *strategist) ends(groups [][]int) []placement.Split {
	var list []placement.Split
	for _, devices := range groups {
		list = append(list, b.split(devices))
	}
	return list
}
