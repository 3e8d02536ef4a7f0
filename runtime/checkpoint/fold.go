package checkpoint

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Pattern stands for tensors of one type and shape whose names differ in
// numbers only, all combinations of which occur.
type Pattern struct {
	Name  string  `json:"name"` // "layers.{0..31}.experts.{0..7}.w1"
	DType string  `json:"dtype"`
	Shape []int64 `json:"shape"`
	Count int     `json:"count"`
	Bytes int64   `json:"bytes"` // of all of them
}

// hole stands for a number in a name; no name holds this character.
const hole = "\x00"

// family are tensors whose names differ in numbers only.
type family struct {
	parts   []string // of the name, with a hole for each number
	like    Info
	members [][]int // the numbers of each
}

// maxNumbers bounds how many numbers of a name are folded, which bounds the
// work for names made of numbers only. Names of models have two.
const maxNumbers = 4

// Fold groups tensors into patterns, in the order of their names with numbers
// by value.
func Fold(tensors []Info) []Pattern {
	families := make(map[string]*family)
	for _, t := range tensors {
		parts := strings.Split(t.Name, ".")
		var numbers []int
		for i, p := range parts {
			if n, ok := plainNumber(p); ok && len(numbers) < maxNumbers {
				numbers = append(numbers, n)
				parts[i] = hole
			}
		}
		key := strings.Join(parts, ".") + " " + t.DType + shapeText(t.Shape)
		f := families[key]
		if f == nil {
			f = &family{parts: parts, like: t}
			families[key] = f
		}
		f.members = append(f.members, numbers)
	}
	var list []folded
	for _, f := range families {
		for _, p := range products(f.members) {
			list = append(list, f.pattern(p))
		}
	}
	slices.SortFunc(list, func(a, b folded) int {
		return cmp.Or(natural(a.first, b.first), strings.Compare(a.Name, b.Name), strings.Compare(a.DType, b.DType),
			slices.Compare(a.Shape, b.Shape))
	})
	patterns := make([]Pattern, len(list))
	for i, p := range list {
		patterns[i] = p.Pattern
	}
	return patterns
}

// folded is a pattern with the parts of its first tensor's name.
type folded struct {
	Pattern
	first []string
}

// pattern makes the pattern of a product of numbers.
func (f *family) pattern(p product) folded {
	out := folded{Pattern: Pattern{DType: f.like.DType, Shape: f.like.Shape, Count: 1}}
	shown := slices.Clone(f.parts)
	out.first = slices.Clone(f.parts)
	n := 0
	for i, part := range f.parts {
		if part != hole {
			continue
		}
		shown[i], out.first[i] = braces(p[n]), strconv.Itoa(p[n][0])
		out.Count *= len(p[n])
		n++
	}
	out.Name = strings.Join(shown, ".")
	out.Bytes = int64(out.Count) * f.like.Bytes()
	return out
}

// plainNumber returns the value of a part of a name that is a number written
// the one usual way.
func plainNumber(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= 0 && strconv.Itoa(n) == s
}

// product is a list of sets, each sorted, and stands for all combinations.
type product [][]int

// products writes tuples of equal length, all different, as few products:
// first numbers that are followed by the same products share them.
func products(tuples [][]int) []product {
	if len(tuples[0]) == 0 {
		return []product{{}}
	}
	rest := make(map[int][][]int)
	var heads []int
	for _, t := range tuples {
		if rest[t[0]] == nil {
			heads = append(heads, t[0])
		}
		rest[t[0]] = append(rest[t[0]], t[1:])
	}
	slices.Sort(heads)
	var out []product
	seen := make(map[string]int) // place in out by the rest's text
	for _, h := range heads {
		for _, tail := range products(rest[h]) {
			key := fmt.Sprint(tail)
			if i, ok := seen[key]; ok {
				out[i][0] = append(out[i][0], h)
				continue
			}
			seen[key] = len(out)
			out = append(out, append(product{{h}}, tail...))
		}
	}
	return out
}

// braces writes a sorted set as "3", "{0..31}", "{0..30..2}" or
// "{0..2,4,8..31}".
func braces(set []int) string {
	if len(set) == 1 {
		return strconv.Itoa(set[0])
	}
	if step := set[1] - set[0]; step > 1 && len(set) > 2 && evenly(set, step) {
		return fmt.Sprintf("{%d..%d..%d}", set[0], set[len(set)-1], step)
	}
	var parts []string
	for i := 0; i < len(set); {
		j := i
		for j+1 < len(set) && set[j+1] == set[j]+1 {
			j++
		}
		switch j - i {
		case 0:
			parts = append(parts, strconv.Itoa(set[i]))
		case 1:
			parts = append(parts, strconv.Itoa(set[i]), strconv.Itoa(set[j]))
		default:
			parts = append(parts, fmt.Sprintf("%d..%d", set[i], set[j]))
		}
		i = j + 1
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func evenly(set []int, step int) bool {
	for i := 1; i < len(set); i++ {
		if set[i]-set[i-1] != step {
			return false
		}
	}
	return true
}

// natural compares names by their parts, numbers by value and before words.
func natural(a, b []string) int {
	return slices.CompareFunc(a, b, func(x, y string) int {
		n, isX := plainNumber(x)
		m, isY := plainNumber(y)
		switch {
		case isX && isY:
			return cmp.Compare(n, m)
		case isX:
			return -1
		case isY:
			return 1
		}
		return strings.Compare(x, y)
	})
}
