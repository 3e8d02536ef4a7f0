package passes

import (
	"slices"

	"moec/ir"
)

// linear reports whether what follows the sums over features may as well be
// done to each part of the sum: rounding, which is left out, a bias, which one
// device adds, and factors.
func linear(r *Region) bool {
	summed := map[*ir.Node]bool{}
	for _, n := range r.Close {
		summed[n] = true
	}
	for _, n := range r.After {
		summed[n] = true
		sums := len(slices.DeleteFunc(slices.Clone(n.Args), func(a *ir.Node) bool { return !summed[a] }))
		switch n.Op.Name {
		case "round", "neg":
		case "add", "mul":
			if sums != 1 {
				return false
			}
		case "div":
			if sums != 1 || !summed[n.Args[0]] {
				return false
			}
		default:
			return false
		}
	}
	return len(r.Close) > 0
}

// early reports whether mode fast may combine the slots of partial sums: one
// team divides all experts along their features, and what follows is linear.
func (p *placer) early(r *Region, teams []*team) bool {
	t := teams[0]
	return p.g.Numerics.Mode == ir.Fast && len(teams) == 1 && !t.alone() && !t.inTurns() && linear(r)
}

// serveEarly is serve in mode fast: each device of the team combines the slots
// of its part, and one all_reduce of a row for each token, not for each slot,
// adds them up in the order of the shares.
func (p *placer) serveEarly(r *Region, tag int, t *team, wanted []int) {
	t.early = true
	var parts []*ir.Node
	var spans [][]int
	for i, s := range p.shares(r, tag, t) {
		s.before()
		s.afterPart()
		sum := s.add(r.Combine.Op, r.Combine, tag, s.device, r.Combine.Attrs, s.combined()...)
		parts = append(parts, s.add(ir.Op("part"), r.Combine, tag, s.device, nil, sum))
		spans = append(spans, []int{i, i + 1})
	}
	if p.err != nil {
		return
	}
	for _, v := range p.addUp(tag, wanted, parts, spans, len(parts)) {
		p.set(r.Combine, tag, v)
	}
}

// afterPart does to the share's part of the sums what follows them.
func (s *share) afterPart() {
	summed := map[*ir.Node]*ir.Node{}
	for _, n := range s.r.Close {
		summed[n] = s.team.parts[valueKey{n, s.tag, s.device}]
	}
	for _, n := range s.sorted(s.r.After) {
		at := slices.IndexFunc(n.Args, func(a *ir.Node) bool { return summed[a] != nil })
		v := summed[n.Args[at]]
		if n.Op.Name != "round" && (n.Op.Name != "add" || s.index == 0) {
			args := make([]*ir.Node, len(n.Args))
			for i, a := range n.Args {
				if args[i] = v; i != at {
					args[i] = s.wholeOperand(a)
				}
			}
			v = s.add(n.Op, n, s.tag, s.device, n.Attrs, args...)
		}
		summed[n] = v
	}
	for n, v := range summed {
		s.team.values[valueKey{n, s.tag, s.device}] = v
	}
}
