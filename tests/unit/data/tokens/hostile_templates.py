"""Templates that mean harm: what each does, by name. None may take long, take memory, or raise anything of its own."""

from __future__ import annotations

_DOUBLED = "".join("{% set a = a {op} a %}" for _ in range(60))


def _doubled(start: str, operator: str) -> str:
    return f"{{% set a = {start} %}}" + _DOUBLED.replace("{op}", operator) + "{{ a }}"


def _steps(line: str, count: int = 60, start: str = "'x'") -> str:
    return f"{{% set a = {start} %}}" + line * count + "{{ a }}"


# A template that is refused when it is opened or rendered; TemplateError is the only way.
HOSTILE: dict[str, str] = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}"
    "{% endfor %}{% endfor %}",
    "loops of messages": "{% for a in range(99999) %}{% for b in messages %}{% for c in range(99999) %}{% endfor %}"
    "{% endfor %}{% endfor %}",
    "a loop over what is mapped": "{% for a in range(99999) %}{% for b in range(99999)|map('string') %}{% endfor %}"
    "{% endfor %}",
    "a macro that calls itself twice": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
    "{{ f(45) }}",
    "a macro that calls itself for ever": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a recursive loop": "{% for x in [messages] recursive %}{{ loop([messages]) }}{% endfor %}",
    "a recursive loop, twice": "{% for x in range(2) recursive %}{{ loop(range(2)) }}{% endfor %}",
    "a power": "{{ 10 ** (10 ** 10) }}",
    "a power of a variable": "{{ messages|length ** 0 + 9 ** (9 ** (8 + messages|length)) }}",
    "a power in steps": _steps("{% set a = a * a %}", start="9999"),
    "a text of a gigabyte": "{{ messages[0].content * 10**9 }}",
    "a constant of a gigabyte": "{{ 'x' * 1000000000 }}",
    "a list of a gigabyte": "{{ ([messages] * 1000000000)|length }}",
    "doubled by +": _doubled("'x'", "+"),
    "doubled by ~": _doubled("'x'", "~"),
    "a list doubled by +": _doubled("[1]", "+"),
    "doubled by a block": _steps("{% set a %}{{ a }}{{ a }}{% endset %}"),
    "doubled by a filter block": _steps("{% set a %}{% filter upper %}{{ a }}{{ a }}{% endfilter %}{% endset %}"),
    "doubled by join": _steps("{% set a = [a, a]|join %}"),
    "doubled by the method join": _steps("{% set a = ''.join([a, a]) %}"),
    "joined with itself": _steps("{% set a = a.join([a, a, a]) %}"),
    "joined attributes": _steps("{% set a = [{'k': a}, {'k': a}]|join('', attribute='k') %}"),
    "doubled by replace": _steps("{% set a = a|replace('x', 'xx') %}"),
    "doubled by the method replace": _steps("{% set a = a.replace('', 'xx') %}"),
    "doubled by %": _steps("{% set a = '%s%s' % (a, a) %}"),
    "doubled by % of a mapping": _steps("{% set a = '%(k)s%(k)s' % {'k': a} %}"),
    "doubled by format": _steps("{% set a = '%s%s'|format(a, a) %}"),
    "doubled by the method format": _steps("{% set a = '{0}{0}'.format(a) %}"),
    "doubled by format_map": _steps("{% set a = '{k}{k}'.format_map({'k': a}) %}"),
    "doubled by a macro": "{% macro f(x) %}{{ x }}{{ x }}{% endmacro %}" + _steps("{% set a = f(a) %}"),
    "doubled by caller": "{% macro f() %}{{ caller() }}{{ caller() }}{% endmacro %}"
    + "{% call f() %}" * 18
    + "x" * 100
    + "{% endcall %}" * 18,
    "doubled by tojson": _steps("{% set a = a|tojson %}", start="'\"'"),
    "a tree of lists": _steps("{% set a = [a, a] %}"),
    "a tree of lists, compared": _steps("{% set a = [a, a] %}")
    + _steps("{% set b = [b, b] %}").replace("a =", "b =")
    + "{{ a == b }}",
    "a tree of dicts": _steps("{% set a = {'k': a, 'l': a} %}"),
    "a tree of dict calls": _steps("{% set a = dict(k=a, l=a) %}"),
    "a tree of fromkeys": _steps("{% set a = dict.fromkeys([1, 2], a) %}"),
    "a tree of namespaces": _steps("{% set a = namespace(k=a, l=a) %}"),
    "a tree of defaults": _steps("{% set a = [n, n]|map('default', a)|list %}"),
    "a tree of batches": _steps("{% set a = [1]|batch(3, a)|list %}"),
    "a tree in json": _steps("{% set a = [a, a] %}", 25) + "{{ a|tojson }}",
    "a list in itself": "{% set n = namespace() %}{% set n.a = n %}{{ n }}",
    "lists many levels deep": _steps("{% set a = [a] %}", 3000),
    "padded by center": "{{ 'x'|center(1000000000) }}",
    "padded by ljust": "{{ messages[0].content.ljust(1000000000) }}",
    "padded by zfill": "{{ '1'.zfill(1000000000) }}",
    "padded by %": "{{ '%1000000000d' % 1 }}",
    "padded by % with a star": "{{ '%*d' % (1000000000, 1) }}",
    "padded by % of a name with brackets": "{{ '%((a))1000000000d' % {'(a)': 1} }}",
    "padded by % with a precision": "{{ '%.1000000000f' % 1.5 }}",
    "a number of hexadecimal digits": "{% set a = 0x" + "f" * 200000 + " %}{{ a // 3 }}",
    "a number of hexadecimal digits, read": "{% set a = ('f' * 4000000)|int(base=16) %}{{ (a * a) // a }}",
    "steps that are given back": "{% for a in [messages]|map('steps of a loop', -1000000000) %}{% endfor %}"
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "padded by the filter format": "{{ '%01000000000d'|format(1) }}",
    "padded by the method format": "{{ '{:1000000000}'.format(1) }}",
    "padded by format with a nested width": "{{ '{:{}}'.format(1, 1000000000) }}",
    "padded by format with a hidden width": "{{ '{0:>{1}}'.format('x', 1000000000) }}",
    "padded by indent": "{{ 'a\nb'|indent(1000000000) }}",
    "padded by json": "{{ messages|tojson(indent=1000000000) }}",
    "padded by a date": "{{ strftime_now('%1000000000d') }}",
    "a long date": "{{ strftime_now('%A' * 100000) }}",
    "rounded far": "{{ 1.5|round(1000000000, 'ceil') }}",
    "batches": "{{ [1]|batch(1000000000, 0)|list }}",
    "slices": "{{ [1]|slice(1000000000)|list }}",
    "lists added up": "{{ ([[1]] * 50000)|sum(start=[])|length }}",
    "translated": "{{ 'aaaa'.translate({97: 'b' * 1000000}) }}",
    "bytes": "{{ 'aaaa'.encode() * 10 }}",
    "bytes of a number": "{{ (1).to_bytes(1000000000, 'big') }}",
    "tabs": "{{ '\t'.expandtabs(1000000000) }}",
    "lipsum": "{{ lipsum(n=100000) }}",
    "an error of 100 MB": "{{ raise_exception('x' * 100000000) }}",
    "an error of a megabyte": "{{ raise_exception('x' * 1000000) }}",
    "an error that is no text": "{{ raise_exception(messages) }}",
    "5000 digits": "{{ " + "1" * 5000 + " }}",
    "5000 digits, printed": "{{ 9 ** 4999 }}",
    "5000 digits, in json": "{{ (9 ** 4999)|tojson }}",
    "break outside of a loop": "{% break %}",
    "continue outside of a loop": "{% continue %}",
    "break in a macro in a loop": "{% for a in [1] %}{% macro m() %}{% break %}{% endmacro %}{{ m() }}{% endfor %}",
    "blocks 30 deep": "{% for a in [1] %}" * 30 + "{% endfor %}" * 30,
    "blocks 120 deep": "{% if messages %}" * 120 + "{% endif %}" * 120,
    "brackets 140 deep": "{{ " + "[" * 140 + "]" * 140 + " }}",
    "brackets 5000 deep": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "not, 5000 times": "{{ " + "not " * 5000 + "1 }}",
    "a sum of 5000": "{{ " + "1 + " * 5000 + "1 }}",
    "a chain of filters": "{{ 1" + "|abs" * 5000 + " }}",
    "a chain of attributes": "{{ messages" + ".a" * 5000 + " }}",
    "a name twice in a macro": "{% macro f(a, a) %}{% endmacro %}",
    "a keyword twice": "{{ dict(a=1, a=2) }}",
    "an assignment to a keyword": "{% set None = 1 %}",
    "an assignment to an attribute": "{% set messages.a = 1 %}",
    "an include": "{% include 'x' %}",
    "an import": "{% import messages as m %}",
    "extends": "{% extends 'x' %}",
    "a block twice": "{% block a %}{% endblock %}{% block a %}{% endblock %}",
    "an unknown filter": "{{ messages|nothing }}",
    "an unknown test": "{{ messages is nothing }}",
    "half a character in a name": "{{ \ud800 }}",
    "generation in generation, unclosed": "{% generation %}{% generation %}{% endgeneration %}",
    "a source of a megabyte": "x" * (1 << 20),
    "super": "{% block a %}{{ super() }}{% endblock %}",
    "a call of a number": "{{ 1(2) }}",
    "a division": "{{ 1 // 0 }}",
    "a float": "{{ 1e308 ** 2 }}",
    "a key that is no key": "{{ {[]: 1} }}",
    "the sandbox": "{{ ''.__class__.__mro__ }}",
    "ranges": "{{ range(10 ** 12)|list }}",
    "the sum of mapped loops": "{% for a in range(99999) %}{% set b = range(99999)|map('string')|list %}{% endfor %}",
    "longer and longer": "{% set n = namespace(a='x' * 1000) %}"
    "{% for b in range(99999) %}{% set n.a = n.a ~ n.a[:999] %}"
    "{% endfor %}",
}

