package plan

import (
	"fmt"
	"slices"
	"strings"

	"moec/ir/dot"
	"moec/ir/placement"
)

// LayerChange says how a run of layers is placed otherwise.
type LayerChange struct {
	Layers  Range    `json:"layers"`
	Changes []string `json:"changes"`
}

// LayerChanges says in which layers two placements differ, and how: in a that
// way, in b another.
func LayerChanges(a, b *placement.Placement) []LayerChange {
	var list []LayerChange
	for l := range min(len(a.Layers), len(b.Layers)) {
		changes := layerChanges(&a.Layers[l], &b.Layers[l])
		if n := len(list); n > 0 && list[n-1].Layers.Last == l-1 && slices.Equal(list[n-1].Changes, changes) {
			list[n-1].Layers.Last = l
			continue
		}
		if len(changes) > 0 {
			list = append(list, LayerChange{Range{l, l}, changes})
		}
	}
	return list
}

// layerChanges says how two ways to place a layer differ.
func layerChanges(a, b *placement.Layer) []string {
	var list []string
	change := func(what, x, y string) {
		if x != y {
			list = append(list, what+x+" -> "+y)
		}
	}
	change("", groupsText(a), groupsText(b))
	attention := [2]string{splitsText(a.Attention), splitsText(b.Attention)}
	dense := [2]string{splitsText(a.Dense), splitsText(b.Dense)}
	if attention == dense { // strategies split both alike, also where a model has no dense parts
		change("attention, dense parts: ", attention[0], attention[1])
	} else {
		change("attention: ", attention[0], attention[1])
		change("dense parts: ", dense[0], dense[1])
	}
	return append(list, expertChanges(a.Experts, b.Experts)...)
}

// LayerText says how a layer is placed, a line for each thing.
func LayerText(l *placement.Layer) []string {
	list := []string{groupsText(l)}
	if attention, dense := splitsText(l.Attention), splitsText(l.Dense); attention == dense {
		list = append(list, "attention, dense parts: "+attention)
	} else {
		list = append(list, "attention: "+attention, "dense parts: "+dense)
	}
	var order []string
	alike := make(map[string][]int)
	for e := range l.Experts {
		text := homeText(l.Experts[e])
		if alike[text] == nil {
			order = append(order, text)
		}
		alike[text] = append(alike[text], e)
	}
	for _, text := range order {
		list = append(list, expertsName(alike[text])+": "+text)
	}
	return list
}

// expertsName prints "expert 2" or "experts 0-3".
func expertsName(list []int) string {
	if len(list) == 1 {
		return fmt.Sprintf("expert %d", list[0])
	}
	return "experts " + dot.Numbers(list)
}

// groupsText says which devices have which tokens.
func groupsText(l *placement.Layer) string {
	var texts []string
	for _, g := range l.Groups {
		texts = append(texts, devicesText(g))
	}
	if len(texts) == 1 {
		return "all tokens on " + texts[0]
	}
	return fmt.Sprintf("tokens in %d groups on %s", len(texts), strings.Join(texts, ", "))
}

// devicesText prints "devices 0-3" or "device 2".
func devicesText(list []int) string {
	if len(list) == 1 {
		return fmt.Sprintf("device %d", list[0])
	}
	return "devices " + dot.Numbers(list)
}

// expertChanges says which experts live elsewhere, those that moved alike on
// one line.
func expertChanges(a, b []placement.Expert) []string {
	if len(a) != len(b) {
		return []string{fmt.Sprintf("%d experts -> %d", len(a), len(b))}
	}
	var order []string
	moved := make(map[string][]int)
	for e := range a {
		x, y := homeText(a[e]), homeText(b[e])
		if x == y {
			continue
		}
		text := x + " -> " + y
		if n := len(b[e]); n > 1 && n != len(a[e]) {
			text += fmt.Sprintf(" (kept %d times)", n)
		}
		if moved[text] == nil {
			order = append(order, text)
		}
		moved[text] = append(moved[text], e)
	}
	var list []string
	for _, text := range order {
		list = append(list, expertsName(moved[text])+": "+text)
	}
	return list
}

// EndChanges says how the embedding and the head are split otherwise.
func EndChanges(a, b *placement.Placement) []string {
	var list []string
	for _, end := range []struct {
		what string
		a, b []placement.Split
	}{{"embedding", a.Embed, b.Embed}, {"head", a.Head, b.Head}} {
		if x, y := splitsText(end.a), splitsText(end.b); x != y {
			list = append(list, fmt.Sprintf("%s: %s -> %s", end.what, x, y))
		}
	}
	return list
}
