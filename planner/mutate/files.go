package mutate

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"

	"moec/planner/plan"
)

// FileMutation is a kind of damage to a plan's file.
type FileMutation struct {
	Name  string
	Rule  string
	apply func(rng *rand.Rand, text []byte) []byte
}

// Apply returns a damaged copy of a file.
func (m FileMutation) Apply(rng *rand.Rand, text []byte) []byte {
	return m.apply(rng, slices.Clone(text))
}

// FileMutations lists all kinds.
func FileMutations() []FileMutation {
	return []FileMutation{
		{"another version", "V30", func(rng *rand.Rand, text []byte) []byte {
			return seal(bytes.Replace(text, []byte(`"version": 1`), fmt.Appendf(nil, `"version": %d`, 2+rng.IntN(9)), 1))
		}},
		{"no version", "V30", func(_ *rand.Rand, text []byte) []byte {
			return seal(bytes.Replace(text, []byte("  \"version\": 1,\n"), nil, 1))
		}},
		{"another format", "V30", func(_ *rand.Rand, text []byte) []byte {
			return seal(bytes.Replace(text, []byte(`"moec plan"`), []byte(`"moec graph"`), 1))
		}},
		{"a byte is another", "V30", func(rng *rand.Rand, text []byte) []byte {
			text[rng.IntN(len(text))] ^= byte(1 + rng.IntN(255))
			return text
		}},
		{"a byte is lost", "V30", func(rng *rand.Rand, text []byte) []byte {
			i := rng.IntN(len(text))
			return slices.Delete(text, i, i+1)
		}},
		{"the file is cut off", "V30", func(rng *rand.Rand, text []byte) []byte { return text[:rng.IntN(len(text))] }},
		{"a line is lost", "V30", func(rng *rand.Rand, text []byte) []byte { return dropLine(rng, text) }},
		{"two lines are exchanged and the checksum put right", "V30", func(rng *rand.Rand, text []byte) []byte {
			lines := bytes.SplitAfter(text, []byte("\n"))
			i := 4 + rng.IntN(len(lines)-6)
			lines[i], lines[i+1] = lines[i+1], lines[i]
			return seal(bytes.Join(lines, nil))
		}},
		{"a line is lost and the checksum put right", "V01", func(rng *rand.Rand, text []byte) []byte { return seal(dropLine(rng, text)) }},
		{"a space more and the checksum put right", "V30", func(rng *rand.Rand, text []byte) []byte {
			i := bytes.IndexByte(text[rng.IntN(len(text)/2):], ',')
			return seal(slices.Insert(text, i, ' '))
		}},
		{"a field that no plan has", "V30", func(rng *rand.Rand, text []byte) []byte {
			return seal(bytes.Replace(text, []byte("  \"limits\":"), []byte("  \"colour\": 3,\n  \"limits\":"), 1))
		}},
	}
}

func dropLine(rng *rand.Rand, text []byte) []byte {
	lines := bytes.SplitAfter(text, []byte("\n"))
	i := rng.IntN(len(lines) - 1)
	return bytes.Join(slices.Delete(lines, i, i+1), nil)
}

var checksum = regexp.MustCompile(`sha256:[0-9a-f]{64}`)

// seal puts the checksum of a file right.
func seal(text []byte) []byte {
	at := checksum.FindIndex(text)
	if at == nil {
		return text
	}
	digits := text[at[0]+len("sha256:") : at[1]]
	for i := range digits {
		digits[i] = '0'
	}
	sum := sha256.Sum256(text)
	hex.Encode(digits, sum[:])
	return text
}

// RunFiles applies n mutations to a file. Reading it comes first, then the
// oracles are asked about the plan in it.
func RunFiles(text []byte, seed uint64, n int, oracles []Oracle) Score {
	kinds := FileMutations()
	s := Score{Rows: make([]Row, len(kinds))}
	for i, m := range kinds {
		s.Rows[i] = Row{Mutation: Mutation{Name: m.Name, Rule: m.Rule}, Rules: make(map[string]int)}
	}
	for i := range uint64(n) {
		m, r := kinds[i%uint64(len(kinds))], &s.Rows[i%uint64(len(kinds))]
		damaged := m.Apply(rand.New(rand.NewPCG(seed, i)), text)
		if bytes.Equal(damaged, text) {
			continue
		}
		p, err := plan.Decode("damaged.plan", damaged)
		if err != nil {
			r.Applied++
			r.refused(err)
			continue
		}
		s.ask(r, Escape{What: m.Name, Number: i}, p, oracles)
	}
	return s
}
