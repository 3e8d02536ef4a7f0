package plan

import (
	"fmt"
	"slices"
	"strings"

	"moec/ir/placement"
)

// placeText says in a line how a layer is placed.
func placeText(groups [][]int, attention, dense []placement.Split, experts []placement.Expert) string {
	var parts []string
	if len(groups) > 1 {
		parts = append(parts, fmt.Sprintf("tokens in %d groups %v", len(groups), groups))
	} else if len(groups) == 1 {
		parts = append(parts, fmt.Sprintf("devices %v", groups[0]))
	}
	if t := splitsText(attention); t != "" {
		parts = append(parts, "attention "+t)
	}
	if t := splitsText(dense); t != "" {
		parts = append(parts, "dense "+t)
	}
	if t := expertsText(experts); t != "" {
		parts = append(parts, "experts "+t)
	}
	return strings.Join(parts, "; ")
}

func splitsText(list []placement.Split) string {
	var texts []string
	for _, s := range list {
		if t := splitText(s); t != "" {
			texts = append(texts, t)
		}
	}
	return strings.Join(slices.Compact(texts), " | ")
}

// splitText prints "0 1 2 3 by segments 2 2 2 2", or "copied on 0 1".
func splitText(s placement.Split) string {
	if len(s) == 0 {
		return ""
	}
	var devices, sizes []string
	same := true
	for _, sh := range s {
		devices = append(devices, fmt.Sprint(sh.Device))
		sizes = append(sizes, fmt.Sprint(sh.Hi-sh.Lo))
		same = same && sh.Lo == s[0].Lo
	}
	if len(s) == 1 {
		return "on device " + devices[0]
	}
	if same {
		return "copied on " + strings.Join(devices, " ")
	}
	return "split over " + strings.Join(devices, " ") + " in segments " + strings.Join(sizes, "+")
}

// expertsText lists runs of experts with the same home.
func expertsText(list []placement.Expert) string {
	var texts []string
	for i := 0; i < len(list); {
		home := homeText(list[i])
		j := i + 1
		for j < len(list) && homeText(list[j]) == home {
			j++
		}
		name := fmt.Sprint(i)
		if j > i+1 {
			name = fmt.Sprintf("%d-%d", i, j-1)
		}
		texts = append(texts, name+" "+home)
		i = j
	}
	return strings.Join(texts, ", ")
}

func homeText(e placement.Expert) string {
	var texts []string
	for _, s := range e {
		texts = append(texts, splitText(s))
	}
	return strings.Join(texts, " or ")
}
