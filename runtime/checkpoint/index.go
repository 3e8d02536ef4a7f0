package checkpoint

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Names of the files that hold tensors.
const (
	singleName = "model.safetensors"
	indexName  = "model.safetensors.index.json"
	extension  = ".safetensors"
)

// Bounds of an index.
const (
	maxIndex  = 64 << 20 // bytes; the largest published index has 9 MB
	maxShards = 1 << 12  // files; the largest published model has 163
)

// index is what model.safetensors.index.json says.
type index struct {
	file   string            // its path
	shard  map[string]string // file of each tensor
	shards []string          // the files, sorted
	total  int64             // total_size, or -1
}

// parseIndex reads the text of an index. Entries that name no file beside the
// index are problems, all of which are returned.
func parseIndex(file string, text []byte) (*index, error) {
	if d, ok := disguised(text[:min(len(text), sniffed)]); ok && d.what != jsonDisguise {
		return nil, &Error{File: file, What: d.what, Remedy: d.remedy}
	}
	s := newScanner(file, bytes.NewReader(text))
	s.remedy = remedyJSON
	p := indexReader{tree: &tree{scanner: s, left: maxValues}, index: &index{file: file, total: -1}, faulty: make(map[string]bool)}
	seen := make(map[string]bool)
	err := s.object(maxKey, func(key string) error {
		if seen[key] {
			return s.fail("key %q is there twice", key)
		}
		seen[key] = true
		switch key {
		case "weight_map":
			return p.weightMap()
		case "metadata":
			return p.metadata()
		}
		_, err := p.value(1)
		return err
	})
	if err == nil {
		err = s.end()
	}
	if err == nil && p.shard == nil {
		err = &Error{File: file, What: `key "weight_map" is missing`, Remedy: remedyAgain}
	}
	if err != nil {
		return nil, err
	}
	slices.Sort(p.shards)
	return p.index, p.problems.err()
}

// indexReader reads the parts of an index.
type indexReader struct {
	*tree
	*index
	faulty   map[string]bool // file names already complained about
	problems Problems
}

// weightMap reads the file of each tensor.
func (p *indexReader) weightMap() error {
	p.shard = make(map[string]string)
	interned := make(map[string]string) // one string for all tensors of a file
	return p.object(maxName, func(name string) error {
		if _, ok := p.shard[name]; ok {
			return p.fail("tensor %q is listed twice", name)
		}
		if len(p.shard) == maxTensors {
			return p.fail("there are more than %s tensors", digits(maxTensors))
		}
		if fault := nameFault(name); fault != "" {
			return p.fail("tensor %q: %s", name, fault)
		}
		text, err := p.text(maxName)
		if err != nil {
			return err
		}
		shard, known := interned[text]
		if !known {
			shard, interned[text] = text, text
			if len(interned) > maxShards {
				return p.fail("there are more than %s files", digits(maxShards))
			}
			if what, remedy := shardFault(shard); what != "" {
				e := p.fail("tensor %q: file name %q %s", name, shard, what)
				e.Remedy = remedy
				p.problems = append(p.problems, e)
			} else {
				p.shards = append(p.shards, shard)
			}
		}
		p.shard[name] = shard
		return nil
	})
}

// shardFault says what is wrong with the name of a file in an index, and what
// helps. A file must lie beside the index, and nowhere else.
func shardFault(name string) (what, remedy string) {
	remedy = remedyJSON
	switch {
	case name == "":
		what = "is empty"
	case strings.ContainsAny(name, `/\`):
		what = "is a path; a shard lies beside its index"
	case nameFault(name) != "":
		what = "is not a plain name: " + nameFault(name)
	case strings.HasSuffix(name, ".bin"), strings.HasSuffix(name, ".pt"), strings.HasSuffix(name, ".pth"):
		what, remedy = "is a pickle: pickle checkpoints are not read", remedyPickle
	case !strings.HasSuffix(name, extension) || name == extension:
		what = "does not end in " + extension
	}
	return what, remedy
}

// metadata reads total_size and passes over the rest.
func (p *indexReader) metadata() error {
	v, err := p.value(1)
	if err != nil {
		return err
	}
	// The key is optional, and some writers give a float.
	if n, ok := v.Get("total_size"); ok {
		if size, ok := n.Int(); ok && size >= 0 {
			p.total = size
		} else if size, ok := n.Float(); ok && size >= 0 && size < 1<<62 {
			p.total = int64(size)
		}
	}
	return nil
}

// numbered is a shard's name taken apart: stem-NUMBER-of-COUNT.safetensors.
type numbered struct {
	stem          string
	number, count int
}

// parseNumbered takes a shard's name apart.
func parseNumbered(name string) (numbered, bool) {
	stem, ok := strings.CutSuffix(name, extension)
	rest, count, ok1 := cutLast(stem, "-of-")
	stem, number, ok2 := cutLast(rest, "-")
	n, ok3 := fiveDigits(number)
	c, ok4 := fiveDigits(count)
	return numbered{stem, n, c}, ok && ok1 && ok2 && ok3 && ok4 && 1 <= n && n <= c && c <= maxShards
}

func (n numbered) String() string {
	return fmt.Sprintf("%s-%05d-of-%05d%s", n.stem, n.number, n.count, extension)
}

// set returns the names of all shards of the set that n belongs to.
func (n numbered) set() []string {
	names := make([]string, 0, n.count)
	for n.number = 1; n.number <= n.count; n.number++ {
		names = append(names, n.String())
	}
	return names
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func fiveDigits(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && len(s) == 5 && isDigit(s[0])
}
