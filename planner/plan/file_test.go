package plan_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"moec/planner/plan"
)

// small is the smallest plan with experts, a cache and a fused step.
var small = sample{name: "small", devices: 1, groups: 1, layers: 1, fused: true}

func smallText(t testing.TB) []byte {
	t.Helper()
	text, err := plan.Encode(small.plan(t))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// refused checks that a text is no plan and that the message can be used.
func refused(t *testing.T, what string, text []byte) {
	t.Helper()
	p, err := plan.Decode("m.plan", text)
	var file *plan.FileError
	if p != nil || !errors.As(err, &file) || file.File != "m.plan" || file.Remedy == "" || strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: plan %t, error %v", what, p != nil, err)
	}
}

func TestRoundTrip(t *testing.T) {
	for name, text := range encoded(t) {
		p := decode(t, name, text)
		again, err := plan.Encode(p)
		if err != nil || !bytes.Equal(again, text) {
			t.Errorf("%s: encoding again gives other bytes, error %v", name, err)
		}
		if list := problems(p); list != nil {
			t.Errorf("%s: decoded plan: %v", name, list)
		}
	}
}

// TestTruncated cuts a plan after every byte.
func TestTruncated(t *testing.T) {
	text := smallText(t)
	for n := range text {
		refused(t, fmt.Sprintf("%d of %d bytes", n, len(text)), text[:n])
	}
}

// TestFlipped changes one bit of every byte.
func TestFlipped(t *testing.T) {
	text := smallText(t)
	rng := rand.New(rand.NewPCG(4, 5))
	for i := range text {
		bad := bytes.Clone(text)
		bad[i] ^= 1 << rng.IntN(8)
		refused(t, fmt.Sprintf("byte %d of %d is %q", i, len(text), bad[i]), bad)
	}
}

// seal gives a changed text its checksum, as somebody with an editor and
// sha256sum would.
func seal(t testing.TB, text []byte) []byte {
	t.Helper()
	t.Helper()
	var head struct{ Checksum string }
	if json.Unmarshal(text, &head) != nil {
		return text // no object
	}
	_, err := plan.Decode("m.plan", text)
	var file *plan.FileError
	if !errors.As(err, &file) || file.What != "checksum" {
		return text
	}
	return bytes.Replace(text, []byte(head.Checksum), []byte(file.Have), 1)
}

