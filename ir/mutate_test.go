package ir

import (
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var pieces = regexp.MustCompile(`-?[0-9]+(\.[0-9]+)?|[A-Za-z_]+|"[^"]*"|.`)

// extremes take the place of numbers and symbols.
var extremes = []string{"0", "1", "-1", "2", "4096", "1073741824", "9223372036854775807", "-9223372036854775808", "T", "S", "C", "T.0", "nan", "1e300"}

// class tells what kind of token may take a token's place.
func class(token string) byte {
	switch c := token[0]; {
	case digit(c) || c == '-':
		return '0'
	case letter(c):
		return 'a'
	default:
		return c
	}
}

// mutate puts other tokens of their class in the place of one or two, or an
// extreme in the place of a number.
func mutate(rng *rand.Rand, tokens []string) string {
	tokens = slices.Clone(tokens)
	for range 1 + rng.IntN(2) {
		at := rng.IntN(len(tokens))
		for class(tokens[at]) != '0' && class(tokens[at]) != 'a' && class(tokens[at]) != '"' {
			at = rng.IntN(len(tokens))
		}
		if class(tokens[at]) == '0' && rng.IntN(2) == 0 {
			tokens[at] = extremes[rng.IntN(len(extremes))]
			continue
		}
		other := rng.IntN(len(tokens))
		for class(tokens[other]) != class(tokens[at]) {
			other = rng.IntN(len(tokens))
		}
		tokens[at] = tokens[other]
	}
	return strings.Join(tokens, "")
}

// TestMutants parses and verifies damaged examples. Nothing may panic or take
// long, and what parses must print as text that parses to the same.
func TestMutants(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	parsed, refused := 0, 0
	for _, file := range slices.Sorted(maps.Keys(examples(t))) {
		var tokens []string
		for line := range strings.Lines(examples(t)[file]) {
			tokens = append(append(tokens, pieces.FindAllString(line, -1)...), "\n")
		}
		for range 2000 {
			g, err := Parse("mutant", mutate(rng, tokens))
			if err != nil {
				continue
			}
			parsed++
			if Verify(g) != nil {
				refused++
			}
			again, err := Parse("printed", Print(g))
			if err != nil {
				t.Fatal(err)
			}
			if why, ok := Equal(g, again); !ok {
				t.Fatalf("%s in\n%s", why, Print(g))
			}
		}
	}
	if parsed < 800 || refused < 400 {
		t.Errorf("%d mutants parse, %d are refused: too few to show anything", parsed, refused)
	}
}
