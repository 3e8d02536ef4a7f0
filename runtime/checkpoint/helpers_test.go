package checkpoint

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// files are a directory's files by name.
type files map[string]string

// with returns a copy with a file changed or added, or removed where the text
// is "-".
func (f files) with(name, text string) files {
	g := maps.Clone(f)
	g[name] = text
	if text == "-" {
		delete(g, name)
	}
	return g
}

// write writes the files to a new directory.
func (f files) write(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range f {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// safetensors makes the text of a file with U8 tensors of 4 bytes each.
func safetensors(t testing.TB, names ...string) string {
	t.Helper()
	var list []Tensor
	for _, n := range names {
		list = append(list, Tensor{n, "U8", []int64{4}, []byte(n + "    ")[:4]})
	}
	return encoded(t, list...)
}

// encoded makes the text of a file.
func encoded(t testing.TB, tensors ...Tensor) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := Write(path, tensors); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// indexOf makes the text of an index from pairs of a tensor and its file.
func indexOf(t testing.TB, size int, pairs ...string) string {
	t.Helper()
	weights := make(map[string]string)
	for pair := range slices.Chunk(pairs, 2) {
		weights[pair[0]] = pair[1]
	}
	text, err := json.Marshal(map[string]any{"metadata": map[string]int{"total_size": size}, "weight_map": weights})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const (
	config = `{"architectures": ["MixtralForCausalLM"], "hidden_size": 8, "eos_token_id": 2}`
	shard1 = "model-00001-of-00002.safetensors"
	shard2 = "model-00002-of-00002.safetensors"
)

// single is a sound checkpoint of one file.
func single(t testing.TB) files {
	return files{"config.json": config, "model.safetensors": safetensors(t, "a", "b")}
}

// sharded is a sound checkpoint of two files.
func sharded(t testing.TB) files {
	return files{
		"config.json": config, indexName: indexOf(t, 12, "a", shard1, "b", shard1, "c", shard2),
		shard1: safetensors(t, "a", "b"), shard2: safetensors(t, "c"),
	}
}

// wantError checks that err is one or several of ours, each on one line with
// a file and reason, and says all of want.
func wantError(t testing.TB, err error, want ...string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %v, want one with %q", err, want)
	}
	list, ok := err.(Problems)
	if !ok {
		list = Problems{e}
	}
	for _, e := range list {
		if e.File == "" || e.What == "" || strings.ContainsAny(e.Error(), "\n\x1b\x00") {
			t.Errorf("error without file or reason, or with control characters: %#v", e)
		}
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error is\n  %v\nwant\n  %s", err, w)
		}
	}
}
