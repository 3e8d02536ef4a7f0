"""Makes cases.json: short templates with what Jinja gives for them.

    pip install jinja2==3.1.6
    python make_cases.py

The environment is the one that transformers renders chat templates in. A case is {template, text} or
{template, error}, where error is the name of the Python exception.
"""

import copy
import datetime
import json
from pathlib import Path

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2025, 3, 9, 8, 5, 0)
VARIABLES = {
    "s": "Hello, World",
    "empty": "",
    "uni": "Ünïcödé 日本 😀 ß",
    "multi": "line one\n\n  line two\r\nline three\n",
    "n": 7,
    "neg": -3,
    "f": 2.5,
    "t": True,
    "no": False,
    "nil": None,
    "l": [3, 1, 2, 1],
    "words": ["pear", "Apple", "fig", "apple"],
    "nested": [[1, 2], [3, [4, 5]]],
    "d": {"b": 1, "a": {"x": "y"}, "items": "shadow", "c": [1, None, True, 1.5, "é\"<&>'"]},
    "msgs": [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "U1", "n": 2},
        {"role": "assistant", "content": None, "n": 1},
        {"role": "user", "content": "U2"},
    ],
    "big": 12345678901234567890123,
}

CASES = r"""
{{ s }}|{{ n }}|{{ f }}|{{ t }}|{{ nil }}|{{ l }}|{{ d }}|{{ missing }}|{{ big }}
{{ 1 + 2 * 3 - 4 / 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 2 ** 3 ** 2 }}
{{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ 1e3 }} {{ 1e16 }} {{ 1e-5 }} {{ 0.1 + 0.2 }} {{ 1_000 }} {{ 0x1F }} {{ 0b11 }} {{ 0o17 }} {{ 1e22 }} {{ 123456789.0 }}
{{ -n }} {{ +n }} {{ -neg }} {{ - -1 }} {{ -f }} {{ not n }} {{ not not n }} {{ -2|abs }} {{ -n|string ~ 'x' }}
{{ 1 / 0 }}
{{ 1 // 0 }}
{{ 1 % 0 }}
{{ true + true }} {{ true == 1 }} {{ 1 == 1.0 }} {{ '1' == 1 }} {{ none == false }} {{ [] == () }} {{ [1] == [1.0] }} {{ {'a': 1} == {'a': true} }}
{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }} {{ 1 <= 1 }} {{ 2 >= 3 }} {{ 1 != 2 }}
{{ 1 < 'a' }}
{{ none < 1 }}
{{ missing < 1 }}
{{ missing == missing2 }} {{ missing == none }} {{ missing != 1 }}
{{ missing + 1 }}
{{ 'a' + 1 }}
{{ 'a' + none }}
{{ 'a' + l }}
{{ l + 'a' }}
{{ l + [4] }} {{ (1,) + (2, 3) }} {{ [0] * 3 }} {{ 'ab' * 3 }} {{ 3 * 'ab' }} {{ 'ab' * -1 }} {{ 'ab' * 0 }}
{{ l + (1,) }}
{{ l * 'a' }}
{{ d + d }}
{{ s ~ n ~ none ~ true ~ l ~ missing }}
{{ 'a' 'b' "c" }}
{{ 'x' in s }} {{ 'World' in s }} {{ 1 in l }} {{ 9 not in l }} {{ 'b' in d }} {{ 'x' in missing }} {{ true in [1] }} {{ '' in empty }}
{{ 1 in 'a' }}
{{ 1 in 5 }}
{{ 'a' in none }}
{{ missing in 'abc' }}
{{ t and n }} {{ no and n }} {{ no or s }} {{ n or s }} {{ empty or nil }} {{ nil and missing }} {{ missing or 'z' }}
{{ 'yes' if t else 'no' }} {{ 'yes' if no else 'no' }} [{{ 'yes' if no }}] {{ 1 if no else 2 if no else 3 }}
{{ ('a' if no).b }}
{{ s[0] }} {{ s[-1] }} {{ uni[0] }} {{ uni[8] }} {{ uni[-2] }} [{{ s[100] }}] {{ l[1] }} {{ l[-1] }} [{{ l[9] }}] {{ l['x'] }}
{{ s[1:4] }} {{ s[::-1] }} {{ s[:-3] }} {{ s[-3:] }} {{ s[::2] }} {{ l[1:] }} {{ l[::-1] }} {{ l[5:1] }} {{ l[-2:] }} {{ l[:100] }} {{ uni[4:10] }} {{ l[3:0:-2] }}
{{ s['a':] }}
{{ l[::0] }}
{{ nil[1:] }}
{{ missing|dictsort }}
{{ missing|indent }}
{{ l|indent }}
{{ nil|map("upper")|list }} {{ missing|selectattr("a")|list }} {{ 0|select("odd")|list }}
{{ n|map("upper") is iterable }}
{{ n|map("upper")|list }}
{{ l|select("odd")|reverse }}
{{ l|truncate(5) }}
{{ missing|abs }}
{{ missing|round }}
{{ "" % l }}{{ "%s" % "" }}
{{ l[1:2].x }}
{{ d.b }} {{ d['b'] }} {{ d.a.x }} {{ d['a']['x'] }} {{ d.nothing }} {{ d['nothing'] }} {{ d['items'] }} {{ d.items is callable }}
{{ d.nothing.more }}
{{ d['nothing']['more'] }}
{{ missing.x }}
{{ missing['x'] }}
{{ none.x }} {{ n.x }} {{ s.nothing }} {{ l.nothing }}
{{ none.x.y }}
{{ d.items() }} {{ d.keys() }} {{ d.values() }} {{ d.get('b') }} {{ d.get('q') }} {{ d.get('q', 5) }} {{ d.get('a').x }}
{{ d.items()|list }} {{ d.keys()|list }} {{ d|list }} {{ d|length }} {{ d.items()|length }}
{{ d.pop('b') }}
{{ d.update({}) }}
{{ l.append(1) }}
{{ l.sort() }}
{{ l.index(2) }} {{ l.count(1) }} {{ (1, 2, 1).count(1) }}
{{ l.index(99) }}
{{ s.__class__ }}
{{ s.__class__.__mro__ }}
{{ ''.__class__.__mro__[1].__subclasses__() }}
{{ d.__class__ }}|{{ l.__init__ }}
{{ d.__init__.__globals__ }}
{{ raise_exception.__globals__ }}
{{ cycler.__init__.__globals__ }}
{{ s() }}
{{ missing() }}
{{ none() }}
{{ d() }}
{{ s.upper() }} {{ s.lower() }} {{ s.title() }} {{ s.capitalize() }} {{ s.swapcase() }} {{ uni.upper() }} {{ uni.lower() }} {{ 'ǆ'.title() }} {{ "they're".title() }}
[{{ '  x '.strip() }}] [{{ '  x '.lstrip() }}] [{{ '  x '.rstrip() }}] {{ 'xxaxx'.strip('x') }} {{ 'abcba'.lstrip('ab') }} [{{ '\x1f\u3000x\x85'.strip() }}]
{{ s.startswith('Hell') }} {{ s.endswith('d') }} {{ s.startswith(('x', 'H')) }} {{ s.endswith(()) }}
{{ s.startswith(1) }}
{{ s.find('o') }} {{ s.rfind('o') }} {{ s.find('z') }} {{ s.index('W') }} {{ uni.find('日') }} {{ s.count('l') }} {{ 'aaa'.count('') }}
{{ s.index('z') }}
{{ s.replace('l', 'L') }} {{ s.replace('l', 'L', 1) }} {{ 'aaa'.replace('', '-') }} {{ s.replace('zz', 'y') }}
{{ s.replace(1, 2) }}
{{ s.split(', ') }} {{ ' a  b c '.split() }} {{ 'a,b,,c'.split(',') }} {{ 'a,b,c'.split(',', 1) }} {{ ''.split() }} {{ ''.split(',') }} {{ ' a b  c '.split(None, 1) }} {{ 'a b'.split(maxsplit=0) }}
{{ 'a,b,c'.rsplit(',', 1) }} {{ ' a b  c '.rsplit(None, 1) }} {{ 'a,b'.rsplit(',') }} {{ ''.rsplit() }} {{ 'a b c'.rsplit() }}
{{ s.split('') }}
{{ multi.splitlines() }} {{ multi.splitlines(true) }} {{ ''.splitlines() }} {{ 'a\x0bb\u2028c'.splitlines() }}
{{ 'k=v=w'.partition('=') }} {{ 'k=v=w'.rpartition('=') }} {{ 'kv'.partition('=') }} {{ 'kv'.rpartition('=') }}
{{ ', '.join(words) }} {{ ''.join([]) }} {{ '-'.join('abc') }}
{{ ', '.join(l) }}
[{{ 'x'.ljust(4) }}] [{{ 'x'.rjust(4, '.') }}] [{{ 'x'.center(4, '*') }}] [{{ 'ab'.center(5, '*') }}] {{ '-7'.zfill(4) }} {{ '7'.zfill(1) }}
{{ 'abc'.isalpha() }} {{ '12'.isdigit() }} {{ 'a1'.isalnum() }} {{ ' \t'.isspace() }} {{ ''.isalpha() }} {{ 'Ab'.isupper() }} {{ 'AB1'.isupper() }} {{ 'ab'.islower() }} {{ '1'.islower() }} {{ 'é'.isascii() }} {{ '½'.isnumeric() }} {{ '½'.isdecimal() }}
{{ 'abc'.removeprefix('a') }} {{ 'abc'.removesuffix('c') }} {{ 'abc'.removeprefix('x') }} {{ 'ß'.casefold() }}
{{ '{} and {}'.format(1, 'x') }} {{ '{1} {0} {k}'.format(1, 2, k='v') }} {{ '{{}}{}'.format(1) }} {{ '{:>5}|{:<5}|{:^5}|{:05d}|{:.2f}|{:x}'.format('a', 'b', 'c', 42, 3.14159, 255) }}
{{ '{}'.format() }}
{{ '{x}'.format() }}
{{ '{'.format() }}
{{ '%s is %d or %5.2f %% %r %x' % ('a', 3, 2.5, 'q', 255) }} {{ '%s' % l }} {{ '%s' % 'a' }} {{ '%(k)s' % {'k': 1} }} {{ '[%5s] [%-5s] [%05d] [%+d]' % ('a', 'b', 42, 7) }}
{{ '%d' % 'a' }}
{{ '%s %s' % 'a' }}
{{ '%s' % ('a', 'b') }}
{{ s|length }} {{ uni|length }} {{ l|length }} {{ d|count }} {{ missing|length }} {{ empty|length }} {{ range(5)|length }}
{{ n|length }}
{{ none|length }}
{{ l|map('string')|length }}
{{ s|upper }} {{ s|lower }} {{ 'foo-bar (baz)'|title }} {{ 'hELLO wORLD'|capitalize }} {{ "they're"|title }} {{ 5|upper }} {{ missing|upper }}
[{{ '  a '|trim }}] [{{ 'xax'|trim('x') }}] [{{ missing|trim }}] [{{ none|trim }}] [{{ 5|trim }}]
{{ missing|default('x') }} {{ none|default('x') }} {{ none|default('x', true) }} {{ ''|d('y', boolean=true) }} {{ 0|default(5) }} [{{ missing|default }}]
{{ words|join(', ') }} {{ l|join }} {{ l|join('-') }} {{ msgs|join(',', attribute='role') }} {{ missing|join(',') }} {{ 'abc'|join('.') }} {{ [none, true]|join('/') }}
{{ n|join(',') }}
{{ l|first }} {{ l|last }} {{ 'abc'|first }} {{ 'abc'|last }} [{{ []|first }}] [{{ []|last }}] {{ d|first }} {{ d|last }}
{{ []|first.x }}
{{ ([]|first).x }}
{{ l|map('string')|last }}
{{ l|sort }} {{ l|sort(reverse=true) }} {{ words|sort }} {{ words|sort(case_sensitive=true) }} {{ msgs[1:3]|sort(attribute='n')|map(attribute='n')|list }} {{ 'bca'|sort }}
{{ [1, 'a']|sort }}
{{ l|unique|list }} {{ words|unique|list }} {{ words|unique(case_sensitive=true)|list }}
{{ l|reverse|list }} {{ 'abc'|reverse }} {{ l|sum }} {{ [1.5, 2]|sum }} {{ msgs[1:3]|sum(attribute='n') }} {{ l|sum(start=10) }} {{ l|min }} {{ l|max }} {{ words|min }} {{ words|max }} [{{ []|min }}]
{{ ['a']|sum }}
{{ l|list }} {{ 'abc'|list }} {{ d|list }} {{ missing|list }} {{ range(3)|list }} {{ range(2, 10, 3)|list }} {{ range(5, 0, -2)|list }} {{ range(3) }}
{{ none|list }}
{{ l|map('string')|list }} {{ words|map('upper')|join(' ') }} {{ msgs|map(attribute='role')|list }} {{ msgs|map(attribute='n', default=0)|list }} {{ nested|map('first')|list }} {{ nested|map(attribute='1.0')|list }} {{ words|map('replace', 'p', 'q')|list }}
{{ l|map|list }}
{{ l|map('nofilter')|list }}
{{ l|select('odd')|list }} {{ l|reject('odd')|list }} {{ [0, 1, '', 'a', none]|select|list }} {{ [0, 1, none]|reject|list }} {{ l|select('gt', 1)|list }} {{ l|select('>', 1)|list }} {{ l|select('in', [1])|list }}
{{ msgs|selectattr('role', 'equalto', 'user')|map(attribute='content')|list }} {{ msgs|selectattr('n')|list|length }} {{ msgs|rejectattr('n', 'defined')|map(attribute='role')|list }} {{ msgs|selectattr('role', '==', 'system')|list }}
{% if msgs|selectattr('role', 'equalto', 'nobody') %}generator is true{% endif %}
{{ msgs|selectattr('role', 'equalto', 'nobody')|first is undefined }}
{{ d|items|list }} {{ d|dictsort }} {{ {'b': 2, 'A': 1}|dictsort }} {{ {'b': 1, 'a': 2}|dictsort(by='value') }} {{ {'b': 1, 'a': 2}|dictsort(false, 'key', true) }} {{ missing|items|list }}
{{ l|items|list }}
{{ l|batch(2)|list }} {{ l|batch(3, 'x')|list }} {{ l|slice(3)|list }} {{ l|slice(3, 'x')|list }}
{% for g, items in msgs|groupby('role') %}{{ g }}={{ items|length }} {% endfor %}{% for g in msgs|groupby('role') %}{{ g.grouper }}{{ g.list|length }}{% endfor %}
{{ n|string ~ '' }} {{ '5'|int + 1 }} {{ '5.7'|int }} {{ 'x'|int }} {{ 'x'|int(9) }} {{ '0x1f'|int(base=16) }} {{ 'ff'|int(0, 16) }} {{ f|int }} {{ t|int }} {{ none|int }} {{ '1_000'|int }} {{ ' 5 '|int }} {{ '-7'|int }} {{ -2.7|int }}
{{ '2.5'|float }} {{ 'x'|float }} {{ n|float }} {{ 'inf'|float }} {{ '1e3'|float }} {{ none|float(1.5) }}
{{ missing|int }}
{{ 2.5|round }} {{ 3.5|round }} {{ 2.567|round(2) }} {{ 7|round }} {{ 2.1|round(0, 'ceil') }} {{ 2.9|round(method='floor') }} {{ 2.675|round(2) }} {{ 1234.5|round(-2) }} {{ -2.5|round }} {{ 42.55|round(1, 'floor') }}
{{ neg|abs }} {{ -2.5|abs }} {{ t|abs }}
{{ 'a'|abs }}
{{ s|replace('l', 'L') }} {{ s|replace('l', 'L', 1) }} {{ 123|replace('2', 'x') }} {{ s|replace('', '-') }}
{{ multi|indent }} {{ multi|indent(2, true) }} {{ multi|indent(2, blank=true) }} {{ multi|indent('> ') }} {{ ''|indent }}|
{{ 'x'|center(5) }}| {{ s|truncate(8) }} {{ s|truncate(8, true) }} {{ s|truncate(8, leeway=0) }} {{ s|truncate(8, true, '!', 0) }} {{ s|truncate(5, end='', leeway=0) }} {{ s|wordcount }} {{ 'a-b c_d é'|wordcount }}
{{ '<a href="x">&\'</a>'|e }} {{ '<'|escape|escape }} {{ '<'|safe }} {{ '<b>' + ('<i>'|safe) }} {{ ('<i>'|safe) + '<b>' }} {{ '<b>' ~ ('<i>'|safe) }} {{ '<'|e|forceescape }} {{ '<'|safe|upper is string }} {{ ('<'|safe) is escaped }}
{{ d|tojson }} {{ s|tojson }} {{ uni|tojson }} {{ uni|tojson(ensure_ascii=true) }} {{ none|tojson }} {{ [true, 1.0, 1e20, 1e-7, 5]|tojson }} {{ '\x00\x1f\x7f\u2028/'|tojson }} {{ (1, 2)|tojson }} {{ {}|tojson }} {{ []|tojson }} {{ big|tojson }} {{ {1: 2, none: 3, true: 4, 2.5: 5}|tojson }}
{{ d|tojson(indent=2) }} {{ []|tojson(indent=2) }} {{ [1,[2]]|tojson(indent=0) }} {{ d|tojson(indent='--') }} {{ d|tojson(separators=(',', ':')) }} {{ {'b': 1, 'a': 2}|tojson(sort_keys=true) }} {{ [1,2]|tojson(indent=1, separators=(';', '=')) }}
{{ missing|tojson }}
{{ [missing]|tojson }}
{{ namespace(a=1)|tojson }}
{{ {(1, 2): 3}|tojson }}
{{ l|map('string')|tojson }}
{{ d.items()|tojson }}
{{ 'a'|attr('upper') is callable }} [{{ d|attr('b') }}] {{ namespace(a=1)|attr('a') }}
{{ '%s-%s'|format(1, 'x') }} {{ '%(a)s'|format(a=5) }}
{{ 'x'|nosuchfilter }}
{{ 'x' is nosuchtest }}
{% if t %}{{ 'x'|alsonosuch }}{% endif %}
{{ s is string }} {{ n is string }} {{ n is number }} {{ f is number }} {{ t is number }} {{ n is integer }} {{ t is integer }} {{ f is integer }} {{ f is float }} {{ t is boolean }} {{ n is boolean }} {{ big is integer }} {{ big is number }}
{{ d is mapping }} {{ l is mapping }} {{ l is sequence }} {{ s is sequence }} {{ d is sequence }} {{ n is sequence }} {{ l is iterable }} {{ s is iterable }} {{ n is iterable }} {{ none is iterable }} {{ missing is iterable }} {{ d.items() is sequence }} {{ l|map('string') is iterable }}
{{ s is defined }} {{ missing is defined }} {{ missing is undefined }} {{ d.x is defined }} {{ d.b is defined }} {{ none is none }} {{ missing is none }} {{ nil is none }} {{ nil is not none }} {{ not nil is none }}
{{ t is true }} {{ n is true }} {{ no is false }} {{ 0 is false }} {{ 3 is odd }} {{ 4 is even }} {{ 9 is divisibleby 3 }} {{ 9 is divisibleby(4) }} {{ 1 is sameas true }} {{ true is sameas true }} {{ none is sameas none }}
{{ 1 is eq 1 }} {{ 1 is equalto(2) }} {{ 2 is gt 1 }} {{ 2 is lessthan 1 }} {{ 1 is in [1] }} {{ 'a' is in 'abc' }} {{ 2 is ge 2 }} {{ 2 is ne 2 }}
{{ 'abc' is lower }} {{ 'ABC' is upper }} {{ 'upper' is filter }} {{ 'nope' is filter }} {{ 'odd' is test }} {{ range is callable }} {{ s is callable }} {{ missing is callable }}
{{ 'a' is odd }}
{{ 1.5 is odd }}
{{ n is defined and n > 5 or no }} {{ 'a' if n is odd else 'b' }} {{ [1, 2] is iterable and 'x' is string }}
{{ n is string is string }}
{% if n > 5 %}big{% elif n > 3 %}mid{% else %}small{% endif %} {% if missing %}a{% elif none %}b{% endif %} {% if [] %}x{% else %}y{% endif %}
{% for x in l %}{{ x }}{% if not loop.last %},{% endif %}{% endfor %} {% for x in [] %}x{% else %}none{% endfor %} {% for x in missing %}x{% else %}none{% endfor %}
{% for x in n %}{% endfor %}
{% for x in none %}{% endfor %}
{% for x in 'abc' %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.cycle('p', 'q') }}{{ loop.previtem }}{{ loop.nextitem }};{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %} {% for k in d %}{{ k }}{% endfor %} {% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %} {% for (a, b) in [[1, 2]] %}{{ a }}{{ b }}{% endfor %}
{% for a, b in [(1, 2, 3)] %}{% endfor %}
{% for a, b in [1] %}{% endfor %}
{% for x in l if x > 1 %}{{ loop.index }}:{{ x }}/{{ loop.length }} {% endfor %} {% for x in l if x > 9 %}x{% else %}none{% endfor %}
{% for x in 1, 2, 3 %}{{ x }}{% endfor %} {% for x in (1,) %}{{ x }}{% endfor %}
{% for x in l %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% endfor %} {% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %} {% for x in l %}{% for y in l %}{% if y == 2 %}{% break %}{% endif %}{{ y }}{% endfor %};{% endfor %}
{% break %}
{% for x in l %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}
{% for x in l %}{{ loop.changed(x > 1) }} {% endfor %}{% for x in l %}{% set outer = loop %}{% for y in [1] %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}
{% for x in nested recursive %}{% if x is number %}{{ x }}{% else %}[{{ loop(x) }}]{% endif %}{{ loop.depth }}{% endfor %}
{% for x in l %}{{ loop(x) }}{% endfor %}
{% set x = 1 %}{% for i in l %}{{ x }}{% set x = x + 1 %}{{ x }} {% endfor %}{{ x }} {% if t %}{% set y = 5 %}{% endif %}{{ y }}
{% for i in [1, 2] %}{% if loop.first %}{% set z = 'first' %}{% endif %}[{{ z }}]{% endfor %}[{{ z }}]
{% set ns = namespace(c=0, l=[]) %}{% for i in l %}{% set ns.c = ns.c + i %}{% set ns.l = ns.l + [i] %}{% endfor %}{{ ns.c }} {{ ns.l }} [{{ ns.nothing }}]
{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }} {{ ns }} {{ dict(a=1, b=2) }} {{ dict({'x': 1}, y=2) }} {{ dict([('k', 'v')]) }}
{% set d.x = 1 %}
{% set undefinedns.x = 1 %}
{% set a, b = 1, 2 %}{{ a }}{{ b }} {% set a, b = [3, 4] %}{{ a }}{{ b }} {% set c = 1, 2 %}{{ c }} {% set (e, g) = (5, 6) %}{{ e }}{{ g }}
{% set a, b = 1, 2, 3 %}
{% set x %}captured {{ n }}{% endset %}[{{ x }}] {% set x | upper %}captured {{ n }}{% endset %}[{{ x }}] {% set x | replace('a', 'b') | upper %}aa{% endset %}{{ x }}
{% set true = 1 %}
{% set 1 = 2 %}
{% macro m(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }};{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(1, c='y') }}{{ m() }}{{ m(b=5, a=6) }}{{ m.name }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}
{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, k='v') }}
{% macro m(x, y=x) %}{{ x }}{{ y }}{% endmacro %}{{ m(1) }}{{ m(1, 2) }}
{% macro fact(k) %}{% if k <= 1 %}1{% else %}{{ k * (fact(k - 1)|int) }}{% endif %}{% endmacro %}{{ fact(10) }}
{% macro m() %}{{ later }}{% endmacro %}{% set later = 'seen' %}{{ m() }} {% macro loc() %}{% set q = 1 %}{{ q }}{% endmacro %}{{ loc() }}[{{ q }}]
{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}body {{ n }}{% endcall %} {% macro m2() %}{{ caller(1, 2) }}{% endmacro %}{% call(a, b) m2() %}{{ a }}+{{ b }}{% endcall %}
{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}
{% macro m() %}x{% endmacro %}{% call m() %}y{% endcall %}
{% call 5 %}{% endcall %}
{% filter upper %}abc {{ s }}{% endfilter %} {% filter replace('a', 'b')|upper %}aaa{% endfilter %}
{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}[{{ a }}] {% with %}{% set w = 1 %}{{ w }}{% endwith %}[{{ w }}] {% with a = n, b = a %}[{{ b }}]{% endwith %}
{% generation %}gen {{ n }}{% set gg = 1 %}{% endgeneration %}[{{ gg }}]
{% raw %}{{ not }} {% evaluated %}{# kept #}{% endraw %} {%- raw -%}  {{ x }}  {%- endraw -%}  end
a{# comment #}b {#- trimmed -#} c{# multi
line #}d
{{ cycler('a', 'b').next() }} {% set c = cycler(1, 2) %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }} {% set j = joiner('; ') %}{{ j() }}a{{ j() }}b{{ j() }}c
{{ range(100001) }}
{{ range() }}
{{ range(1, 2, 0) }}
{{ raise_exception('boom ' ~ n) }}
{% if no %}{{ raise_exception('not reached') }}{% endif %}fine
{{ strftime_now('%d %b %Y %H:%M:%S %A %B %-d %j %p %I %y %% %m/%d') }} {{ strftime_now('%Y-%m-%d') }}
{% include 'x' %}
{% import 'x' as y %}
{% from 'x' import y %}
{% extends 'x' %}
{% nosuchtag %}
{{ 1 +
{{ 1 + }}
{{ (1 }}
{{ [1, 2 }}
{{ } }}
{% if %}{% endif %}
{% if t %}
{% endif %}
{% for x in l %}{% endif %}
{% for x %}{% endfor %}
{{ 'unclosed }}
{# unclosed
{% raw %}unclosed
{{ a b }}
{{ "a\tb\x41\u00e9\101\\ \' \q" }} {{ 'a\
b' }}
{{ '\xZZ' }}
{{ ! }}
{{ 1 ? 2 }}
{{ {'a': {'b': 1}} }} {{ {'a': 1, } }} {{ [1, 2, ] }} {{ (1, 2, ) }} {{ () }} {{ (1) }} {{ {} }}{{ {1: 'a', 'k': [1]}[1] }}
{{ {[1]: 2} }}
{{ {(1, 2): 3} }} {{ {(1, 2): 3}[(1, 2)] }} {{ 1 if {} else 2 }}
{{ l.0 }} {{ nested.1.0 }} {{ nested.1.1.0 }}
{{ m(*l) }}
{% macro v() %}{{ varargs|join(',') }}{{ kwargs }}{% endmacro %}{{ v(*l) }} {{ v(1, *[2, 3]) }} {{ v(**{'a': 1}) }} {{ v(1, a=2, **{'b': 3}) }}
{{ d.c[4] }} {{ d.c }} {{ ["it's", 'say "x"', "both ' and \""] }} {{ ['\n\t\\\x00é\u200b'] }}
{{ [none, true, 1.0, 'x', (1,), {}, missing] }} {{ (none,) }}
{{ (s, n) }} {{ s, n }} {{ 1, }}
{{ l|sort|reverse|list|join('')|int + 1 }} {{ (l|length - 1) }} {{ l|length - 1 }} {{ 'a'|upper ~ 'b'|upper }} {{ -1|abs }} {{ (-1)|abs }} {{ 2|string|int * 3 }}
{{ s is string and s|length > 3 and not (s == 'x') }} {{ not s is string }} {{ 1 if not missing else 2 }}
{{ loop }}
{{ msgs[0].role }} {{ msgs[-1]['content'] }} {{ msgs[1:]|length }} {{ msgs[::-1][0].content }} {{ msgs|length }} {{ (msgs|last).role }}
{{ msgs[5].role }}
{{ msgs[5] is defined }} {{ msgs[1].n is defined }} {{ msgs[0].n is defined }} {{ msgs[2].content is none }} {{ msgs[2].content is not string }}
{{ msgs[2].content + 'x' }}
{{ msgs[0].content.split('</think>')[-1].lstrip('\n') }} {{ 'a</think>b'.split('</think>')[0].rstrip('\n').split('<think>')[-1] }}
{{ 'x' * 5 ~ '-' * 3 }} {{ 10 - 2 - 3 }} {{ 2 * 3 % 4 }} {{ 100 / 10 / 2 }} {{ 1 ~ 2 }}
{{ 1 ~ 2 + 3 }}
{{ 1 + 2 ~ 3 }}
{{ 5 in [1, 5] and 3 not in [1] }} {{ not 5 in [1] }} {{ 1 in [1] == true }}
{{ true and false or true }} {{ (true and false) or true }} {{ True }} {{ None }} {{ False }}
{{ 9223372036854775807 }} {{ -9223372036854775807 - 1 }}
"""

