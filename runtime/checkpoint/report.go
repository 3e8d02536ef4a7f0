package checkpoint

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
)

// Report says what is in a checkpoint, and whether it is sound.
type Report struct {
	Dir           string       `json:"dir"`
	Architectures []string     `json:"architectures"`
	Shards        []ShardInfo  `json:"shards"`
	Tensors       int          `json:"tensors"`
	Parameters    int64        `json:"parameters"` // elements of all tensors
	Bytes         int64        `json:"bytes"`
	DTypes        []DTypeTotal `json:"dtypes"` // most bytes first
	Patterns      []Pattern    `json:"patterns"`
	Tokenizer     bool         `json:"tokenizer"`
	ChatTemplate  bool         `json:"chat_template"`
	Generation    Generation   `json:"generation"`
	Examined      int          `json:"examined"` // tensors whose values were read
	Warnings      []string     `json:"warnings"`
	Problems      Problems     `json:"problems"`
}

// ShardInfo describes a safetensors file.
type ShardInfo struct {
	File    string `json:"file"`
	Bytes   int64  `json:"bytes"`
	Tensors int    `json:"tensors"`
}

// DTypeTotal sums up the tensors of one element type.
type DTypeTotal struct {
	DType      string `json:"dtype"`
	Tensors    int    `json:"tensors"`
	Parameters int64  `json:"parameters"`
	Bytes      int64  `json:"bytes"`
}

// Sound reports whether Check found no problem; then Open succeeds.
func (r *Report) Sound() bool { return len(r.Problems) == 0 }

// DefaultExamined is how many bytes of tensors' values Check reads unless told
// otherwise. Tensors are read smallest first, and routers and norms are small,
// so this covers them even in the largest models; it takes a second or two.
const DefaultExamined = 512 << 20

// Check reports on a checkpoint, sound or not: it goes on after a problem. It
// reads the values of up to examine bytes of tensors, smallest tensors first,
// and warns of those that are not finite.
func Check(ctx context.Context, dir string, examine int64) *Report {
	r := &Report{Dir: dir, Architectures: []string{}, Shards: []ShardInfo{}, DTypes: []DTypeTotal{}, Patterns: []Pattern{}, Warnings: []string{}, Problems: Problems{}}
	c, problems := load(dir)
	r.Problems = append(r.Problems, problems...)
	if c == nil {
		return r
	}
	defer c.Close()
	r.Architectures = append(r.Architectures, c.config.Architectures()...)
	for _, s := range c.shards {
		r.Shards = append(r.Shards, ShardInfo{s.name, s.info.Size(), s.tensors})
	}
	r.Bytes = c.bytes
	r.Tensors = len(c.names)
	r.count(c)
	r.Tokenizer, r.Generation = c.HasFile(tokenizerName), c.generation
	template, err := c.ChatTemplate()
	r.ChatTemplate = template != ""
	r.Problems.add(dir, err)
	r.examine(ctx, c, examine)
	r.Warnings = append(r.Warnings, c.warnings...)
	return r
}

// count fills in what follows from the tensors' descriptions.
func (r *Report) count(c *Checkpoint) {
	infos := make([]Info, len(c.names))
	totals := make(map[string]DTypeTotal)
	for i, name := range c.names {
		t := c.tensors[name].Info
		infos[i] = t
		total := totals[t.DType]
		total.DType = t.DType
		total.Tensors++
		total.Parameters += t.Elements()
		total.Bytes += t.Bytes()
		totals[t.DType] = total
		r.Parameters += t.Elements()
	}
	for _, row := range dtypes {
		if total, ok := totals[row.name]; ok {
			r.DTypes = append(r.DTypes, total)
		}
	}
	slices.SortStableFunc(r.DTypes, func(a, b DTypeTotal) int { return cmp.Compare(b.Bytes, a.Bytes) })
	r.Patterns = append(r.Patterns, Fold(infos)...)
}

