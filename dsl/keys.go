package dsl

import (
	"fmt"
	"strings"

	"moec/ir/diag"
)

// maxAlternatives bounds the products of alternatives of keys.
const maxAlternatives = 16

// keyChars are the characters of checkpoint keys, so that nothing else reaches
// plans, reports and generated sources.
const keyChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-/"

// key replaces the names in braces of a key. {expert} stays where each expert
// has its own weights, and so does the number of the layer, as {layer}.
func (f *frame) key(s string, at diag.Pos, experts bool) (string, bool) {
	var out strings.Builder
	col := at.Col + 1 // past the quote
	fail := func(format string, args ...any) (string, bool) {
		f.errorf(diag.Pos{File: at.File, Line: at.Line, Col: col}, 1, format, args...)
		return "", false
	}
	for rest := s; rest != ""; {
		c := rest[0]
		if c != '{' {
			if !strings.ContainsRune(keyChars, rune(c)) {
				return fail("%q is not part of a key; keys have letters, digits and any of _ . - /", firstRune(rest))
			}
			out.WriteByte(c)
			rest = rest[1:]
			col++
			continue
		}
		name, after, ok := strings.Cut(rest[1:], "}")
		if !ok {
			return fail("this { has no } in the key")
		}
		text, problem := f.keyPart(name, experts)
		if problem != "" {
			return fail("%s", problem)
		}
		out.WriteString(text)
		rest = after
		col += len(name) + 2
	}
	return out.String(), true
}

func firstRune(s string) string {
	for _, r := range s {
		return string(r)
	}
	return ""
}

// keyPart returns what stands for {name}, or what is wrong with it.
func (f *frame) keyPart(name string, experts bool) (text, problem string) {
	if name == expertName {
		if !experts {
			return "", "{expert} is only known in a block that route goes through"
		}
		return "{expert}", ""
	}
	v, ok := f.lookup(name)
	if !ok {
		var known []string
		for n := range f.vars {
			known = append(known, n)
		}
		return "", fmt.Sprintf("no %s is known here%s", shorten(name), didYouMean(name, known))
	}
	if _, ok := v.(layerNumber); ok {
		return "{layer}", ""
	}
	n, ok := whole(v)
	if !ok || n < 0 {
		return "", fmt.Sprintf("a key holds whole numbers from 0; %s is %s", name, kindOf(v))
	}
	return fmt.Sprint(n), ""
}

// under returns the alternatives of what comes before keys inside at.
func (f *frame) under(outer []string, at *scopes, experts bool) ([]string, bool) {
	if at == nil {
		return outer, true
	}
	var keys []string
	for _, k := range at.Keys {
		key, ok := f.key(unquote(k.Key), place(k.Pos), experts)
		if !ok {
			return nil, false
		}
		keys = append(keys, key)
	}
	if n := len(outer) * len(keys); n > maxAlternatives {
		f.errorf(place(at.Pos), 2, "%d alternatives for the keys below, at most %d", n, maxAlternatives)
		return nil, false
	}
	var out []string
	for _, o := range outer {
		for _, k := range keys {
			if len(o)+len(k) > maxText {
				f.errorf(place(at.Pos), 2, "the keys below begin with %d letters, at most %d", len(o)+len(k), maxText)
				return nil, false
			}
			out = append(out, joinKey(o, k))
		}
	}
	return out, true
}

func joinKey(outer, key string) string {
	if outer == "" || key == "" {
		return outer + key
	}
	return outer + "." + key
}
