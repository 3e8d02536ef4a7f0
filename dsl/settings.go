package dsl

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"moec/ir/diag"
	"moec/ir/tensor"
)

// kind is a kind of setting.
type kind struct {
	want  string
	holds func(value) bool
}

// kinds are the kinds of settings and of parameters known when compiling.
var kinds = map[string]kind{
	"size":  {"a whole number from 1 to " + strconv.Itoa(maxExtent), func(v value) bool { n, ok := whole(v); return ok && n >= 1 && n <= maxExtent }},
	"count": {"a whole number from 0 to " + strconv.Itoa(maxExtent), func(v value) bool { n, ok := whole(v); return ok && n >= 0 && n <= maxExtent }},
	"real":  {"a number", func(v value) bool { x, ok := number(v); return ok && finite(x) }},
	"flag":  {"true or false", func(v value) bool { _, ok := v.(bool); return ok }},
	"text":  {"a text", func(v value) bool { _, ok := v.(string); return ok }},
	"list":  {"a list", func(v value) bool { _, ok := v.([]value); return ok }},
	"type":  {"bf16, f16 or f32", func(v value) bool { d, ok := v.(tensor.DType); return ok && d.Float() }},
}

// configTypes are the spellings of element types in config.json.
var configTypes = map[string]tensor.DType{
	"float32": tensor.F32, "bfloat16": tensor.BF16, "float16": tensor.F16,
	"torch.float32": tensor.F32, "torch.bfloat16": tensor.BF16, "torch.float16": tensor.F16,
}

// actName is the setting that says how named values are stored.
const actName = "act"

// checkSet refuses overrides of what is no setting.
func (b *builder) checkSet() {
	var known []string
	for _, st := range b.file.statements {
		if st.Setting != nil {
			known = append(known, st.Setting.Name.Text)
		}
	}
	var given []string
	for name := range b.env.Set {
		given = append(given, name)
	}
	slices.Sort(given)
	for _, name := range given {
		if !slices.Contains(known, name) {
			b.errorf(diag.Pos{}, 0, "set %s: %s has no setting of that name%s", shorten(name), b.file.Name, didYouMean(name, known))
		}
	}
}

// settings binds all settings before anything else is evaluated, in order.
func (b *builder) settings(root *frame) {
	for name, d := range elementTypes {
		root.vars[name] = d
	}
	for _, st := range b.file.statements {
		if s := st.Setting; s != nil {
			root.vars[s.Name.Text] = root.setting(s)
		}
	}
	act, ok := root.vars[actName].(tensor.DType)
	if !ok && len(b.list) == 0 {
		b.errorf(diag.Pos{File: b.file.Name, Line: 1, Col: 1}, 1, "no setting says how values are stored; write: type act = bf16 from dtype | torch_dtype")
	}
	b.act = act
}

// setting returns the value of a setting: what Set says, or the first key of
// config.json that is there and not null, or the default.
func (f *frame) setting(s *settingStmt) value {
	v, from := f.chosen(s)
	if _, bad := v.(poison); bad {
		return v
	}
	at, w := place(s.Name.Pos), len(s.Name.Text)
	k := kinds[s.Kind]
	if v = converted(s.Kind, v); !k.holds(v) && !(v == nil && s.Optional) {
		d := diag.Diagnostic{Pos: at, Width: w, Message: fmt.Sprintf("%s %s is %s, from %s; want %s", s.Kind, s.Name.Text, show(v), sourceText(from), k.want)}
		if v == nil {
			d = d.Noted(diag.Pos{}, "write %s? %s = ... if none makes sense", s.Kind, s.Name.Text)
		}
		return f.noted(d)
	}
	f.bindings = append(f.bindings, Binding{s.Name.Text, show(v), from})
	return v
}

// chosen returns the value of a setting and where it is from.
func (f *frame) chosen(s *settingStmt) (value, string) {
	if text, ok := f.env.Set[s.Name.Text]; ok {
		return f.override(s, text), fromSet
	}
	if v, key, ok := f.configured(s); ok {
		return v, key
	}
	return f.eval(s.Default.tree), fromDefault
}