// examine reads values and warns of tensors that hold NaN or infinity.
func (r *Report) examine(ctx context.Context, c *Checkpoint, budget int64) {
	names := slices.Clone(c.names)
	slices.SortStableFunc(names, func(a, b string) int {
		return cmp.Compare(c.tensors[a].Bytes(), c.tensors[b].Bytes())
	})
	var odd []string
	buf := make([]byte, examineStep)
	for _, name := range names {
		t := c.tensors[name]
		if _, ok := floats[t.DType]; !ok {
			continue
		}
		if budget -= t.Bytes(); budget < 0 || ctx.Err() != nil {
			break
		}
		n, err := c.oddValues(t, buf)
		if err != nil {
			r.Problems.add(c.dir.full(t.File), err)
			if len(r.Problems) > shownProblems {
				break
			}
			continue
		}
		r.Examined++
		if n > 0 {
			odd = append(odd, fmt.Sprintf("%s (%s of %s)", name, digits(n), digits(t.Elements())))
		}
	}
	if len(odd) > 0 {
		c.warn("tensors hold values that are NaN or infinite: %s", listing(odd))
	}
}

// examineStep is the memory, in bytes, through which values are read.
const examineStep = 1 << 20

// oddValues counts the values of a tensor that are NaN or infinite.
func (c *Checkpoint) oddValues(t tensor, buf []byte) (int64, error) {
	count := int64(0)
	for off := int64(0); off < t.Bytes(); off += int64(len(buf)) {
		part := buf[:min(int64(len(buf)), t.Bytes()-off)]
		if err := c.ReadAt(t.Name, part, off); err != nil {
			return 0, err
		}
		count += notFinite(t.DType, part)
	}
	return count, nil
}

// Bounds of a report's text.
const (
	shownPatterns = 200
	shownShards   = 8
)

// String writes the report for people.
func (r *Report) String() string {
	var b strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-14s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("checkpoint", "%s", plain(r.Dir))
	if len(r.Architectures) > 0 {
		row("architecture", "%s", listing(r.Architectures))
	}
	row("parameters", "%s in %s, %s", digits(r.Parameters), count(r.Tensors, "tensor"), size(r.Bytes))
	for _, d := range r.DTypes {
		row("  "+d.DType, "%s in %s, %s", digits(d.Parameters), count(d.Tensors, "tensor"), size(d.Bytes))
	}
	row("shards", "%d", len(r.Shards))
	for i, s := range r.Shards {
		if i == shownShards {
			row("", "and %d more", len(r.Shards)-i)
			break
		}
		row("", "%s  %s, %s", s.File, count(s.Tensors, "tensor"), size(s.Bytes))
	}
	row("tokenizer", "%s", yes(r.Tokenizer))
	row("chat template", "%s", yes(r.ChatTemplate))
	if len(r.Generation.EOS) > 0 {
		row("end of text", "%s", strings.Trim(fmt.Sprint(r.Generation.EOS), "[]"))
	}
	row("values read", "of %s", count(r.Examined, "tensor"))
	r.writePatterns(&b)
	for _, w := range r.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	for i, p := range r.Problems {
		if i == shownProblems {
			fmt.Fprintf(&b, "and %d more problems\n", len(r.Problems)-i)
			break
		}
		fmt.Fprintf(&b, "problem: %s\n", p)
	}
	if r.Sound() {
		b.WriteString("sound\n")
	} else {
		fmt.Fprintf(&b, "not sound: %s\n", count(len(r.Problems), "problem"))
	}
	return b.String()
}

// writePatterns writes the table of tensors.
func (r *Report) writePatterns(b *strings.Builder) {
	shown := r.Patterns[:min(len(r.Patterns), shownPatterns)]
	wide, shapes := 0, 0
	for _, p := range shown {
		wide, shapes = max(wide, len(p.Name)), max(shapes, len(shapeText(p.Shape)))
	}
	for _, p := range shown {
		line := fmt.Sprintf("  %-*s  %-*s  %-4s", wide, p.Name, shapes, shapeText(p.Shape), p.DType)
		if p.Count > 1 {
			line += fmt.Sprintf("  x %d", p.Count)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	if n := len(r.Patterns) - len(shown); n > 0 {
		fmt.Fprintf(b, "  and %s more\n", digits(n))
	}
}

// count writes how many there are of something.
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return digits(n) + " " + what + "s"
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// size writes a number of bytes in decimal units: "93.41 GB".
func size(n int64) string {
	units := []string{"kB", "MB", "GB", "TB", "PB", "EB"}
	x, unit := float64(n), ""
	for _, u := range units {
		if x < 1000 {
			break
		}
		x, unit = x/1000, u
	}
	if unit == "" {
		return bytesOf(n)
	}
	return fmt.Sprintf("%.2f %s", x, unit)
}
