package mutate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Add adds another run of the same mutations.
func (s *Score) Add(o Score) {
	for _, r := range o.Rows {
		i := slices.IndexFunc(s.Rows, func(h Row) bool { return h.Mutation.Name == r.Mutation.Name })
		if i < 0 {
			i = len(s.Rows)
			s.Rows = append(s.Rows, Row{Mutation: r.Mutation, Rules: make(map[string]int)})
		}
		s.Rows[i].add(r)
	}
	s.Escapes = append(s.Escapes, o.Escapes...)
}

func (r *Row) add(o Row) {
	r.Applied += o.Applied
	r.Verifier += o.Verifier
	r.Expected += o.Expected
	r.Others += o.Others
	r.Equal += o.Equal
	r.Survived += o.Survived
	r.Escaped += o.Escaped
	for id, n := range o.Rules {
		r.Rules[id] += n
	}
}

// refused counts a refusal by the verifier.
func (r *Row) refused(err error) {
	r.Verifier++
	rules := rulesOf(err)
	for _, id := range rules {
		r.Rules[id]++
	}
	if len(rules) == 0 || slices.Contains(rules, r.Mutation.Rule) {
		r.Expected++
	}
}

// Killed returns how many mutants were refused in time.
func (r *Row) Killed() int { return r.Verifier + r.Others }

// Total sums all rows.
func (s *Score) Total() Row {
	t := Row{Mutation: Mutation{Name: "all", Rule: "all"}, Rules: make(map[string]int)}
	for _, r := range s.Rows {
		t.add(r)
	}
	return t
}

// Share returns which share of the mutants that compute something else was
// refused, from 0 to 1.
func (r *Row) Share() float64 {
	if n := r.Applied - r.Equal; n > 0 {
		return float64(r.Killed()) / float64(n)
	}
	return 1
}

// ByRule sums the rows of each rule that was expected to see a mutation, in
// order of their names.
func (s *Score) ByRule() []Row {
	sums, kinds := make(map[string]*Row), make(map[string]int)
	for _, r := range s.Rows {
		id := r.Mutation.Rule
		if sums[id] == nil {
			sums[id] = &Row{Mutation: Mutation{Rule: id}, Rules: make(map[string]int)}
		}
		sums[id].add(r)
		kinds[id]++
	}
	var list []Row
	for _, id := range slices.Sorted(maps.Keys(sums)) {
		sums[id].Mutation.Name = fmt.Sprint(kinds[id], " kinds")
		list = append(list, *sums[id])
	}
	return list
}

// Table prints rows: how many mutants there were, who refused them, and what
// became of the others.
func Table(rows []Row) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%-7s %8s %8s %8s %8s %8s %8s %8s  %s\n", "rule", "mutants", "verifier", "rule's", "others", "equal", "escaped", "killed", "mutation")
	for _, r := range rows {
		fmt.Fprintf(&out, "%-7s %8d %8d %8d %8d %8d %8d %7.2f%%  %s%s\n", r.Mutation.Rule, r.Applied, r.Verifier, r.Expected, r.Others, r.Equal, r.Escaped+r.Survived, 100*r.Share(), r.Mutation.Name, r.most())
	}
	return out.String()
}

// most names the rules that refused most.
func (r *Row) most() string {
	ids := slices.SortedFunc(maps.Keys(r.Rules), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.Rules[b], r.Rules[a]), cmp.Compare(a, b))
	})
	var list []string
	for _, id := range ids[:min(4, len(ids))] {
		list = append(list, fmt.Sprint(id, " ", r.Rules[id]))
	}
	if list == nil {
		return ""
	}
	return " (" + strings.Join(list, ", ") + ")"
}
