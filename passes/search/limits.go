package search

import (
	"fmt"
	"slices"
)

// Time is a limit of a workload, and what a placement reaches.
type Time struct {
	Name  string `json:"name"` // one of FirstTokenName and PerTokenName
	Limit int64  `json:"limit_ps"`
	// Reached is the time to the first token of one prompt, or that of the
	// decode step that takes longest. It is the mean over the sampled batches,
	// or the quantile that the workload ranks by.
	Reached int64 `json:"reached_ps"`
	// Step is the decode step that takes longest, nil for the first token.
	Step *Step `json:"step,omitempty"`
}

// The names of limits.
const (
	FirstTokenName = "first token"
	PerTokenName   = "per token"
)

// Kept reports whether the limit is kept.
func (t *Time) Kept() bool { return t.Reached <= t.Limit }

// asked is the limit as a sentence goes on after "a limit of".
func (t *Time) asked(limit string) string {
	if t.Name == FirstTokenName {
		return limit + " to the first token"
	}
	return limit + " per token"
}

// reached says what takes that long.
func (t *Time) reached(time string) string {
	if t.Step == nil {
		return time
	}
	return fmt.Sprintf("%s in a step of %d sequences", time, t.Step.Sequences)
}

// maxLimit bounds limits, so that sums of them at prices fit: 18 minutes.
const maxLimit = 1 << 50

// limited reports whether the workload has limits.
func (w *Workload) limited() bool { return w.FirstToken > 0 || w.PerToken > 0 }

// prompts is how many prompts the prompt steps of the workload work through.
func (w *Workload) prompts() int64 { return max(1, w.Prompts) }

// checkLimits reports what is wrong with the limits of a workload.
func (w *Workload) checkLimits(bad func(what, need, have string) error) error {
	prompt := slices.ContainsFunc(w.Steps, Step.Prompt)
	decode := slices.ContainsFunc(w.Steps, func(s Step) bool { return !s.Prompt() })
	if w.Prompts < 0 || w.Prompts > 1<<20 {
		return bad("prompts", "1 to 1048576", fmt.Sprint(w.Prompts))
	}
	for i, s := range w.Steps {
		if s.Prompt() && s.Count%w.prompts() != 0 {
			return bad(fmt.Sprintf("step %d, count", i), fmt.Sprintf("a multiple of %d prompts", w.prompts()), fmt.Sprint(s.Count))
		}
	}
	for _, l := range []struct {
		name  string
		ps    int64
		steps bool
		kind  string
	}{{"first_token_ps", w.FirstToken, prompt, "prompt"}, {"per_token_ps", w.PerToken, decode, "decode"}} {
		switch {
		case l.ps < 0 || l.ps > maxLimit:
			return bad(l.name, fmt.Sprintf("1 to %d", int64(maxLimit)), fmt.Sprint(l.ps))
		case l.ps > 0 && !l.steps:
			return bad(l.name, "a workload with "+l.kind+" steps", "none")
		}
	}
	return nil
}

// Times compares the limits of a workload with what its steps take, in ps. It
// returns nil if there are no limits.
func (w *Workload) Times(steps []int64) []Time { return w.times(steps, 1) }

// times is Times of steps in parts of a ps, rounded up.
func (w *Workload) times(steps []int64, parts int64) []Time {
	var list []Time
	if w.FirstToken > 0 {
		t := Time{Name: FirstTokenName, Limit: w.FirstToken}
		for i, s := range w.Steps {
			if s.Prompt() {
				t.Reached += steps[i] * (s.Count / w.prompts())
			}
		}
		t.Reached = ceil(t.Reached, parts)
		list = append(list, t)
	}
	if w.PerToken > 0 {
		t := Time{Name: PerTokenName, Limit: w.PerToken}
		for i := range w.Steps {
			if s := &w.Steps[i]; !s.Prompt() && (t.Step == nil || ceil(steps[i], parts) > t.Reached) {
				t.Reached, t.Step = ceil(steps[i], parts), s
			}
		}
		list = append(list, t)
	}
	return list
}

// ceil divides and rounds up.
func ceil(a, b int64) int64 {
	q := a / b
	if a%b > 0 {
		q++
	}
	return q
}

// Broken says which limits times break, as the reason why a placement cannot be
// used; "" if none.
func Broken(list []Time) string {
	text := ""
	for i := range list {
		t := &list[i]
		if t.Kept() {
			continue
		}
		if text != "" {
			text += ", and "
		}
		most, have := apart(t.Limit, t.Reached)
		text += fmt.Sprintf("breaks the limit of %s: takes %s", t.asked(most), t.reached(have))
	}
	return text
}

// limit is a time that placements must keep, in units of the score.
type limit struct {
	name   string  // of its Time
	counts []int64 // of each load: how often it counts
	most   int64
}

// limitsOf lists the limits of a workload: one on the prompt steps of a prompt,
// one on each decode step.
func limitsOf(w *Workload) []limit {
	var list []limit
	if w.FirstToken > 0 {
		l := limit{name: FirstTokenName, counts: make([]int64, len(w.Steps)), most: w.FirstToken * scoreUnits}
		for i, s := range w.Steps {
			if s.Prompt() {
				l.counts[i] = s.Count / w.prompts()
			}
		}
		list = append(list, l)
	}
	for i, s := range w.Steps {
		if w.PerToken > 0 && !s.Prompt() {
			l := limit{name: PerTokenName, counts: make([]int64, len(w.Steps)), most: w.PerToken * scoreUnits}
			l.counts[i] = 1
			list = append(list, l)
		}
	}
	return list
}

