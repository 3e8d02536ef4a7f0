package checkpoint

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Names of the other files that are read.
const (
	configName     = "config.json"
	generationName = "generation_config.json"
)

// Checkpoint is an open model directory. Its methods may be called by many
// goroutines at once.
type Checkpoint struct {
	dir        *directory
	config     *Config
	generation Generation
	shards     []*shard
	tensors    map[string]tensor
	names      []string // sorted
	bytes      int64
	warnings   []string
	pool       pool
}

// shard is one safetensors file.
type shard struct {
	name    string
	info    fs.FileInfo // when its header was read
	tensors int         // in its header

	// What pool.mu guards.
	file *os.File // nil while closed
	used int      // readers
	last uint64   // pool.clock when last used
}

// tensor is a tensor and the file that holds it.
type tensor struct {
	Info
	shard *shard
}

// Open opens a model directory, and reads everything in it but the tensors'
// data. If it is unsound, the error is an *Error or Problems.
func Open(dir string) (*Checkpoint, error) {
	c, problems := load(dir)
	if len(problems) == 0 {
		return c, nil
	}
	if c != nil {
		c.Close()
	}
	return nil, problems.err()
}

// OpenFile opens a single safetensors file as a checkpoint with an empty
// configuration.
func OpenFile(path string) (*Checkpoint, error) {
	d, err := openDirectory(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	c := newCheckpoint(d)
	problems := c.loadShards([]string{filepath.Base(path)})
	c.finish()
	if len(problems) > 0 {
		c.Close()
		return nil, problems.err()
	}
	return c, nil
}

func newCheckpoint(d *directory) *Checkpoint {
	c := &Checkpoint{dir: d, tensors: make(map[string]tensor)}
	c.config = &Config{file: d.full(configName), root: Value{kind: Object}}
	c.pool.dir = d
	return c
}

// load opens what can be opened and returns all problems. The checkpoint is
// nil only if there is no directory.
func load(dir string) (*Checkpoint, Problems) {
	var problems Problems
	d, err := openDirectory(dir)
	if err != nil {
		problems.add(dir, err)
		return nil, problems
	}
	c := newCheckpoint(d)
	problems.add(dir, c.loadConfig())
	problems.add(dir, c.loadGeneration())
	problems = append(problems, c.loadTensors()...)
	c.finish()
	return c, problems
}

// finish computes what is asked for often.
func (c *Checkpoint) finish() {
	c.names = slices.Sorted(maps.Keys(c.tensors))
	for _, t := range c.tensors {
		c.bytes += t.Bytes()
	}
}

func (c *Checkpoint) warn(format string, args ...any) {
	c.warnings = append(c.warnings, fmt.Sprintf(format, args...))
}

// loadConfig reads config.json.
func (c *Checkpoint) loadConfig() error {
	text, err := c.dir.readFile(configName, maxJSON)
	if err != nil {
		if missing(err) {
			err.(*Error).Remedy = c.otherDirectory()
		}
		return err
	}
	config, err := ParseConfig(c.dir.full(configName), text)
	if err != nil {
		return err
	}
	c.config = config
	for _, key := range []string{"auto_map", "trust_remote_code"} {
		if _, ok := config.Lookup(key); ok {
			c.warn("%s names program code under %q, which is ignored: code of a checkpoint is never run", configName, key)
		}
	}
	return nil
}

// otherDirectory says which directory may have been meant where there is no
// config.json.
func (c *Checkpoint) otherDirectory() string {
	names, _ := c.dir.list()
	if !slices.Contains(names, "snapshots") {
		return "give the directory of a checkpoint, or download the file"
	}
	remedy := "this is a folder of the download cache; give one below " + c.dir.full("snapshots")
	if f, err := c.dir.root.Open("snapshots"); err == nil {
		revisions, _ := f.Readdirnames(listedNames)
		f.Close()
		if len(revisions) == 1 {
			remedy = "this is a folder of the download cache; give " + filepath.Join(c.dir.path, "snapshots", plain(revisions[0]))
		}
	}
	return remedy
}

// loadTensors finds the safetensors files and reads their headers.
func (c *Checkpoint) loadTensors() Problems {
	var problems Problems
	_, singleErr := c.dir.stat(singleName)
	_, indexErr := c.dir.stat(indexName)
	switch {
	case singleErr == nil:
		if indexErr == nil {
			c.warn("%s is ignored, for there is %s", indexName, singleName)
		}
		return c.loadShards([]string{singleName})
	case !missing(singleErr):
		problems.add(singleName, singleErr)
		return problems
	case missing(indexErr):
		return c.loadUnindexed()
	}
	text, err := c.dir.readFile(indexName, maxIndex)
	if err != nil {
		problems.add(indexName, err)
		return problems
	}
	idx, err := parseIndex(c.dir.full(indexName), text)
	problems.add(indexName, err)
	if idx != nil {
		problems = append(problems, c.loadIndexed(idx)...)
	}
	return problems
}

// loadUnindexed loads numbered shards without an index, or says what the
// directory has instead of tensors.
func (c *Checkpoint) loadUnindexed() Problems {
	var problems Problems
	names, err := c.dir.list()
	problems.add(c.dir.path, err)
	e := &Error{File: c.dir.path, What: "has no tensors", Need: singleName + " or " + indexName}
	var shards, pickles, others []string
	sets := make(map[numbered]bool)
	for _, name := range names {
		n, ok := parseNumbered(name)
		switch {
		case ok:
			shards = append(shards, name)
			n.number = 0
			sets[n] = true
		case strings.HasSuffix(name, ".bin"), strings.HasSuffix(name, ".pt"), strings.HasSuffix(name, ".pth"), strings.HasSuffix(name, ".ckpt"):
			pickles = append(pickles, name)
		case strings.HasSuffix(name, extension), strings.HasSuffix(name, ".gguf"):
			others = append(others, name)
		}
	}
	switch {
	case len(sets) == 1:
		c.warn("there is no %s; every tensor of the shards counts", indexName)
		n, _ := parseNumbered(shards[0])
		return append(problems, c.loadShards(n.set())...)
	case len(sets) > 1:
		e.Have, e.Remedy = "shards of several sets: "+listing(shards), "keep one set, or add the index"
	case len(others) > 0:
		e.Have, e.Remedy = listing(others), "rename the file if it is the whole checkpoint"
	case len(pickles) > 0:
		e.What, e.Have, e.Remedy = "has pickles only: pickle checkpoints are not read", listing(pickles), remedyPickle
	default:
		e.Have, e.Remedy = "neither", c.dir.unfinished()
	}
	return append(problems, e)
}

// loadShards loads files whose tensors all count: there is no index.
func (c *Checkpoint) loadShards(names []string) Problems {
	present, problems := c.present(names)
	for _, name := range present {
		s, tensors, err := c.readShard(name)
		problems.add(c.dir.full(name), err)
		if len(c.tensors)+len(tensors) > maxTensors {
			return append(problems, &Error{File: c.dir.path, What: "has too many tensors", Need: "at most " + digits(maxTensors), Remedy: "give the directory of one checkpoint"})
		}
		for _, t := range tensors {
			if first, ok := c.tensors[t.Name]; ok {
				problems = append(problems, &Error{File: c.dir.full(name), What: fmt.Sprintf("tensor %q is in %s, too", t.Name, first.File), Remedy: "add the index, which says which of them counts"})
				break
			}
			c.tensors[t.Name] = tensor{t, s}
		}
	}
	return problems
}

// present returns which of the files are there, and one error that lists the
// others.
func (c *Checkpoint) present(names []string) ([]string, Problems) {
	var problems Problems
	var present, absent []string
	for _, name := range names {
		if _, err := c.dir.stat(name); err != nil && missing(err) {
			absent = append(absent, name)
		} else {
			present = append(present, name)
		}
	}
	if len(absent) > 0 {
		problems = append(problems, &Error{
			File: c.dir.path, What: "shards are missing: " + listing(absent),
			Need: digits(len(names)), Have: digits(len(present)), Remedy: c.dir.unfinished(), Err: fs.ErrNotExist,
		})
	}
	return present, problems
}

// readShard reads the header of a file.
func (c *Checkpoint) readShard(name string) (*shard, []Info, error) {
	f, info, err := c.dir.open(name)
	if err != nil {
		return nil, nil, err
	}
	tensors, err := readHeader(f, info.Size(), c.dir.full(name), name)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	s := &shard{name: name, info: info, tensors: len(tensors), file: f}
	c.shards = append(c.shards, s)
	c.pool.add(s)
	return s, tensors, c.pool.unchanged(s)
}

// loadIndexed loads the files of an index. The index decides which tensors
// count: published checkpoints carry others that were left behind.
func (c *Checkpoint) loadIndexed(idx *index) Problems {
	present, problems := c.present(idx.shards)
	want := make(map[string][]string) // tensors that the index places in each file
	for name, file := range idx.shard {
		want[file] = append(want[file], name)
	}
	for _, file := range present {
		s, tensors, err := c.readShard(file)
		if err != nil {
			problems.add(c.dir.full(file), err)
			continue
		}
		var extra []string
		for _, t := range tensors {
			if idx.shard[t.Name] == file {
				c.tensors[t.Name] = tensor{t, s}
			} else {
				extra = append(extra, t.Name)
			}
		}
		if len(extra) > 0 {
			slices.Sort(extra)
			c.warn("%s has tensors that the index does not place there, which are ignored: %s", file, listing(extra))
		}
		problems = append(problems, c.lacking(file, want[file], idx)...)
	}
	total := int64(0)
	for _, t := range c.tensors {
		total += t.Bytes()
	}
	if idx.total >= 0 && idx.total != total && len(problems) == 0 {
		c.warn("%s gives a total_size of %s, but the tensors have %s", indexName, bytesOf(idx.total), bytesOf(total))
	}
	return problems
}

// lacking reports the tensors that the index places in a file that lacks them.
func (c *Checkpoint) lacking(file string, want []string, idx *index) Problems {
	var lost []string
	for _, name := range want {
		if _, ok := c.tensors[name]; !ok {
			lost = append(lost, name)
		}
	}
	if len(lost) == 0 {
		return nil
	}
	slices.Sort(lost)
	return Problems{{
		File: c.dir.full(file), What: "lacks tensors that " + filepath.Base(idx.file) + " places there: " + listing(lost),
		Need: digits(len(want)), Have: digits(len(want) - len(lost)), Remedy: "download the file and the index again, from the same revision",
	}}
}

// Config returns the content of config.json.
func (c *Checkpoint) Config() *Config { return c.config }

// Generation returns the settings of generation_config.json.
func (c *Checkpoint) Generation() Generation { return c.generation }

// Tensor returns the description of a tensor, whose Shape the caller must not
// change.
func (c *Checkpoint) Tensor(name string) (Info, bool) {
	t, ok := c.tensors[name]
	return t.Info, ok
}

// Names returns the names of all tensors, sorted.
func (c *Checkpoint) Names() []string { return slices.Clone(c.names) }

// TotalBytes returns the size of all tensors.
func (c *Checkpoint) TotalBytes() int64 { return c.bytes }

// Dir returns the directory as it was given to Open.
func (c *Checkpoint) Dir() string { return c.dir.path }

// Warnings returns what is odd but does no harm.
func (c *Checkpoint) Warnings() []string { return slices.Clone(c.warnings) }

// ReadFile reads another file of the directory, of at most limit bytes, with
// the same care: it stays in the directory and waits for nothing.
func (c *Checkpoint) ReadFile(name string, limit int64) ([]byte, error) {
	return c.dir.readFile(name, limit)
}

// HasFile reports whether the directory has a regular file of the name.
func (c *Checkpoint) HasFile(name string) bool {
	_, err := c.dir.stat(name)
	return err == nil
}

// Close closes all files. Reads that are under way finish first or fail.
func (c *Checkpoint) Close() error {
	c.pool.close()
	return c.dir.close()
}
