package checkpoint

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// folding makes the text of the patterns of names, all of one type and shape.
func folding(names ...string) string {
	var infos []Info
	for _, n := range names {
		infos = append(infos, Info{Name: n, DType: "F32", Shape: []int64{1}, End: 4})
	}
	var b strings.Builder
	for _, p := range Fold(infos) {
		fmt.Fprintf(&b, "%s x%d\n", p.Name, p.Count)
		if p.Bytes != int64(4*p.Count) {
			fmt.Fprintf(&b, "%d bytes\n", p.Bytes)
		}
	}
	return b.String()
}

func TestFold(t *testing.T) {
	grid := func(pattern string, layers, experts []int) (names []string) {
		for _, l := range layers {
			for _, e := range experts {
				names = append(names, fmt.Sprintf(pattern, l, e))
			}
		}
		return names
	}
	upTo := func(n int) (list []int) {
		for i := range n {
			list = append(list, i)
		}
		return list
	}
	for _, c := range []struct {
		name  string
		names []string
		want  string
	}{
		{"none", nil, ""},
		{"no numbers", []string{"b", "a.w1"}, "a.w1 x1\nb x1\n"},
		{"one", []string{"l.3.w"}, "l.3.w x1\n"},
		{"grid", grid("l.%d.e.%d.w", upTo(32), upTo(8)), "l.{0..31}.e.{0..7}.w x256\n"},
		{"gap", grid("l.%d.e.%d.w", []int{0, 1, 2, 5, 7, 8}, upTo(2)), "l.{0..2,5,7,8}.e.{0,1}.w x12\n"},
		{"every other", grid("l.%d.e.%d.w", []int{1, 3, 5, 7}, upTo(3)), "l.{1..7..2}.e.{0..2}.w x12\n"},
		{"fewer experts in one layer", append(grid("l.%d.e.%d.w", []int{0, 1, 3}, upTo(4)), grid("l.%d.e.%d.w", []int{2}, upTo(3))...),
			"l.{0,1,3}.e.{0..3}.w x12\nl.2.e.{0..2}.w x3\n"},
		{"numbers by value", []string{"l.10.b", "l.9.a", "l.2.c"}, "l.2.c x1\nl.9.a x1\nl.10.b x1\n"},
		{"number last", []string{"b.0", "b.1"}, "b.{0,1} x2\n"},
		{"not plain numbers", []string{"a.01", "a.1", "a.-1", "a.99999999999999999999"}, "a.1 x1\na.-1 x1\na.01 x1\na.99999999999999999999 x1\n"},
		{"empty parts", []string{"a..0", "a.0.", "a.."}, "a.0. x1\na..0 x1\na.. x1\n"},
		{"many numbers", []string{"1.2.3.4.5.6", "1.2.3.4.5.7"}, "1.2.3.4.5.6 x1\n1.2.3.4.5.7 x1\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(3, 4))
			for range 5 {
				if diff := cmp.Diff(c.want, folding(c.names...)); diff != "" {
					t.Error(diff)
				}
				r.Shuffle(len(c.names), func(i, j int) { c.names[i], c.names[j] = c.names[j], c.names[i] })
			}
		})
	}
}

