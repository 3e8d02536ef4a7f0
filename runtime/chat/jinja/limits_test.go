package jinja

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// hostile holds templates that try to cost too much or to get out, with the kind
// of error that stops them. The cases are T07 of the project's robustness list.
var hostile = []struct {
	name, template string
	want           ErrorKind
}{
	{"endless loop by nesting", strings.Repeat("{% for x in range(100000) %}", 5) + "x" + strings.Repeat("{% endfor %}", 5), LimitError},
	{"loop over a product", "{% for x in [1] * 1000000000 %}{% endfor %}", LimitError},
	{"range of 10^9", "{% for x in range(1000000000) %}{% endfor %}", OverflowError},
	{"range of 10^5 in range of 10^5", "{% for x in range(100000) %}{% for y in range(100000) %}{% endfor %}{% endfor %}", LimitError},
	{"macro calls itself", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", LimitError},
	{"macros call each other", "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{{ a() }}{% endmacro %}{{ a() }}", LimitError},
	{"caller calls itself", "{% macro m() %}{{ caller() }}{% endmacro %}{% macro n() %}{% call m() %}{{ n() }}{% endcall %}{% endmacro %}{{ n() }}", LimitError},
	{"recursive loop", "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", LimitError},
	{"100 MB of output", "{% for x in range(1000) %}{{ 'x' * 100000 }}{% endfor %}", LimitError},
	{"text of 10^18 bytes", "{{ 'x' * 1000000000000000000 }}", LimitError},
	{"doubling text", "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}", LimitError},
	{"doubling by replace", "{% set ns = namespace(s='xx') %}{% for i in range(100) %}{% set ns.s = ns.s|replace('x', 'xx') %}{% endfor %}", LimitError},
	{"doubling by join", "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = [ns.s, ns.s]|join %}{% endfor %}", LimitError},
	{"doubling by format", "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = '%s%s' % (ns.s, ns.s) %}{% endfor %}", LimitError},
	{"doubling by str.format", "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = '{0}{0}'.format(ns.s) %}{% endfor %}", LimitError},
	{"doubling by set block", "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set b %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = b %}{% endfor %}", LimitError},
	{"doubling list", "{% set ns = namespace(l=[1]) %}{% for i in range(100) %}{% set ns.l = ns.l + ns.l %}{% endfor %}", LimitError},
	{"shared list printed", "{% set ns = namespace(l=[1]) %}{% for i in range(100) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}", LimitError},
	{"shared list as JSON", "{% set ns = namespace(l=[1]) %}{% for i in range(100) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l|tojson }}", LimitError},
	{"shared lists compared", "{% set a = namespace(l=[1], m=[1]) %}{% for i in range(100) %}{% set a.l = [a.l, a.l] %}{% set a.m = [a.m, a.m] %}{% endfor %}{{ a.l == a.m }}", LimitError},
	{"shared tuple as a key", "{% set a = namespace(l=(1,)) %}{% for i in range(100) %}{% set a.l = (a.l, a.l) %}{% endfor %}{{ {a.l: 1} }}", TypeError},
	{"deep list printed", "{% set ns = namespace(l=[]) %}{% for i in range(90000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}", LimitError},
	{"deep list compared", "{% set ns = namespace(l=[], m=[]) %}{% for i in range(90000) %}{% set ns.l = [ns.l] %}{% set ns.m = [ns.m] %}{% endfor %}{{ ns.l < ns.m }}", LimitError},
	{"deep list as JSON", "{% set ns = namespace(l=[]) %}{% for i in range(90000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l|tojson }}", LimitError},
	{"namespace in itself", "{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns }}", LimitError},
	{"wide field", "{{ '%999999999d' % 1 }}", ValueError},
	{"wide precision", "{{ '%.999999999f' % 1.5 }}", ValueError},
	{"many wide fields", "{{ ('%9999d' * 100000) % ([1] * 100000)|join(',')|list }}", TypeError},
	{"wide centre", "{{ 'x'|center(10000000000) }}", LimitError},
	{"wide indent", "{{ 'a\nb'|indent(10000000000) }}", LimitError},
	{"wide indent of JSON", "{{ [1]|tojson(indent=10000000000) }}", ValueError},
	{"many zeros", "{{ '1'.zfill(10000000000) }}", LimitError},
	{"many slices", "{{ [1]|slice(10000000000)|list }}", LimitError},
	{"large batch", "{{ [1]|batch(10000000000, 'x')|list }}", LimitError},
	{"power tower", "{{ 9 ** 9 ** 9 ** 9 }}", OverflowError},
	{"power of one", "{{ 1 ** 9223372036854775807 }}{{ (-1) ** 9223372036854775807 }}{{ 2 ** 64 }}", OverflowError},
	{"class of a text", "{{ ''.__class__.__mro__ }}", SecurityError},
	{"subclasses", "{{ [].__class__.__base__.__subclasses__() }}", SecurityError},
	{"globals of a function", "{{ range.__globals__.os }}", SecurityError},
	{"attribute by filter", "{{ (''|attr('__class__')).__mro__ }}", Undefinedness},
	{"attribute by format", "{{ '{0.__class__}'.format('') }}", SecurityError},
	{"attribute by map", "{{ ['']|map(attribute='__class__.__mro__')|list }}", SecurityError},
	{"changed list", "{% set l = [1] %}{{ l.append(2) }}", SecurityError},
	{"include", "{% include '/etc/passwd' %}", SyntaxError},
	{"import", "{% import 'os' as os %}", SyntaxError},
	{"extends", "{% extends 'base' %}", SyntaxError},
	{"deep parentheses", "{{ " + strings.Repeat("(", 100000) + "1" + strings.Repeat(")", 100000) + " }}", SyntaxError},
	{"deep lists", "{{ " + strings.Repeat("[", 100000) + strings.Repeat("]", 100000) + " }}", SyntaxError},
	{"many signs", "{{ " + strings.Repeat("-", 100000) + "1 }}", SyntaxError},
	{"many nots", "{{ " + strings.Repeat("not ", 100000) + "1 }}", SyntaxError},
	{"deep blocks", strings.Repeat("{% if 1 %}", 100000), SyntaxError},
	{"long chain of operators", "{{ 1" + strings.Repeat(" + 1", 100000) + " }}", SyntaxError},
	{"long chain of attributes", "{{ x" + strings.Repeat(".a", 100000) + " }}", SyntaxError},
	{"long chain of filters", "{{ x" + strings.Repeat("|upper", 100000) + " }}", SyntaxError},
	{"nested targets", "{% for " + strings.Repeat("(", 100000) + "x in y %}{% endfor %}", SyntaxError},
	{"large template", strings.Repeat("x", maxSource+1), SyntaxError},
	{"long number", "{{ " + strings.Repeat("9", 5000) + " }}", SyntaxError},
}

func TestHostileTemplates(t *testing.T) {
	for _, c := range hostile {
		t.Run(c.name, func(t *testing.T) {
			begin := time.Now()
			out, err := renderSource(c.template, NewDict(), Limits{Steps: 500_000, Output: 4 << 20, Memory: 32 << 20})
			var fault *Error
			if !errors.As(err, &fault) || fault.Kind != c.want {
				t.Fatalf("have %.60q, %.200v; want a %s", out, err, c.want)
			}
			if fault.Name != "test" || fault.Line < 1 {
				t.Errorf("%.200v has no place", err)
			}
			if len(err.Error()) > 1000 {
				t.Errorf("the message has %d bytes", len(err.Error()))
			}
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func TestEachLimit(t *testing.T) {
	template := "{% macro m() %}{{ 'abc' ~ 'def' }}{% endmacro %}{% for i in range(5) %}{{ m() }}{% endfor %}"
	if text, err := renderSource(template, nil, Limits{}); err != nil || text != strings.Repeat("abcdef", 5) {
		t.Fatalf("have %q, %v", text, err)
	}
	for _, c := range []struct {
		name string
		l    Limits
		want string
	}{
		{"steps", Limits{Steps: 20}, "takes more than 20 steps"},
		{"output", Limits{Output: 20}, "prints more than 20 bytes"},
		{"memory", Limits{Memory: 50}, "builds more than 50 bytes"},
		{"depth", Limits{Depth: -1}, "more than -1 deep"},
	} {
		if _, err := renderSource(template, nil, c.l); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: have %v, want %q", c.name, err, c.want)
		}
	}
}

// TestErrorPlaces checks that errors name the line.
func TestErrorPlaces(t *testing.T) {
	for _, c := range []struct{ template, want string }{
		{"a\nb\n{{ 1 + }}", "test:3: TemplateSyntaxError: want an expression, have '}}'"},
		{"\n{% for x in y %}\n", "test:2: TemplateSyntaxError: the template ends in a block; want endfor or else"},
		{"\n\n{{ x.y.z }}", "test:3: UndefinedError: 'x' is undefined"},
		{"\n{{ {'a': 1}.b.c }}", "test:2: UndefinedError: 'dict object' has no attribute 'b'"},
		{"\n\n{{ 'a' + 1 }}", `test:3: TypeError: can only concatenate str (not "int") to str`},
		{"{# c\n #}{% if x %}\n{% elif 1 %}{{ raise_exception('no\nway') }}{% endif %}", "test:3: TemplateError: no\nway"},
		{"{% nosuch %}", "test:1: TemplateSyntaxError: unknown tag 'nosuch'"},
		{"{% include 'x' %}", "test:1: TemplateSyntaxError: the tag 'include' is not supported: other templates are not read"},
		{"\n{{ x|nosuch }}", "test:2: TemplateSyntaxError: the filter 'nosuch' is not known; known are abs, attr, "},
		{"\n{{ x is nosuch }}", "test:2: TemplateSyntaxError: the test 'nosuch' is not known; known are !=, <, "},
		{"{% for a in 5 %}{% endfor %}", "test:1: TypeError: 'int' object is not iterable"},
		{"\n{% set a, b = 1, 2, 3 %}", "test:2: ValueError: 3 values for 2 variables"},
	} {
		_, err := renderSource(c.template, NewDict(), Limits{})
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%q: have %v, want %s", c.template, err, c.want)
		}
	}
}

// TestManyAtOnce renders one template from several goroutines.
func TestManyAtOnce(t *testing.T) {
	tmpl, err := Parse("test", "{% set ns = namespace(n=0) %}{% for i in range(50) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}{{ d }}")
	if err != nil {
		t.Fatal(err)
	}
	vars := NewDict()
	vars.Set("d", NewList(Int(1)))
	done := make(chan string)
	for range 4 {
		go func() {
			text, err := tmpl.Render(Context{Variables: vars})
			if err != nil {
				text = err.Error()
			}
			done <- text
		}()
	}
	for range 4 {
		if text := <-done; text != "1225[1]" {
			t.Errorf("have %q", text)
		}
	}
}

func FuzzParse(f *testing.F) {
	reference, variables := readCases(f)
	for _, c := range reference.Cases {
		f.Add(c.Template)
	}
	for _, h := range hostile {
		if len(h.template) < 1000 {
			f.Add(h.template)
		}
	}
	f.Fuzz(func(t *testing.T, source string) {
		if len(source) > 4096 {
			return
		}
		text, err := renderSource(source, variables, Limits{Steps: 20_000, Output: 1 << 16, Memory: 1 << 20, Depth: 20})
		var fault *Error
		if err != nil && (!errors.As(err, &fault) || fault.Name == "" || fault.Line < 1) {
			t.Errorf("%q: the error %v has no kind or place", source, err)
		}
		if len(text) > 1<<16 {
			t.Errorf("%q prints %d bytes", source, len(text))
		}
	})
}