// TestSealed changes the text and the checksum with it.
func TestSealed(t *testing.T) {
	text := string(smallText(t))
	for _, c := range []struct{ what, old, new, message string }{
		{"another format", `"moec plan"`, `"moec tune"`, "is not a plan file"},
		{"an older version", `"version": 1`, `"version": 0`, "plan format version: need 1, have 0"},
		{"a newer version", `"version": 1`, `"version": 2`, "plan format version: need 1, have 2"},
		{"a field that this version lacks", `"machine": {`, `"colour": "red", "machine": {`, "cannot read"},
		{"another layout", `"numerics": {"mode"`, `"numerics":  {"mode"`, "not in canonical form"},
		{"fields in another order", `"tokens": 24, "rows": 8`, `"rows": 8, "tokens": 24`, "not in canonical form"},
		{"a field twice", `"tokens": 24`, `"tokens": 12, "tokens": 24`, "not in canonical form"},
		{"a number in another form", `"tokens": 24`, `"tokens": 2.4e1`, "cannot read"},
		{"a number that is too large", `"tokens": 24`, `"tokens": 24000000000000000000000`, "cannot read"},
		{"a text where a number belongs", `"tokens": 24`, `"tokens": "24"`, "cannot read"},
		{"something after the end", "}\n", "}\n{}\n", "is damaged"},
		{"an op that is not known", `"op": "softmax"`, `"op": "hardmax"`, "does not know"},
		{"an attribute that the op lacks", `{"op": "softmax", "out"`, `{"op": "softmax", "attrs": {"k": 3}, "out"`, "cannot read"},
		{"an attribute of another kind", `"eps": 0.00001`, `"eps": "small"`, "attribute eps"},
		{"an element type that is not known", `"dtype": "bf16"`, `"dtype": "f8"`, "not an element type"},
		{"a type that is not known", `"i32[T]"`, `"i32[Q]"`, "neither a number nor a symbol"},
		{"layers that are no range", `"layers": "0"`, `"layers": "first"`, "not a number or first-last"},
		{"layers in another form", `"layers": "0"`, `"layers": "0-0"`, "not in canonical form"},
		{"an operand of no kind", `"weight:embed"`, `"disk:embed"`, "no known kind"},
		{"an operand of no device", `"weight:embed"`, `"weight:embed@x"`, "no device"},
		{"an operand with its own device", `"weight:embed"`, `"weight:embed@0"`, "not in canonical form"},
	} {
		bad := strings.Replace(text, c.old, c.new, 1)
		if bad == text {
			t.Errorf("%s: the plan has no %q", c.what, c.old)
			continue
		}
		refused(t, c.what, []byte(bad))
		if json.Valid([]byte(bad)) {
			bad = string(seal(t, []byte(bad)))
		}
		refused(t, c.what+", sealed", []byte(bad))
		if _, err := plan.Decode("m.plan", []byte(bad)); err == nil || !strings.Contains(err.Error(), c.message) {
			t.Errorf("%s: message is %v, want %q in it", c.what, err, c.message)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large.plan")
	f, err := os.Create(large)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(1<<30), f.Close()); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty.plan")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for path, message := range map[string]string{
		filepath.Join(dir, "none.plan"): "no such plan file",
		dir:                             "not a regular file",
		large:                           "too large",
		empty:                           "not a plan file",
	} {
		if _, err := plan.Read(path); err == nil || !strings.Contains(err.Error(), message) || !strings.HasPrefix(err.Error(), path) {
			t.Errorf("%s: error is %v, want %q", path, err, message)
		}
	}
}

func TestWriteRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.plan")
	p := small.plan(t)
	if err := plan.Write(path, p); err != nil {
		t.Fatal(err)
	}
	q, err := plan.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	a, errA := plan.Comparable(p)
	b, errB := plan.Comparable(q)
	if errA != nil || errB != nil || a != b || strings.Contains(a, "sha256:0000") {
		t.Errorf("the plan read differs from the one written: %v, %v", errA, errB)
	}
}

// tiny is a plan without layers: two devices with half of the head each. The
// fuzzer is slow with larger texts.
func tiny(t testing.TB) *plan.Plan {
	return sample{name: "tiny", devices: 2, groups: 1, heads: true}.plan(t)
}

// TestVerifyModel is rule V26.
func TestVerifyModel(t *testing.T) {
	p := small.plan(t)
	if err := plan.VerifyModel(p, p.Model.Hash); err != nil {
		t.Error(err)
	}
	if err := plan.VerifyModel(p, "ff"); !errors.Is(err, plan.ErrOtherModel) || !strings.Contains(err.Error(), "V26") {
		t.Errorf("another model: %v", err)
	}
}

// TestVerifyIsFast verifies a plan of Mixtral's size.
func TestVerifyIsFast(t *testing.T) {
	s := sample{name: "mixtral", devices: 4, groups: 1, layers: 32, fused: true, homes: [][]int{{0}, {1}, {2}, {3}}}
	p := s.plan(t)
	best := time.Hour
	for range 5 {
		begin := time.Now()
		if err := plan.Verify(p); err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(begin))
	}
	t.Logf("32 layers on 4 devices: %v", best)
	if best > 200*time.Millisecond {
		t.Errorf("verifying took %v", best)
	}
}

// FuzzDecode reads texts, sealed if they are JSON.
func FuzzDecode(f *testing.F) {
	text, err := plan.Encode(tiny(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"format": "moec plan", "version": 1, "checksum": ""}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if json.Valid(text) {
			text = seal(t, text)
		}
		p, err := plan.Decode("m.plan", text)
		if (p == nil) == (err == nil) {
			t.Fatalf("plan %t, error %v", p != nil, err)
		}
		if err != nil {
			return
		}
		again, err := plan.Encode(p)
		if err != nil || !bytes.Equal(again, text) {
			t.Fatalf("an accepted text is not what the plan encodes to: %v", err)
		}
		checkVerified(t, p)
	})
}