// configured looks the keys up. Null counts as absent, unless the setting may
// be none.
func (f *frame) configured(s *settingStmt) (v value, key string, ok bool) {
	if f.env.Config == nil {
		return nil, "", false
	}
	for _, p := range s.From {
		key := strings.Join(p.Parts, ".")
		raw, ok := f.env.Config.Lookup(key)
		if !ok || raw == nil && !s.Optional {
			continue
		}
		v, ok := fromConfig(raw)
		if !ok {
			return f.errorf(place(p.Pos), len(key), "config.json: %s is not a number, a text, true, false or a list of these; want %s", key, kinds[s.Kind].want), key, true
		}
		return v, key, true
	}
	return nil, "", false
}

// fromConfig converts a value of config.json. Objects, lists of lists and
// numbers out of range are not read.
func fromConfig(raw any) (value, bool) {
	switch raw := raw.(type) {
	case nil, bool, string:
		return raw, true
	case int64:
		return raw, raw >= -maxInt && raw <= maxInt
	case float64:
		return raw, finite(raw)
	case []any:
		if len(raw) > maxList {
			return nil, false
		}
		list := make([]value, len(raw))
		for i, x := range raw {
			v, ok := fromConfig(x)
			if _, nested := v.([]value); nested || !ok {
				return nil, false
			}
			list[i] = v
		}
		return list, true
	}
	return nil, false
}

// converted applies what config.json spells in another way.
func converted(kind string, v value) value {
	switch x := v.(type) {
	case float64:
		if n := int64(x); (kind == "size" || kind == "count") && math.Abs(x) <= maxInt && float64(n) == x {
			return n
		}
	case string:
		if d, ok := configTypes[x]; ok && kind == "type" {
			return d
		}
	}
	if n, ok := whole(v); ok && kind == "real" {
		return float64(n)
	}
	return v
}

// override reads the text of a value that was set.
func (f *frame) override(s *settingStmt, text string) value {
	if s.Kind == "text" {
		return text
	}
	if d, ok := configTypes[text]; ok && s.Kind == "type" {
		return d
	}
	name := "set " + s.Name.Text
	statements, list := parse(name, []byte("it = "+text))
	if len(list) > 0 || len(statements) != 1 || statements[0].Bind == nil {
		return f.errorf(place(s.Name.Pos), len(s.Name.Text), "set %s: %q is not %s", s.Name.Text, shorten(text), kinds[s.Kind].want)
	}
	tree := statements[0].Bind.Value.tree
	if _, isType := tree.(nameNode); isType || plainTree(tree) {
		if v := f.quietly(tree); v != (poison{}) {
			return v
		}
	}
	return f.errorf(place(s.Name.Pos), len(s.Name.Text), "set %s: %q is not %s", s.Name.Text, shorten(text), kinds[s.Kind].want)
}

// plainTree reports whether an expression has neither names nor calls.
func plainTree(tree node) bool {
	plain := true
	eachNode(tree, func(n node) {
		switch n.(type) {
		case nameNode, callNode:
			plain = false
		}
	})
	return plain
}

// quietly evaluates without a report of errors.
func (f *frame) quietly(tree node) value {
	list := f.list
	v := f.eval(tree)
	f.list = list
	return v
}

// expectations runs all expect statements, before anything is built: they
// tell best that a checkpoint is of another family.
func (b *builder) expectations(root *frame) {
	for _, st := range b.file.statements {
		if st.Expect != nil && b.env.Config != nil {
			root.expect(st.Expect)
		}
	}
}

// expect compares keys of config.json with the values that the description
// was written for. Keys that are absent or null are as expected.
func (f *frame) expect(s *expectStmt) {
	var want []string
	var values []value
	for _, e := range s.Values {
		v := f.eval(e.tree)
		if _, bad := v.(poison); bad {
			return
		}
		values = append(values, v)
		want = append(want, show(v))
	}
	for _, p := range s.Keys {
		key := strings.Join(p.Parts, ".")
		raw, ok := f.env.Config.Lookup(key)
		if !ok || raw == nil {
			continue
		}
		have, ok := fromConfig(raw)
		if ok && slices.ContainsFunc(values, func(v value) bool { return equal(v, have) }) {
			continue
		}
		text := "something else"
		if ok {
			text = show(have)
		}
		f.errorf(place(p.Pos), len(key), "config.json says %s is %s; this description is for %s", key, text, strings.Join(want, " or "))
	}
}