// TestFoldTypes keeps types and shapes apart.
func TestFoldTypes(t *testing.T) {
	got := Fold([]Info{
		{Name: "l.0.w", DType: "BF16", Shape: []int64{2, 3}, End: 12}, {Name: "l.1.w", DType: "BF16", Shape: []int64{2, 3}, End: 12},
		{Name: "l.2.w", DType: "F32", Shape: []int64{2, 3}, End: 24}, {Name: "l.3.w", DType: "F32", Shape: []int64{3, 2}, End: 24},
	})
	want := []Pattern{
		{"l.{0,1}.w", "BF16", []int64{2, 3}, 2, 24}, {"l.2.w", "F32", []int64{2, 3}, 1, 24}, {"l.3.w", "F32", []int64{3, 2}, 1, 24},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// model is a small Mixtral with a NaN in one router and one shard too few.
func model(t *testing.T) files {
	var tensors, more []Tensor
	var pairs []string
	add := func(list *[]Tensor, file, name string, shape ...int64) {
		n := int64(2)
		for _, d := range shape {
			n *= d
		}
		*list = append(*list, Tensor{name, "BF16", shape, make([]byte, n)})
		pairs = append(pairs, name, file)
	}
	add(&tensors, shard1, "model.embed_tokens.weight", 64, 8)
	for l := range 2 {
		layer := fmt.Sprintf("model.layers.%d.", l)
		add(&tensors, shard1, layer+"self_attn.q_proj.weight", 8, 8)
		add(&tensors, shard1, layer+"block_sparse_moe.gate.weight", 4, 8)
		for e := range 4 {
			for _, w := range []string{"w1", "w2", "w3"} {
				add(&more, shard2, fmt.Sprintf("%sblock_sparse_moe.experts.%d.%s.weight", layer, e, w), 16, 8)
			}
		}
	}
	copy(tensors[4].Data[6:], []byte{0xc0, 0x7f, 0x80, 0xff}) // NaN, -Inf
	tensors = append(tensors, Tensor{"model.norm.weight", "F32", []int64{8}, make([]byte, 32)})
	pairs = append(pairs, "model.norm.weight", shard1)
	return files{
		"config.json": config, generationName: `{"eos_token_id":[2,7],"temperature":-1}`, "tokenizer.json": "{}", "chat_template.jinja": "{{ x }}",
		shard1: encoded(t, tensors...), shard2: encoded(t, more...), indexName: indexOf(t, 1024+2*(128+64)+24*256+32, pairs...),
	}
}

func TestReport(t *testing.T) {
	sound := model(t)
	broken := sound.with(shard2, sound[shard2][:len(sound[shard2])-1]).with("config.json", `{"architectures":["A\u001b[2J"],"x":}`)
	for name, f := range map[string]files{"sound": sound, "broken": broken} {
		t.Run(name, func(t *testing.T) {
			dir := f.write(t)
			r := Check(context.Background(), dir, DefaultExamined)
			data, err := json.MarshalIndent(r, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got := strings.ReplaceAll(r.String()+"\n"+string(data)+"\n", dir, "DIR")
			path := filepath.Join("testdata", "report-"+name+".txt")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestReportEscapes keeps what a file says from steering a terminal.
func TestReportEscapes(t *testing.T) {
	r := Check(context.Background(), single(t).with("config.json", `{"architectures":["A\u001b[2J\n\u202e"]}`).write(t), 0)
	if text := r.String(); strings.ContainsAny(text, "\x1b\u202e") || !strings.Contains(text, `"A\x1b[2J\n\u202e"`) {
		t.Errorf("report is %q", text)
	}
}

// TestExamine reads only as many values as it may, smallest tensors first.
func TestExamine(t *testing.T) {
	dir := model(t).write(t)
	done, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		ctx             context.Context
		budget          int64
		examined, warns int
	}{
		{context.Background(), -1, 0, 1},
		{context.Background(), 32, 1, 1}, // the norm; a warning of the temperature
		{context.Background(), 32 + 2*64, 3, 2},
		{context.Background(), DefaultExamined, 30, 2},
		{done, DefaultExamined, 0, 1},
	} {
		r := Check(c.ctx, dir, c.budget)
		if r.Examined != c.examined || len(r.Warnings) != c.warns || !r.Sound() {
			t.Errorf("budget %d: %d tensors examined, warnings %q", c.budget, r.Examined, r.Warnings)
		}
	}
}

// TestNotFinite counts NaN and infinity in each type.
func TestNotFinite(t *testing.T) {
	for _, c := range []struct {
		dtype string
		data  []byte
		want  int64
	}{
		{"F32", []byte{0, 0, 0x80, 0x7f, 1, 0, 0x80, 0xff, 0xff, 0xff, 0x7f, 0x7f, 0, 0, 0, 0}, 2},
		{"BF16", []byte{0x80, 0x7f, 0x7f, 0x7f, 0xc0, 0xff, 0, 0}, 2},
		{"F16", []byte{0, 0x7c, 0xff, 0x7b, 1, 0xfc, 0x80, 0x3f}, 2},
	} {
		if got := notFinite(c.dtype, c.data); got != c.want {
			t.Errorf("%s: %d, want %d", c.dtype, got, c.want)
		}
	}
}

// TestReference reads a file that the format's own library wrote.
func TestReference(t *testing.T) {
	ckpt, err := OpenFile("testdata/reference.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer ckpt.Close()
	for _, c := range []struct {
		name, info string
		data       []byte
	}{
		{"half", "F16 [2]", []byte{0, 0x3c, 0, 0xc0}}, // 1, -2
		{"layers.0.w", "F32 [1,2]", []byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0x40}},
		{"ids", "I64 []", []byte{7, 0, 0, 0, 0, 0, 0, 0}},
		{"none", "F32 [0,3]", nil},
	} {
		info, ok := ckpt.Tensor(c.name)
		data := make([]byte, len(c.data))
		if err := ckpt.ReadAt(c.name, data, 0); err != nil || !ok || info.DType+" "+shapeText(info.Shape) != c.info || string(data) != string(c.data) {
			t.Errorf("%s is %+v with %x, %v", c.name, info, data, err)
		}
	}
}
