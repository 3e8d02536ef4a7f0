package dsl_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"moec/dsl"
	"moec/ir"
	"moec/ir/diag"
	"moec/ir/tensor"
)

// seed adds the descriptions of the repository to a corpus.
func seed(f *testing.F) {
	for _, pattern := range []string{"../examples/*.moe", "testdata/errors/*.moe", "testdata/format/*.moe"} {
		for _, path := range files(f, pattern) {
			src, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(src)
		}
	}
}

// checkList checks what holds for all diagnostics.
func checkList(t *testing.T, list diag.List) {
	t.Helper()
	var text bytes.Buffer
	if err := list.Render(&text); err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		if d.Message == "" || strings.Contains(d.Message, "internal error") || strings.ContainsAny(d.Message, "\n\x00\x1b") {
			t.Errorf("message %q", d.Message)
		}
		if d.Pos.Line < 1 && d.Pos != (diag.Pos{}) {
			t.Errorf("position %v of %q", d.Pos, d.Message)
		}
	}
}

// FuzzParse checks that no text stops the parser and that it gives a file or
// reasons.
func FuzzParse(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, src []byte) {
		file, list := dsl.Parse("f.moe", src)
		if (file == nil) != (len(list) > 0) {
			t.Fatalf("file %v with %d errors", file != nil, len(list))
		}
		checkList(t, list)
	})
}

// FuzzFormat checks that formatting is idempotent and keeps what is accepted.
func FuzzFormat(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, src []byte) {
		once, list := dsl.Format("f.moe", src)
		checkList(t, list)
		if len(list) > 0 {
			return
		}
		twice, list := dsl.Format("f.moe", once)
		if len(list) > 0 || !bytes.Equal(once, twice) {
			t.Fatalf("%v\n%s\n---\n%s", list, once, twice)
		}
		_, before := dsl.Parse("f.moe", src)
		_, after := dsl.Parse("f.moe", once)
		if len(before) != len(after) {
			t.Fatalf("%d errors before, %d after\n%s", len(before), len(after), once)
		}
	})
}

// FuzzBuild checks that what builds is sound, with and without a checkpoint
// that has every tensor in some shape.
func FuzzBuild(f *testing.F) {
	seed(f)
	odd := func(name string) (tensor.DType, []int, bool) {
		return tensor.BF16, []int{len(name), 4}, len(name)%7 != 0
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		file, list := dsl.Parse("f.moe", src)
		if len(list) > 0 {
			return
		}
		m, list := dsl.Build(file, dsl.Env{})
		checkList(t, list)
		if (m == nil) != (len(list) > 0) {
			t.Fatalf("model %v with %d errors", m != nil, len(list))
		}
		if m != nil {
			if err := ir.Verify(m.Graph); err != nil {
				t.Fatal(err)
			}
		}
		_, list = dsl.Build(file, dsl.Env{Tensor: odd, Config: config{"a": int64(3)}})
		checkList(t, list)
	})
}