// checkVerified verifies a plan, which must not panic or take for ever, and
// reads it back if it is right.
func checkVerified(t testing.TB, p *plan.Plan) {
	t.Helper()
	if plan.Verify(p) != nil {
		return
	}
	text, err := plan.Encode(p)
	if err != nil {
		t.Fatalf("an accepted plan cannot be written: %v", err)
	}
	if _, err := plan.Decode("m.plan", text); err != nil {
		t.Fatalf("an accepted plan cannot be read back: %v", err)
	}
}

// FuzzVerify verifies plans that need not be sealed or canonical.
func FuzzVerify(f *testing.F) {
	text, err := json.Marshal(tiny(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		var p plan.Plan
		if json.Unmarshal(text, &p) == nil {
			checkVerified(t, &p)
		}
	})
}

// TestRandomJSON changes plans as JSON, anywhere.
func TestRandomJSON(t *testing.T) {
	var texts [][]byte
	for _, s := range samples {
		text, err := json.Marshal(s.plan(t))
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, text)
	}
	read, accepted := 0, 0
	for i := range *mutantCount / 2 {
		rng := rand.New(rand.NewPCG(uint64(i), 11))
		d := json.NewDecoder(bytes.NewReader(texts[i%len(texts)]))
		d.UseNumber()
		var tree any
		if err := d.Decode(&tree); err != nil {
			t.Fatal(err)
		}
		m := &treeMutator{rng: rng, values: make(map[string][]any)}
		m.learn("", tree)
		for range 1 + rng.IntN(3) {
			tree = m.change("", tree)
		}
		text, err := json.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		var p plan.Plan
		if json.Unmarshal(text, &p) != nil {
			continue
		}
		read++
		if plan.Verify(&p) == nil {
			accepted++
		}
		checkVerified(t, &p)
	}
	t.Logf("%d plans read, %d accepted", read, accepted)
	if read < *mutantCount/3 {
		t.Errorf("only %d plans could be read: the test tries too little", read)
	}
}

// treeMutator changes JSON values.
type treeMutator struct {
	rng    *rand.Rand
	values map[string][]any // all values under a key
}

func (m *treeMutator) learn(key string, v any) {
	m.values[key] = append(m.values[key], v)
	switch v := v.(type) {
	case map[string]any:
		for _, k := range keys(v) {
			m.learn(k, v[k])
		}
	case []any:
		for _, e := range v {
			m.learn(key+"[]", e)
		}
	}
}

// change changes v or something in it.
func (m *treeMutator) change(key string, v any) any {
	switch old := v.(type) {
	case map[string]any:
		list := keys(old)
		if len(list) == 0 {
			return v
		}
		k := list[m.rng.IntN(len(list))]
		if m.rng.IntN(30) == 0 {
			delete(old, k)
		} else {
			old[k] = m.change(k, old[k])
		}
		return old
	case []any:
		return m.list(key, old)
	case json.Number:
		numbers := []json.Number{"0", "-1", "1", "255", "256", "2147483648", "4611686018427387904", "9223372036854775807", "-9223372036854775808"}
		if m.rng.IntN(2) == 0 {
			return numbers[m.rng.IntN(len(numbers))]
		}
	}
	return m.known(key)
}

func (m *treeMutator) known(key string) any {
	list := m.values[key]
	return list[m.rng.IntN(len(list))]
}

func (m *treeMutator) list(key string, v []any) any {
	if len(v) == 0 {
		return v
	}
	v = append([]any(nil), v...)
	i, j := m.rng.IntN(len(v)), m.rng.IntN(len(v))
	switch m.rng.IntN(12) {
	case 0:
		return append(v[:i], v[i+1:]...)
	case 1:
		v[i], v[j] = v[j], v[i]
	case 2:
		return append(v, v[i])
	case 3:
		v[i] = m.known(key + "[]")
	default:
		v[i] = m.change(key+"[]", v[i])
	}
	return v
}

func keys(m map[string]any) []string {
	var list []string
	for k := range m {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}