# Templates that do a lot and end all the same; no error is wanted of them, only an end.
LABORIOUS: dict[str, str] = {
    "doubled by urlencode": _steps("{% set a = a|urlencode %}", start="'%'"),
    "doubled by escape": _steps("{% set a = (a|forceescape)|string %}", start="'&'"),
    "sought in a text": "{% set a = 'a' * 1000000 %}{% set b = 'a' * 500000 ~ 'b' %}"
    + "{% if b in a %}{% endif %}" * 2000,
    "compared texts": "{% set a = 'a' * 1000000 %}{% set b = 'a' * 999999 ~ 'b' %}"
    + "{% if a == b %}{% endif %}" * 5000,
    "sliced texts": "{% set a = 'a' * 1000000 %}" + "{% set b = a[1:] %}" * 5000,
    "text in upper case": "{% set a = 'a' * 1000000 %}" + "{% set b = a|upper %}" * 5000,
    "split texts": "{% set a = 'a,' * 500000 %}" + "{% set b = a.split(',') %}" * 1000,
    "sorted": "{% set a = range(99999)|list %}" + "{% set b = a|sort(reverse=true) %}" * 1000,
    "counted": "{% set a = 'a' * 1000000 %}{% for b in range(9999) %}{% set c = a.count('b') %}{% endfor %}",
    "kept texts": "{% set a = 'a' * 1000000 %}" + "".join(f"{{% set b{i} = a ~ {i} %}}" for i in range(3000)),
}
