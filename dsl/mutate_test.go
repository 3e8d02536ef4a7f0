package dsl_test

import (
	"bytes"
	"flag"
	"math/rand/v2"
	"os"
	"regexp"
	"testing"

	"moec/dsl"
	"moec/ir"
)

var mutants = flag.Int("mutants", 150, "descriptions with mistakes to try")

// word matches what mistakes are made of.
var word = regexp.MustCompile(`"[^"\n]*"|[A-Za-z_][A-Za-z0-9_]*|[0-9.e]+|\n|->|[^\s]`)

// TestMutants makes typical mistakes in the examples: a word left out, given
// twice, or exchanged for one from elsewhere. Nothing may panic, what builds
// must be sound, and what formats must format to itself.
func TestMutants(t *testing.T) {
	var sources [][]byte
	var pool [][]byte
	for _, path := range files(t, "../examples/*.moe") {
		src, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, src)
		pool = append(pool, word.FindAll(src, -1)...)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	built, wrong := 0, 0
	for range *mutants {
		src := mutate(rng, sources[rng.IntN(len(sources))], pool)
		if try(t, src) {
			built++
		} else {
			wrong++
		}
		if t.Failed() {
			t.Fatalf("the mutant is\n%s", src)
		}
	}
	if built == 0 || wrong == 0 {
		t.Errorf("%d mutants build, %d do not: the mistakes test nothing", built, wrong)
	}
}

// mutate makes one to three mistakes.
func mutate(rng *rand.Rand, src []byte, pool [][]byte) []byte {
	for range 1 + rng.IntN(3) {
		spans := word.FindAllIndex(src, -1)
		s := spans[rng.IntN(len(spans))]
		old := src[s[0]:s[1]]
		var with []byte
		switch rng.IntN(4) {
		case 0: // left out
		case 1:
			with = append(append(bytes.Clone(old), ' '), old...)
		case 2:
			with = pool[rng.IntN(len(pool))]
		default: // exchanged for a word of the same file
			o := spans[rng.IntN(len(spans))]
			with = src[o[0]:o[1]]
		}
		src = bytes.Join([][]byte{src[:s[0]], with, src[s[1]:]}, nil)
	}
	return src
}

// try parses, formats and builds with few layers; it reports whether there
// were no errors.
func try(t *testing.T, src []byte) bool {
	t.Helper()
	if once, list := dsl.Format("m.moe", src); len(list) == 0 {
		if twice, list := dsl.Format("m.moe", once); len(list) > 0 || !bytes.Equal(once, twice) {
			t.Errorf("formatting again gives another text, %v", list)
		}
	}
	f, list := dsl.Parse("m.moe", src)
	if len(list) > 0 {
		checkList(t, list)
		return false
	}
	m, list := dsl.Build(f, dsl.Env{Set: map[string]string{"layers": "3"}})
	if len(list) > 0 {
		checkList(t, list)
		return false
	}
	if err := ir.Verify(m.Graph); err != nil {
		t.Error(err)
	}
	return true
}