SPACES = [
    "a\n{% if true %}\nb\n{% endif %}\nc",
    "a\n  {% if true %}  \n  b\n  {% endif %}  \nc",
    "a\n  {%- if true -%}\n  b\n  {%- endif -%}\n  c",
    "a\n  {%+ if true +%}\n  b\n  {%+ endif +%}\n  c",
    "  {{ 1 }}  \n  {{- 2 -}}  \n  {{ 3 }}",
    "  {# c #}\n  {#- c -#}\n  {#+ c +#}\n  x {# c #}\n",
    "\n\n{% set x = 1 %}\n\n{{ x }}\n\n",
    "x\r\ny\rz\n",
    "x {% if true %}\n y{% endif %} z\n",
    "\t{% if true %}\t\n\t{% endif %}\t",
    "{% for i in [1,2] %}\n  {{ i }}\n{% endfor %}\n",
    "{% for i in [1,2] -%}\n  {{ i }}\n{%- endfor %}\n",
    "a {%- raw %} b {% endraw -%} c",
    "a\n  {% raw %}\n b \n  {% endraw %}\n c",
    "{% if true %}{% endif %}\n{# #}\n{{ 1 }}\n{{ 2 }}\n",
    "{{ '\n' }}|{{ \"a\nb\" }}",
    "",
    "\n",
    "\n\n",
    " {%- if true %}x{% endif -%} \u00a0\u3000 y",
    "{{ {'a': {'b': 2}}['a']['b'] }}}}",
    "{ {{ 1 }} } {% raw %}{{% endraw %} {{ '{%' }} {{ '}}' }}",
    "{%if true%}x{%endif%}{{1}}{#c#}",
    "  {% macro m() %}\n  m\n  {% endmacro %}\n[{{ m() }}]",
    "  {% set x %}\n  block\n  {% endset %}\n[{{ x }}]",
    "a{% if true %}  {% if true %}\n  x{% endif %}\n  {% endif %}b",
]


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


def templates():
    """The templates of CASES: one a line, unless a line only goes on with one that is open."""
    lines = CASES.strip("\n").split("\n")
    joined = {"a{# comment #}b {#- trimmed -#} c{# multi": 1}
    i = 0
    while i < len(lines):
        extra = joined.get(lines[i], 1 if lines[i].endswith("\\") else 0)
        yield "\n".join(lines[i : i + 1 + extra])
        i += 1 + extra
    yield from SPACES


def main():
    env, cases = environment(), []
    for template in templates():
        case = {"template": template}
        try:
            case["text"] = env.from_string(template).render(**copy.deepcopy(VARIABLES))
        except Exception as error:  # the kind is the result
            case["error"] = type(error).__name__
        cases.append(case)
    out = {"variables": VARIABLES, "cases": cases}
    path = Path(__file__).parent / "cases.json"
    path.write_text(json.dumps(out, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(len(cases), "cases,", sum("error" in c for c in cases), "errors")


if __name__ == "__main__":
    main()
