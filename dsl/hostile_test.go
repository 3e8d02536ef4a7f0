package dsl_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"moec/dsl"
	"moec/ir/diag"
)

// patience is how long a hostile description may take to be refused; each
// takes some 50 ms on a machine with nothing else to do.
const patience = 10 * time.Second

// TestHostile tries descriptions that are made to exhaust time, memory or the
// stack. Each is refused with a place.
func TestHostile(t *testing.T) {
	const many = 50_000
	start := "model m \"M\"\ntype act = bf16\nweight table: [9, 8] = \"t\"\nx = embed(table)\n"
	end := "output logits = x\n"
	tests := []struct{ name, src, want string }{
		{"too long", strings.Repeat("#\n", 1<<18), "the file has 524288 bytes"},
		{"open parentheses", strings.Repeat("(", many), "more than 64 brackets"},
		{"open braces", strings.Repeat("{", many), "follows no block"},
		{"closing braces", strings.Repeat("}", many), "closes nothing"},
		{"nested ifs", start + strings.Repeat("if true {\n", many/10), "more than 64 brackets"},
		{"else ifs", start + "if false {\n}" + strings.Repeat(" else if false {\n}", 3000) + "\nx = table[" + end, "never closed"},
		{"minus signs", start + "y = " + strings.Repeat("-", many) + "1\n", "at most 4096"},
		{"nots", start + "y = " + strings.Repeat("not ", 4000) + "1\n" + end, "cannot be applied"},
		{"powers", start + "y = 2" + strings.Repeat("^2", 2000) + "\n" + end, "above 9007199254740992"},
		{"choices", start + "y = 1" + strings.Repeat(" if 1 else 1", 1000) + "\n" + end, "the condition after if"},
		{"long name", strings.Repeat("a", many) + " = 1", "names have at most 64"},
		{"long number", "x = " + strings.Repeat("9", many), "numbers have at most 40"},
		{"huge exponent", start + "y = 1e99999999\n", "above the largest real"},
		{"bad characters", strings.Repeat("@", many), "has no meaning"},
		{"blocks", strings.Repeat("block b(x) {\n return x\n}\n", 2000), "declared twice"},
		{"loop", start + "for i in 1000000000000 {\n x = x + 1\n}\n" + end, "at most 4096 turns"},
		{"loops in loops", start + nestedLoops(6, "y = 1 + 1") + end, "steps to evaluate"},
		{"operations", start + nestedLoops(4, "x = x + 1") + end, "more than 131072 operations"},
		{"calls that double", doubling(30) + "y = b29(1)\noutput logits = y\n", "steps to evaluate"},
		{"recursion", "model m \"M\"\ntype act = bf16\nblock b(x) {\n return b(x)\n}\ny = b(1)\noutput logits = y\n", "must not call themselves"},
		{"lists in lists", start + "y = [1, 2]\nz = [y, y]\n" + end, "a list holds no lists"},
		{"overflow", start + "y = 1\nfor i in 60 {\n y = y * 1000\n}\n" + end, "above 9007199254740992"},
		{"elements", start + "weight w: [1073741824, 1073741824] = \"w\"\n" + end, "elements"},
		{"tables", start + "for i in 4096 {\n f = rope_freqs(1e4, 65536)\n}\n" + end, "steps to evaluate"},
		{"alternatives", start + "weight w: [8] = " + strings.Repeat(`"a" | `, 500) + `"a"` + "\n" + end, "at most 16"},
		{"long keys", start + nestedScopes(30) + end, "letters, at most"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			begin := time.Now()
			list := refuse([]byte(test.src))
			if took := time.Since(begin); took > patience {
				t.Errorf("took %v", took)
			}
			checkList(t, list)
			if text := list.Error(); !strings.Contains(text, test.want) {
				t.Errorf("got %.300s, want %q", text, test.want)
			}
		})
	}
}

func refuse(src []byte) diag.List {
	f, list := dsl.Parse("h.moe", src)
	if len(list) == 0 {
		_, list = dsl.Build(f, dsl.Env{})
	}
	return list
}

func nestedLoops(depth int, body string) string {
	var out strings.Builder
	for i := range depth {
		fmt.Fprintf(&out, "for i%d in 4096 {\n", i)
	}
	out.WriteString(body + "\n" + strings.Repeat("}\n", depth))
	return out.String()
}

// doubling declares blocks of which each calls the one before twice.
func doubling(n int) string {
	out := "model m \"M\"\ntype act = bf16\nblock b0(x) {\n return x\n}\n"
	for i := 1; i < n; i++ {
		out += fmt.Sprintf("block b%d(x) {\n return b%d(b%d(x))\n}\n", i, i-1, i-1)
	}
	return out
}

func nestedScopes(depth int) string {
	scope := strings.Repeat("k", 200)
	return strings.Repeat("for i in 2 at \""+scope+"\" {\n", depth) + "weight w: [8] = \"w\"\n" + strings.Repeat("}\n", depth)
}
