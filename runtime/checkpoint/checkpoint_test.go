package checkpoint

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestOpen(t *testing.T) {
	for _, c := range []struct {
		name  string
		files files
		names string
		where string // file of tensor "b"
		warns []string
	}{
		{"one file", single(t), "a b", singleName, nil},
		{"shards", sharded(t), "a b c", shard1, nil},
		{"no tensors at all", files{"config.json": config, singleName: string(image("{}", 0))}, "", "", nil},
		{"one file and an index", single(t).with(indexName, indexOf(t, 4, "z", "z.safetensors")), "a b", singleName,
			[]string{"index.json is ignored, for there is model.safetensors"}},
		{"index without metadata", sharded(t).with(indexName, fmt.Sprintf(`{"weight_map":{"a":%q,"b":%q,"c":%q}, "more": [1]}`, shard1, shard1, shard2)), "a b c", shard1, nil},
		{"total_size as a float", sharded(t).with(indexName, strings.Replace(sharded(t)[indexName], "12", "12.0", 1)), "a b c", shard1, nil},
		{"shards without an index", sharded(t).with(indexName, "-"), "a b c", shard1, []string{"every tensor of the shards counts"}},
		{"D08 tensor that is not in the index", sharded(t).with(shard2, safetensors(t, "c", "d", "e")), "a b c", shard1,
			[]string{shard2 + " has tensors that the index does not place there, which are ignored: d, e"}},
		{"D08 tensor in two shards", sharded(t).with(shard2, safetensors(t, "b", "c")), "a b c", shard1,
			[]string{shard2 + " has tensors that the index does not place there, which are ignored: b"}},
		{"D10 total_size", sharded(t).with(indexName, strings.Replace(sharded(t)[indexName], "12", "13", 1)), "a b c", shard1,
			[]string{"total_size of 13 bytes, but the tensors have 12 bytes"}},
		{"D16 code", single(t).with("config.json", `{"auto_map":{"AutoConfig":"evil.C"},"trust_remote_code":true}`), "a b", singleName,
			[]string{`"auto_map", which is ignored: code of a checkpoint is never run`, `"trust_remote_code"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := c.files.write(t)
			ckpt, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer ckpt.Close()
			if got := strings.Join(ckpt.Names(), " "); got != c.names {
				t.Errorf("names are %q, want %q", got, c.names)
			}
			if info, _ := ckpt.Tensor("b"); info.File != c.where {
				t.Errorf("tensor b is in %q, want %q", info.File, c.where)
			}
			if _, ok := ckpt.Tensor("no"); ok {
				t.Error("there is a tensor that is not in the files")
			}
			if got := ckpt.TotalBytes(); got != int64(4*len(ckpt.Names())) {
				t.Errorf("%d bytes in total", got)
			}
			warns := ckpt.Warnings()
			if len(warns) != len(c.warns) {
				t.Fatalf("warnings are %q, want %q", warns, c.warns)
			}
			for i, w := range c.warns {
				if !strings.Contains(warns[i], w) {
					t.Errorf("warning is %q, want %q", warns[i], w)
				}
			}
			for _, name := range ckpt.Names() {
				data := make([]byte, 4)
				if err := ckpt.ReadAt(name, data, 0); err != nil || string(data) != name+"   " {
					t.Errorf("tensor %s is %q, %v", name, data, err)
				}
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	at := func(file string) files { // an index that places tensor c in a file
		return sharded(t).with(indexName, indexOf(t, 12, "a", shard1, "b", shard1, "c", file))
	}
	for _, c := range []struct {
		name  string
		files files
		want  []string
	}{
		{"empty directory", files{}, []string{
			"config.json: there is no such file; give the directory of a checkpoint",
			"has no tensors: need model.safetensors or model.safetensors.index.json, have neither; download it again"}},
		{"D01 parent", at("../x.safetensors"), []string{`tensor "c": file name "../x.safetensors" is a path; a shard lies beside its index`}},
		{"D02 absolute", at("/etc/passwd"), []string{`"/etc/passwd" is a path`}},
		{"D03 parent inside", at("a/../../b.safetensors"), []string{"is a path"}},
		{"D03 folder", at("a/b.safetensors"), []string{"is a path"}},
		{"D04 NUL", at("a\x00.safetensors"), []string{`"a\x00.safetensors" is not a plain name`}},
		{"D04 backslash", at(`a\b.safetensors`), []string{"is a path"}},
		{"D04 empty", at(""), []string{`file name "" is empty`}},
		{"D04 dot", at("."), []string{`file name "." does not end in .safetensors`}},
		{"D04 dots", at(".."), []string{`file name ".." does not end in .safetensors`}},
		{"D04 extension only", at(".safetensors"), []string{"does not end in .safetensors"}},
		{"several at once", at("../x.safetensors").with(shard1, "").with("config.json", "{"), []string{
			"config.json:1:2: want a string", "is a path", shard1 + ": truncated"}},
		{"D07 tensor missing from its shard", sharded(t).with(shard2, safetensors(t, "d")), []string{
			shard2 + ": lacks tensors that model.safetensors.index.json places there: c: need 1, have 0; download"}},
		{"D08 duplicate without an index", sharded(t).with(indexName, "-").with(shard2, safetensors(t, "b")), []string{
			shard2 + `: tensor "b" is in ` + shard1 + ", too; add the index"}},
		{"D09 missing shard", sharded(t).with(shard2, "-"), []string{"shards are missing: " + shard2 + ": need 2, have 1; download it again"}},
		{"D09 missing shard without an index", sharded(t).with(shard1, "-").with(indexName, "-"), []string{"shards are missing: " + shard1 + ": need 2, have 1"}},
		{"D09 unfinished download", sharded(t).with(shard2, "-").with(".cache/huggingface/download/x.incomplete", ""), []string{
			"shards are missing: " + shard2, "a download was not finished (.cache/huggingface/download/x.incomplete); start it again"}},
		{"two sets of shards", sharded(t).with(indexName, "-").with("x-00001-of-00002.safetensors", ""), []string{"shards of several sets"}},
		{"other safetensors", files{"config.json": config, "consolidated.safetensors": ""}, []string{"have consolidated.safetensors"}},
		{"D12 pickles only", files{"config.json": config, "pytorch_model.bin": "", "x.pt": ""}, []string{
			"has pickles only: pickle checkpoints are not read: need model.safetensors or model.safetensors.index.json, have pytorch_model.bin, x.pt; convert it"}},
		{"D12 index of pickles", at("pytorch_model-00001.bin"), []string{"is a pickle: pickle checkpoints are not read; convert it"}},
		{"D13 Git LFS shard", sharded(t).with(shard1, lfs), []string{shard1 + ": is a Git LFS pointer"}},
		{"D13 Git LFS index", sharded(t).with(indexName, lfs), []string{indexName + ": is a Git LFS pointer"}},
		{"D13 Git LFS config", single(t).with("config.json", lfs), []string{"config.json: is a Git LFS pointer", `run "git lfs pull"`}},
		{"D14 web page as shard", sharded(t).with(shard1, html), []string{shard1 + ": is a web page"}},
		{"D14 web page as index", sharded(t).with(indexName, html), []string{indexName + ": is a web page"}},
		{"D14 web page as config", single(t).with("config.json", html), []string{"config.json: is a web page"}},
		{"truncated shard", sharded(t).with(shard1, safetensors(t, "a", "b")[:150]), []string{shard1 + ": truncated: need ", "missing); download it again"}},
		{"truncated file", single(t).with(singleName, safetensors(t, "a", "b")[:20]), []string{singleName + ": truncated in its header"}},
		{"index twice", sharded(t).with(indexName, `{"weight_map":{},"weight_map":{}}`), []string{`key "weight_map" is there twice`}},
		{"index tensor twice", sharded(t).with(indexName, `{"weight_map":{"a":"x.safetensors","\u0061":"x.safetensors"}}`), []string{`:1:36: tensor "a" is listed twice`}},
		{"index without weight_map", sharded(t).with(indexName, `{"Weight_map":{}}`), []string{`"weight_map" is missing`}},
		{"index of numbers", sharded(t).with(indexName, `{"weight_map":{"a":1}}`), []string{"want a string, have a number"}},
		{"index is a list", sharded(t).with(indexName, `[]`), []string{"want an object, have an array"}},
		{"index with more", sharded(t).with(indexName, sharded(t)[indexName]+"{}"), []string{"text after the value"}},
		{"index with a bad name", sharded(t).with(indexName, `{"weight_map":{"a\u001b":"x.safetensors"}}`), []string{"unprintable character U+001B"}},
		{"index cut short", sharded(t).with(indexName, `{"weight_map":{"a":"x`), []string{"text ends inside a string"}},
		{"config is a list", single(t).with("config.json", "[]"), []string{"config.json: does not hold a configuration: need an object, have an array"}},
		{"generation settings", single(t).with(generationName, `{"temperature":"hot","do_sample":1}`), []string{
			`generation_config.json: key do_sample: need true or false, have 1`, `key temperature: need a number, have "hot"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := c.files.write(t)
			ckpt, err := Open(dir)
			if ckpt != nil {
				t.Error("there is a checkpoint and an error")
			}
			wantError(t, err, c.want...)
			report := Check(context.Background(), dir, DefaultExamined)
			if report.Sound() || report.Problems.Error() != err.Error() {
				t.Errorf("report says\n%v\nwant\n%v", report.Problems, err)
			}
		})
	}
}

// TestManyProblems checks that the lists in messages are bounded.
func TestManyProblems(t *testing.T) {
	var pairs []string
	for i := range 100 {
		pairs = append(pairs, fmt.Sprintf("t%02d", i), fmt.Sprintf("model-%05d-of-00100.safetensors", i+1))
	}
	_, err := Open(files{"config.json": config, indexName: indexOf(t, 0, pairs...)}.write(t))
	wantError(t, err, "model-00008-of-00100.safetensors, and 92 more: need 100, have 0")
	for i := range 100 {
		pairs[2*i+1] = "/" + pairs[2*i+1]
	}
	_, err = Open(files{"config.json": config, indexName: indexOf(t, 0, pairs...)}.write(t))
	wantError(t, err, "and 80 more problems")
}

func TestNotADirectory(t *testing.T) {
	dir := single(t).write(t)
	for path, want := range map[string]string{
		"":                                      "names no directory",
		filepath.Join(dir, "none"):              "there is no such directory; give the directory of a checkpoint",
		filepath.Join(dir, "model.safetensors"): "is not a directory; give the directory that holds",
	} {
		_, err := Open(path)
		e, ok := err.(*Error)
		if !ok || !strings.Contains(e.What+"; "+e.Remedy, want) {
			t.Errorf("Open(%q): error is %v, want %q", path, err, want)
		}
	}
}

func TestOpenFile(t *testing.T) {
	dir := sharded(t).write(t)
	ckpt, err := OpenFile(filepath.Join(dir, shard1))
	if err != nil {
		t.Fatal(err)
	}
	defer ckpt.Close()
	if got := ckpt.Names(); !slices.Equal(got, []string{"a", "b"}) || len(ckpt.Config().Keys()) != 0 {
		t.Errorf("names are %q, config %v", got, ckpt.Config().Root())
	}
	_, err = OpenFile(filepath.Join(dir, "none.safetensors"))
	wantError(t, err, "none.safetensors")
	_, err = OpenFile(filepath.Join(dir, "none", "x.safetensors"))
	wantError(t, err, "there is no such directory")
}

// TestTruncatedCheckpoint cuts each file of a checkpoint at every byte: every
// cut is refused, and by every function.
func TestTruncatedCheckpoint(t *testing.T) {
	all := sharded(t)
	for name, text := range all {
		dir := all.write(t)
		for n := range len(text) {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text[:n]), 0o644); err != nil {
				t.Fatal(err)
			}
			ckpt, err := Open(dir)
			if err == nil {
				ckpt.Close()
				t.Errorf("%s is accepted when cut at byte %d of %d", name, n, len(text))
				continue
			}
			wantError(t, err, name)
		}
	}
}

func TestReadFile(t *testing.T) {
	ckpt, err := Open(single(t).with("tokenizer.json", "12345").with("README.md", lfs).write(t))
	if err != nil {
		t.Fatal(err)
	}
	defer ckpt.Close()
	text, err := ckpt.ReadFile("tokenizer.json", 5)
	if err != nil || string(text) != "12345" || !ckpt.HasFile("tokenizer.json") || ckpt.HasFile("none") {
		t.Errorf("file is %q, %v", text, err)
	}
	for name, want := range map[string]string{
		"none": "there is no such file", "..": "", "../x": "", "README.md": "is a Git LFS pointer",
	} {
		_, err := ckpt.ReadFile(name, 1<<10)
		wantError(t, err, want)
	}
	_, err = ckpt.ReadFile("tokenizer.json", 4)
	wantError(t, err, "is too large: need at most 4 bytes, have 5 bytes")
}

func TestChatTemplate(t *testing.T) {
	for _, c := range []struct {
		name       string
		file, text string
		want       string
		err        string
	}{
		{"none", "x", "", "", ""},
		{"own file", "chat_template.jinja", "<s>{{ x }}", "<s>{{ x }}", ""},
		{"own JSON file", "chat_template.json", `{"chat_template":"a\n"}`, "a\n", ""},
		{"in tokenizer_config.json", "tokenizer_config.json", `{"a":1,"chat_template":"b"}`, "b", ""},
		{"absent there", "tokenizer_config.json", `{"a":1}`, "", ""},
		{"null there", "tokenizer_config.json", `{"chat_template":null}`, "", ""},
		{"several", "tokenizer_config.json", `{"chat_template":[{"name":"tool_use","template":"t"},{"name":"default","template":"d"}]}`, "d", ""},
		{"several without default", "tokenizer_config.json", `{"chat_template":[{"name":"tool_use","template":"t"}]}`, "", "none of its chat templates is the default: have tool_use"},
		{"number", "tokenizer_config.json", `{"chat_template":1}`, "", "chat_template: need a text of at most 1,048,576 bytes, have a number"},
		{"malformed", "tokenizer_config.json", `{`, "", "tokenizer_config.json:1:2: want a string"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ckpt, err := Open(single(t).with(c.file, c.text).write(t))
			if err != nil {
				t.Fatal(err)
			}
			defer ckpt.Close()
			got, err := ckpt.ChatTemplate()
			if c.err != "" {
				wantError(t, err, c.err)
			} else if err != nil || got != c.want {
				t.Errorf("template is %q, %v; want %q", got, err, c.want)
			}
		})
	}
}

// FuzzIndex looks for panics and for indexes that name files elsewhere.
func FuzzIndex(f *testing.F) {
	f.Add(sharded(f)[indexName])
	f.Add(`{"metadata":{"total_size":1e3},"weight_map":{"a":"x.safetensors"},"x":[{"y":null}]}`)
	f.Add(`{"weight_map":{"a":"../x.safetensors"}}`)
	f.Fuzz(func(t *testing.T, text string) {
		idx, err := parseIndex("dir/index.json", []byte(text))
		if err != nil {
			wantError(t, err)
			return
		}
		for name, file := range idx.shard {
			if nameFault(name) != "" || filepath.Base(file) != file || !filepath.IsLocal(file) || !slices.Contains(idx.shards, file) {
				t.Errorf("accepted tensor %q in file %q", name, file)
			}
		}
	})
}