// statistic is what a load takes, in units of the score: the mean over its
// batches, or the quantile.
func (m *model) statistic(l *load, times []int64) int64 {
	own := times[l.first : l.first+l.samples]
	if m.Workload.Quantile > 0 {
		list := slices.Sorted(slices.Values(own))
		return list[min(l.samples-1, l.samples*m.Workload.Quantile/1000)] * scoreUnits
	}
	var sum int64
	for _, t := range own {
		sum += t
	}
	return sum * int64(scoreUnits/l.samples)
}

// value is what a limit is compared with.
func (m *model) value(l *limit, times []int64) int64 {
	var sum int64
	for i, n := range l.counts {
		if n > 0 {
			sum += n * m.statistic(&m.loads[i], times)
		}
	}
	return sum
}

// late is by how much times are beyond the limits, together, in parts of ten
// thousand of each; 0 if all are kept.
func (m *model) late(times []int64) int64 {
	var sum int64
	for i := range m.limits {
		l := &m.limits[i]
		if over := m.value(l, times) - l.most; over > 0 {
			sum += min(over/(l.most/10000+1)+1, 1e6)
		}
	}
	return sum
}

// keeps reports whether times keep all limits.
func (m *model) keeps(times []int64) bool {
	for i := range m.limits {
		if m.value(&m.limits[i], times) > m.limits[i].most {
			return false
		}
	}
	return true
}

// feasible reports whether a placement fits into memory and keeps the limits.
func (m *model) feasible(s *state) bool { return m.fits(s.bytes) && m.keeps(s.times) }

// why says why a placement cannot be used: it does not fit, or it breaks
// limits; "" if it can.
func (m *model) why(bytes, times []int64) string {
	if !m.fits(bytes) {
		return m.tooLarge(bytes)
	}
	return Broken(m.timesTo(times))
}

// timesTo compares the limits with the times of batches.
func (m *model) timesTo(times []int64) []Time {
	if len(m.limits) == 0 {
		return nil
	}
	steps := make([]int64, len(m.loads))
	for i := range m.loads {
		steps[i] = m.statistic(&m.loads[i], times)
	}
	return m.Workload.times(steps, scoreUnits)
}

// duration prints a time with so many digits.
func duration(ps int64, digits int) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1e12, "s"}, {1e9, "ms"}, {1e6, "us"}, {1e3, "ns"}} {
		if float64(ps) >= u.size {
			return fmt.Sprintf("%.*g %s", digits, float64(ps)/u.size, u.name)
		}
	}
	return fmt.Sprintf("%d ps", ps)
}

// apart prints two times with as many digits as tell them apart, at least four.
func apart(a, b int64) (string, string) {
	for digits := 4; ; digits++ {
		if s, t := duration(a, digits), duration(b, digits); s != t || a == b || digits == 16 {
			return s, t
		}
	}
}

// Missed is a limit that no placement was found to keep, and the best time that
// one reaches that fits into memory.
type Missed struct {
	Time
	By string // the placement that reaches it
	// Bound is a time that no placement of the space is below; 0 if none was
	// worked out.
	Bound int64
}

// Impossible reports whether no placement of the space keeps the limit.
func (t *Missed) Impossible() bool { return t.Bound > t.Limit }

// by names the placement that reaches the best time.
func (t *Missed) by() string {
	if t.By == searchedName {
		return "a placement that was searched for"
	}
	return t.By
}

// missed says which limits were missed, on one line.
func (e *FitError) missed() string {
	const remedy = "; allow more time, or use more or faster devices"
	if len(e.Missed) == 1 {
		t := &e.Missed[0]
		most, have := apart(t.Limit, t.Reached)
		text := fmt.Sprintf("nothing keeps the limit of %s on %s: the best that was found takes %s (%s); ", t.asked(most), e.Machine, t.reached(have), t.by())
		switch _, bound := apart(t.Limit, t.Bound); {
		case t.Impossible():
			text += fmt.Sprintf("it is impossible, as no placement takes less than %s", bound)
		case t.Bound > 0:
			text += fmt.Sprintf("that it is impossible is not proven, only that no placement takes less than %s", bound)
		default:
			text += "that it is impossible is not proven"
		}
		return text + remedy
	}
	text := "nothing keeps all limits on " + e.Machine + ": "
	for i := range e.Missed {
		t := &e.Missed[i]
		most, have := apart(t.Limit, t.Reached)
		if i > 0 {
			text += ", and "
		}
		text += fmt.Sprintf("%s is asked, and %s the best alone (%s)", t.asked(most), t.reached(have), t.by())
		if t.Impossible() {
			_, bound := apart(t.Limit, t.Bound)
			text += fmt.Sprintf(", which is impossible, as no placement takes less than %s", bound)
		}
	}
	if e.Together {
		return text + "; together it is impossible" + remedy
	}
	if slices.ContainsFunc(e.Missed, func(t Missed) bool { return t.Impossible() }) {
		return text + remedy
	}
	return text + "; that it is impossible is not proven" + remedy
}
