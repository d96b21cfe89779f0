"""Renders a table of template constructs with jinja2, set up as transformers' apply_chat_template sets it up
(transformers 5, utils/chat_template_utils.py: ImmutableSandboxedEnvironment, trim_blocks, lstrip_blocks, loop controls,
generation blocks, tojson, raise_exception, strftime_now), and stores what comes out.

    pip install jinja2==3.1.6
    python tests/reference/templates.py

writes tests/fixtures/templates.json: a list of {template, output}, where output is null for what jinja2 refuses.
"""

import datetime
import json
from pathlib import Path

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

DATE = datetime.datetime(2025, 7, 6)


class Generation(Extension):
    """The tag as it renders: its body."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def raise_exception(message):
    raise TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


ENVIRONMENT = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
)
ENVIRONMENT.filters["tojson"] = tojson
ENVIRONMENT.globals["raise_exception"] = raise_exception
ENVIRONMENT.globals["strftime_now"] = DATE.strftime

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather at a place, \"now\".",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "Where"},
                "items": {"type": "array", "items": {"type": "string"}},
                "unit": {"type": "string", "enum": ["C", "F"], "default": None},
            },
            "required": ["place"],
        },
    },
}
CONTEXT = {
    "messages": [
        {"role": "system", "content": "  Be brief.\n"},
        {"role": "user", "content": "Who's \"there\"?", "name": "Ada"},
        {
            "role": "assistant",
            "content": "<think>\nhm\n</think>\n\nIris.",
            "reasoning_content": "hm",
            "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"b": 1, "a": [True, None, 1.5]}}}],
        },
        {"role": "tool", "content": "{\"t\": 3}"},
        {"role": "user", "content": [{"type": "text", "text": "é"}, {"type": "text", "text": "漢"}]},
    ],
    "tools": [TOOL],
    "documents": None,
    "add_generation_prompt": True,
    "bos_token": "<s>",
    "eos_token": "</s>",
}

# Each line an expression, printed.
EXPRESSIONS = r"""
[1, 'a']
[1, 2.0, 1e16, 1e-5, 0.1, none, true, "it's", 'a"b', 'a\nb', 'é\t\\']
{'b': 1, 'a': {'x': none}}
{'b': 1} ~ [true]
none
true
false ~ none ~ 1.0
1.0
1e20
3 / 2
4 / 2
7 // 2
-7 % 3
7 % -3
7.5 % 2
2 ** 10
1 + 2 ~ 3 + 4
'a' ~ 1 + 2
'%s-%d' % ('a', 3)
'%s' % 'x'
'%05.2f|%x' % (3.14159, 255)
'%s %s' % (none, true)
"%%" % ()
'a' * 3
'a' 'b' "c"
'\x41\u00e9\d\''
"\n" ~ '\t|'
'abc'[1]
'abc'[-1]
'abc'[1:]
'abc'[::-1]
'漢字é'[1:]
'a' in 'abc'
'x' not in ['y']
'a' in {'a': 1}
1 in [1, 2]
1 < 2 and 2 >= 2 or false
not true
none is none
none is iterable
none is not iterable
missing is iterable
'a' is iterable
[] is iterable
{} is iterable
3 is iterable
'a' is sequence
{} is sequence
[] is sequence
none is sequence
range(3) is sequence
true is number
true is integer
1 is integer
1.0 is float
1 is number
true is boolean
'a' is string
{} is mapping
[] is mapping
missing is defined
missing is undefined
messages is defined
4 is divisibleby 2
3 is odd
1 is in [1]
1 is not in [1]
'a' is eq 'a'
'a' is sameas 'a'
true is true
'A' is upper
'a' is lower
missing
missing ~ 'x'
missing | length
missing | list
missing | join
missing | default('d')
'' | default('d', true)
none | default('d')
missing.x
none.x is defined
'a'.x is defined
messages[0].x is defined
messages[0].x.y
messages[9] is defined
messages[9]
messages | length
messages[1:] | length
messages[-1].content | length
messages[0].content | trim
messages[0]['content'].strip()
messages[0].content.strip().upper()
messages[1]['content']
messages[2].tool_calls[0].function.arguments
messages[2].tool_calls[0].function.arguments | tojson
messages[2].tool_calls[0].function.arguments.items() | list
messages[2].tool_calls
messages[2].content.split('</think>')[-1].lstrip('\n')
messages[2].content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n')
messages[2].content.partition('</think>')[2]
messages | selectattr('role', 'equalto', 'user') | list | length
messages | selectattr('role', '==', 'user') | map(attribute='name') | first
messages | rejectattr('role', 'in', ['user', 'system']) | map(attribute='role') | join('|')
messages | map(attribute='role') | list
messages | map(attribute='role') | unique | list
messages | selectattr('tool_calls') | list | length
messages | selectattr('tool_calls', 'defined') | list | length
messages | groupby('role') | map(attribute=0) | list
messages[0] | tojson
messages[1] | tojson
messages[4] | tojson
messages[4].content
tools | tojson
tools | tojson(indent=2)
tools[0] | tojson(indent=4)
tools[0].function | tojson(separators=(',', ':'))
tools[0].function.parameters | tojson(sort_keys=true)
tools[0].function.parameters.properties.items() | list | length
tools[0].function.parameters.properties['items']
tools[0].function.parameters.properties.keys() | list
tools[0].function.parameters.properties | items | map('first') | list
tools[0].function.parameters.properties | dictsort | map('first') | list
tools[0].function.parameters.properties | list
tools[0].get('type')
tools[0].get('kind', 'none')
tools[0].get('kind')
tools[0]
[] | tojson
{} | tojson(indent=2)
[[], {}] | tojson(indent=2)
'<é\u2028"\\/\x7f\x01>' | tojson
'<é漢😀>' | tojson(ensure_ascii=true)
[1.0, 1e16, 0.00001, none, true] | tojson
{2: 2, true: 3, none: 4, 'x': 5} | tojson
{'a': [1, 2]} | tojson(indent=none)
missing | tojson
'a/b/c'.rsplit('/', 1)[1]
'a/b/c'.rsplit('/')
'a b  c'.split()
'a b  c'.split(' ')
'  a b  c '.split(none, 1)
'  a b  c '.rsplit(none, 1)
'a,b,c'.split(',', 1)
'a,b,c'.split(',', maxsplit=1)
'abc'.split('')
'aab' | replace('a', 'b', 1)
'aab'.replace('a', 'b', 1)
'aab'.replace('a', 'b')
'abc'.removeprefix('a')
'abc'.removesuffix('c')
'abc'.removeprefix('x')
'x y'.partition(' ')[0]
'x y z'.rpartition(' ')
'xy'.partition(' ')
'abc'.startswith('a')
'abc'.startswith(('x', 'a'))
'abc'.endswith('c')
'abc'.find('c')
'éabc'.find('c')
'abc'.find('x')
'abcabc'.rfind('b')
'abcabc'.index('b', 2)
'abc'.index('x')
'abcabc'.count('b')
'abc'.center(7, '*')
'abc'.ljust(5) ~ '|'
'abc'.rjust(5)
'42'.zfill(5)
'-42'.zfill(5)
'a\nb\r\nc'.splitlines()
'a\nb\n'.splitlines(true)
'a\nb\n'.splitlines(keepends=true)
'hello world'.title()
"they're bill's".title()
'hELLO'.capitalize()
'Hello'.swapcase()
'hello' | title
'hello world-foo' | title
'hELLO' | capitalize
'12'.isdigit()
''.isdigit()
'a1'.isalnum()
'ab'.isalpha()
' '.isspace()
'ab'.islower()
'AB1'.isupper()
'1'.islower()
', '.join(['a', 'b'])
', '.join([1])
'{} and {}'.format('a', 3)
'{0}{0}{x}'.format('a', x=1)
'{:>5}|{:.2f}'.format('a', 3.14159)
'  x '.strip() ~ '|'
'xxaxx'.strip('x')
'xyaxy'.lstrip('yx')
'axy'.rstrip('yx')
'a\tb'.expandtabs(4)
'ab'.encode('utf-8')
[1, 2, 3].index(2)
[1, 2, 2].count(2)
[1].append(2)
{'a': 1}.update({'b': 2})
{'a': 1}.pop('a')
{'a': 1}.keys() | list
{'a': 1}.values() | list
{'a': 1}.items() | list
{'a': 1}.copy()
dict(a=1, b='x')
{'a': 1} == {'a': 1}
[1, 2] == [1, 2]
[1, 2] + [3]
(1, 2) | list
range(5) | list
range(1, 10, 3) | list
[3, 1, 2] | sort
['b', 'A', 'c'] | sort
['b', 'A'] | sort(case_sensitive=true)
[3, 1, 2] | sort(reverse=true)
[1, 2, 3] | reverse | list
'abc' | reverse
[1, 2, 3] | sum
[1, 2, 3] | max
[1, 2, 3] | min
[1, 2, 3] | last
[] | first
[1, 2, 3, 4] | batch(2) | list
[1, 2, 3] | slice(2) | list
[1, none, ''] | select | list
[1, none, ''] | reject | list
[1, 2, 3] | select('odd') | list
['a', 'b'] | map('upper') | join(',')
[1, none, true] | join(',')
messages | join(',', attribute='role')
'abc' | list
'abc' | first
'3' | int
'x' | int
'x' | int(7)
'3.7' | float
3.7 | int
3.756 | round(2)
3.5 | round
3.2 | round(0, 'ceil')
-3 | abs
'a b c' | wordcount
'hello' | upper
'x' | center(5)
'%s!' | format('a')
'a<b>&"\'' | escape
'a<b>' | e
'a<b>' | safe
'a<b>' | string
1 | string
none | string
true | string
'line\nnext' | indent
'line\nnext' | indent(2, true)
'line\n\nnext' | indent(width=2, first=false)
'a b' | urlencode
'abcdef' | truncate(4, true, '…')
'x' if true
'x' if false
'x' if missing else 'y'
'x' if [] else 'y'
'x' if 0.0 else 'y'
'a' if 'b' == 'b' and not none else 'c'
-1
+1
1_000
'1' == 1
1 == 1.0
1 == true
'a' < 'b'
1 < 2 < 3
3 > 2 > 2
[1, 2] | length > 1
'b' > 'a' ~ 'c'
(1, 2)
(1,)
()
namespace(a=1).a
cycler('a', 'b').next()
strftime_now('%d %b %Y')
strftime_now('%Y-%m-%d')
strftime_now('%d %B %Y')
strftime_now('%A, %B %d, %Y %H:%M:%S %j %y %m/%d')
strftime_now is defined
raise_exception('no')
'a' + 1
'a' + none
none + 1
[] | tojson ~ {} | tojson
messages[0].role + ': ' + messages[0].content | trim
'x' * (messages | length)
(messages | length) % 2 == 1
loop is defined
'a,b,,c'.split(',')
'a,b,,c'.split(',', 1)
'a b  c'.split(maxsplit=1)
' a b '.split(' ')
''.split()
''.split(',')
'a-b-c'.rsplit('-', maxsplit=1)
'abc'.startswith(('x','a'))
'abc'.startswith('b', 1)
'abc'.endswith(('x','c'))
'hELLO wORLD'.capitalize()
'ß'.upper()
'İ'.lower()
'a{}b{}'.format(1, 'x')
'a{0}b{1}{0}'.format(1, 'x')
'{x}-{y}'.format(x=1, y=none)
'{:>5}|{:<5}|{:^5}'.format(1, 2, 3)
'{:05d}'.format(42)
'{:.2f}'.format(3.14159)
'{:,}'.format(1234567)
'{0[a]}'.format({'a':1})
'%05.2f' % 3.14159
'%(a)s' % {'a': 1}
'%5s|%-5s|' % ('a','b')
'%x' % 255
'%%' % ()
'abcdef'[-3:]
'abcdef'[:-1:2]
'abcdef'[::2]
[1,2,3,4][::-1]
[1,2,3,4][::-2]
[1,2,3,4][-1:-3:-1]
[1,2,3,4][3:1:-1]
[1,2,3,4][1:]
[1,2,3,4][-2:]
[1,2][5:]
messages[::-1] | length
messages[1:] | map(attribute='role') | join(',')
messages | selectattr('role','equalto','user') | list | length
messages | selectattr('role','==','user') | map(attribute='content') | first
messages | rejectattr('role','in',['user']) | map(attribute='role') | list
messages | selectattr('tool_calls','defined') | list | length
messages | map(attribute='tool_calls', default='none') | list
messages | groupby('role') | length
{'b':1,'a':2}.items() | sort | map('first') | list
{'b':1,'a':2} | list
{'b':1,'a':2}.keys() | list
{'b':1}.get('z', 5)
{'b':1}.get('z')
{'b':1}.b
{'b':1}['b']
{'b':1} | tojson
{'b':[]} | tojson(indent=4)
[1.0, 1e10, 1e16, 1e-7, 0.1, -0.0] | tojson
'é"\\/<>&\'' | tojson
'\u2028' | tojson
'é' | tojson(ensure_ascii=true)
{'b':1,'a':2} | tojson(sort_keys=true)
[1,'a',true,none,1.5] | string
[1,'a',true,none,1.5]
(1,'a')|list
{'a':'b"c','d':"e'f"}
"a'b" | string
['a\nb']
['a"b\'c']
1/2
4/2
7//2
-7//2
7.0//2
7%3
-7%3
2**10
2**0.5
1e3
1000000.0
1e16
0.1+0.2
3.0*2
10/4
True
false
None
true and 'a'
'' or 'b'
none or 'c'
1 if true
1 if false
1 if false else 2
'a' ~ 1 ~ none ~ true ~ 1.0
'a' + 'b'
3 * 'a'
[1] + [2]
[1] * 2
'z' not in 'abc'
1 in [1,2]
'a' in {'a':1}
none == false
undefined_var is defined
undefined_var is undefined
undefined_var
undefined_var | default('d')
none | default('d', true)
false | d('x')
false | d('x', true)
undefined_var.foo
messages[0].foo
messages[0].foo.bar
messages[0].foo is defined
messages[0]['foo'] is none
messages[0] is mapping
messages is sequence
messages is iterable
messages is mapping
1.5 is number
1 is boolean
1.0 is integer
none is string
1 is odd
2 is even
4 is divisibleby(2)
1 is sameas(1)
true is sameas true
'a' is in ['a']
1 is eq 1
1 is gt 0
'upper' is filter
'defined' is test
'a' is escaped
range(3) | list
range(1,10,3) | list
range(5,0,-2) | list
range(3) is iterable
dict(a=1)
dict(a=1).a
cycler('a','b').next()
[3,1,2] | sort
[3,1,2] | sort(reverse=true)
['b','A','c'] | sort
['b','A','c'] | sort(case_sensitive=true)
[1,2,3] | sum
[1,2,3] | max
[1,2,3] | min
[1,2,3] | first
[1,2,3] | last
[1,2,3] | reverse | list
[1,2,3] | batch(2) | list
[1,2,3] | slice(2) | list
[1,[2,3]] | list
[1,2,3] | join
[1,2,3] | join(', ')
['a','b'] | map('upper') | list
['a','b'] | map('replace','a','z') | list
[1,2,3] | select('odd') | list
[1,2,3] | reject('gt', 1) | list
[0,1,''] | select | list
'a b' | title
'a-b c' | title
'abc' | capitalize
'Abc' | lower
'abc' | upper
'  a ' | trim
'xxaxx' | trim('x')
'abc' | length
'abc' | count
'abc' | center(9)
'a\nb' | indent(2)
'a\nb' | indent(2, true)
'a\n\nb' | indent(2)
'a\n\nb' | indent(2, blank=true)
'3.5' | float
3 | float
'x' | float
3.14159 | round(2)
2.5 | round
-2.5 | round
3 | round
3.14159 | round(2, 'floor')
-5 | abs
'<a>' | escape
'<a>' | e
'<a>' | safe
'http://x.y' | urlencode
{'a':'b c'} | urlencode
'abc' | format
'%s x' | format('a')
'a%sb%s' | format(1, 2)
'abc' | replace('b', 'z')
'aaa' | replace('a', 'b', 2)
'a' | string
1.0 | string
'hello world foo' | truncate(8)
'hello world foo' | truncate(8, true)
messages | attr('x')
'a'.join(['x','y'])
','.join(messages | map(attribute='role'))
'abc'.find('z')
'abc'.index('b')
'abab'.count('ab')
'abc'.isalpha()
'²'.isdigit()
'½'.isnumeric()
'Abc'.istitle()
'A B'.istitle()
'abc'.islower()
'abc'.zfill(5)
'-3'.zfill(5)
'abc'.ljust(5,'*')
'abc'.center(6,'*')
'a\nb'.splitlines(true)
'aXbX'.replace('X','', 1)
'abc'.replace('', '-')
'abc'.strip('ac')
'\n a \n'.strip()
'abc'.lstrip('a')
'abc'.rstrip('c')
'</think>'.join(['a','b'])
'a</think>b'.split('</think>')[-1].lstrip('\n')
'a</think>b'.split('</think>')[0].rstrip('\n').split('<think>')[-1]
'abc'.casefold()
'aBc'.swapcase()
'a.b'.rpartition('.')[2]
'abc'.isascii()
'x'.__class__
''.__len__()
messages.append(1)
[1,2].index(2)
[1,2,2].count(2)
[1,2].pop()
[3,1].sort()
{'a':1}.pop('a')
{'a':1}.update({'b':2})
{'a':1}.copy()
{'a':1}.values() | list
{'a':1} == {'a':1.0}
[1,2] == [1,2]
(1,2) == (1,2)
'a' if 'b' is string and 'c' in 'cd' else 'e'
(messages | last).role
(messages | first)['content']
messages[-1].role == 'assistant'
messages|length - 1
-messages|length
not messages
1 - -1
2 * 3 + 4
2 + 3 * 4
(2 + 3) * 4
10 - 2 - 3
2 ** 3 ** 2
-2 ** 2
not 1 == 2
1 if 0 else 2 if 0 else 3
'a' 'b'
"\x41\u0042\101"
'\q'
r'a'
'a\
b'
strftime_now('%A, %B %d, %Y')
caller is defined
bos_token is defined
bos_token
eos_token + 'x'
add_generation_prompt
tools
tools is none
tools is not none
documents
messages | tojson
messages[0] | tojson(indent=1)
messages[0].items() | list | length
messages[0] | length
messages[0] | list
messages | string
messages | tojson | length
[messages[0].role, messages[1]['role']]
messages[0]['content'][0]
messages[0].content[-1]
messages[0].content | first
messages[0].content[0:1]
messages.0.role
{'a': [1,2]}.a[0]
{'a-b': 1}['a-b']
{1: 'x'}[1]
{'x': 1, 'x': 2}
[1, 2,]
{'a': 1,}
[]
{}
1.5e3
0x1f
0b11
0o17
1e400
10**20
9223372036854775807 + 1
-9223372036854775808
1/3
1e-5
123456789.123456789
100000000000000000000.0
1.5e300 * 1e10
5 // 0.3
True and False
true == True
'True'
[true, false, none]
{'a': true}
{'a': none} | string
true | tojson
true ~ ''
true + 1
'1' + 1
1 + '1'
none + 'a'
[] + 'a'
{} | length
none | length
1 | length
undefined_var | length
undefined_var + 'a'
undefined_var ~ 'a'
undefined_var == ''
undefined_var == none
undefined_var is none
undefined_var | list
undefined_var | join
undefined_var | upper
undefined_var | trim
undefined_var is string
undefined_var is iterable
undefined_var is sequence
undefined_var is mapping
not undefined_var
undefined_var or 'x'
undefined_var in ['a']
'a' in undefined_var
undefined_var[0]
undefined_var()
'abc' | nosuch
'abc' is nosuch
'abc'.nosuch()
'abc'.nosuch
nosuch()
raise_exception('x')
messages[0].content if messages[0].content is string else messages[0].content | map(attribute='text') | join
m.role
messages | map(attribute='content') | map('length') | sum
messages | map(attribute='role') | map('upper') | join('|')
messages | sum(attribute='content.x') if false else 'n'
messages | sort(attribute='role') | map(attribute='role') | list
messages | map('tojson') | join(' ')
{'a':1} | map('upper') | list
"%s" % messages[0].role
'%s and %s' % (1, 2)
'%d%%' % 5
'%.3f' % 1
'%s' % none
'%s' % [1]
('a', 'b') | join(',')
dict(a=1, b=2) | tojson
dict({'a': 1}, b=2)
[*[1], 2]
[x for x in [1]]
lambda x: x
messages[0]['role'] | upper ~ '!'
- 3 | abs
1 + 2 | string
'a' | upper + 'b'
not 'a' in 'abc'
3 is odd and 2 is even
1 if x is defined else 'undefd'
x.y is defined if x is defined else 'n'
"a" if 1 == 1 and 2 == 2 or 3 == 4
5 is number and '5' is not number
messages | tojson(indent=2)
'中文' | tojson
'a' | center(5) | length
'aéb' | urlencode
messages is iterable and messages is not mapping and messages is not string
(messages | first).content
messages|first|attr('role')
""".strip().split("\n")

# Whole templates.
TEMPLATES = [
    "{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }};{% endfor %}",
    "{% for m in messages %}{{ loop.previtem.role if not loop.first }}>{{ loop.nextitem.role if not loop.last }};{% endfor %}",
    "{% for m in messages %}{{ loop.changed(m.role) }}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for m in messages if m.role == 'user' %}{{ loop.index }}{{ m.role }}{% else %}none{% endfor %}",
    "{% for m in [] %}x{% else %}none{% endfor %}",
    "{% for m in missing %}x{% else %}none{% endfor %}",
    "{% for m in none %}x{% endfor %}",
    "{% for k, v in {'b': 1, 'a': 2}.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k in {'b': 1, 'a': 2} %}{{ k }}{% endfor %}",
    "{% for k, v in tools[0].function.parameters.properties.items() %}{{ k }}: {{ v.type }}{% if v['items'] %} of {{ v['items'].type }}{% endif %}\n{% endfor %}",
    "{% for k, v in tools[0].function.parameters.properties | items %}{{ k }}{% endfor %}",
    "{% for c in 'abc' %}{{ c }}-{% endfor %}",
    "{% for m in messages %}{% if loop.index == 2 %}{% continue %}{% endif %}{% if loop.index == 4 %}{% break %}{% endif %}{{ m.role }}{% endfor %}",
    "{% for a, b in [[1, 2], [3, 4]] %}{{ a }}{{ b }}{% endfor %}",
    "{% for i in range(3) %}{% for j in range(i) %}{{ loop.depth }}{{ i }}{{ j }} {% endfor %}{% endfor %}",
    "{% for x in [1, [2, [3]]] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}{% endif %}{% endfor %}",
    "{% set ns = namespace(n=0, found=false) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% if m.role == 'tool' %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.n }}{{ ns.found }}",
    "{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{% endfor %}{{ x }}",
    "{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}",
    "{% set x %}a {{ 1 }} b{% endset %}[{{ x }}]",
    "{% set x | upper %}abc{% endset %}{{ x }}",
    "{% set a, b = 1, 'z' %}{{ a }}{{ b }}",
    "{% macro f(x, y='d') %}[{{ x }}|{{ y }}]{% endmacro %}{{ f(1) }}{{ f(1, 2) }}{{ f(y=3, x=4) }}",
    "{% macro f(x) %}{% if x %}{{ x }}{{ f(x - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
    "{% macro f(x) %} {{- x -}} {% endmacro %}{{ f('a') ~ f('b') }}{{ f('c') | upper }}{{ f('d') + 'e' }}",
    "{% macro f() %}<{{ caller() }}>{% endmacro %}{% call f() %}x{% endcall %}",
    "{% macro f(x) %}{{ kwargs }}{{ varargs }}{% endmacro %}{{ f(1, 2, a=3) }}",
    "{% filter upper %}abc{% endfilter %}",
    "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}",
    "{% raw %}{{ x ~ y }}{% endraw %}{{ '{{' }}",
    "{# a comment {{ x }} #}\nx{# b #}y",
    "  {# a comment #}\nx",
    "{% if true %}\n  a\n{% endif %}\nb\n",
    "  {% if true %}  \n  a\n  {%- endif %}\nb\n\n",
    "a\n\n  {%+ if true %}b{% endif +%}\n c",
    "a  {{- 'x' -}}  b  {{ 'y' }}\n{{ 'z' -}}\n\n c",
    "{%- if true -%}\n\n a \n{%- else -%}\n b {%- endif -%}\n\n",
    "{% if true %}\r\n  a\r\n{% endif %}\r\nb\r\n",
    "a\rb\r\n{{ 'x\r\ny' }}{{ 'z\\r\\n' | length }}\n",
    "\n\n{% for m in messages %}\n{{ m.role }}\n{% endfor %}\n",
    "{% for m in messages -%}\n  {{ m.role }}\n  {%- if not loop.last %}, {% endif %}\n{%- endfor %}",
    "{{ bos_token }}{% for m in messages %}{% generation %}{{ m.role }}{% endgeneration %}{% endfor %}{{ eos_token }}",
    "{%- for m in messages %}\n    {%- if m.role == 'assistant' %}\n        {%- generation %}\n        {{- m.role + '\\n' }}\n        {%- endgeneration %}\n    {%- endif %}\n{%- endfor %}",
    "{% if tools is iterable and tools | length > 0 %}T{% endif %}{% if documents is iterable and documents | length > 0 %}D{% endif %}",
    "{% if tools is not none and tools is defined %}{{ tools | map(attribute='function') | map(attribute='name') | join(', ') }}{% endif %}",
    "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{{ add_generation_prompt }}",
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system = messages[0].content | trim %}{% else %}{% set loop_messages = messages %}{% endif %}{{ system }}{{ loop_messages | length }}",
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ loop.index0 }}!{% endif %}{% endfor %}",
    "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}{{ part.text if part.type == 'text' else '?' }}{% endfor %}{% endif %}{% endfor %}",
    "{% for m in messages[::-1] %}{% set index = (messages | length - 1) - loop.index0 %}{{ index }}{{ m.role }} {% endfor %}",
    "{% for m in messages %}{{ '<|' ~ m.role ~ '|>' ~ (m.content if m.content is string else m.content | tojson) ~ '\\n' }}{% endfor %}",
    "{% set m = messages[2] %}{% if '</think>' in m.content %}{% set t = m.content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}{{ t }}|{{ m.content.split('</think>')[-1].lstrip('\\n') }}{% endif %}",
    "{% set m = messages[2] %}{% for call in m.tool_calls %}{% if call.function is defined %}{% set call = call.function %}{% endif %}{\"name\": \"{{ call.name }}\", \"arguments\": {{ call.arguments if call.arguments is string else call.arguments | tojson }}}{% endfor %}",
    "{% set x = {'a': 1} %}{% set y = dict(x, b=2) %}{{ y }}",
    "{% set l = [1] %}{% set l = l + [2] %}{{ l }}",
    "{% set l = [] %}{% for m in messages %}{% set _ = l.append(m.role) %}{% endfor %}{{ l }}",
    "{% do messages %}",
    "{% include 'x' %}",
    "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}{% else %}26 Jul 2024{% endif %}",
    "{% for p in tools[0].function.parameters.properties.values() %}{{ p.type }}{{ p['items'] is defined }}{{ p['items']['type'] }};{% endfor %}",
    "{{ 2.5 | round }}{{ 1.005 | round(2) }}{{ 2.675 | round(2, 'floor') }}{{ 'ab'.center(5) }}|{{ 'abc'.center(6) }}|{{ 'a b'.center(0) }}",
    "{{ messages[0].content | replace('\\n', ' ') ~ '|' }}",
    "{{ {'items': 1, 'keys': 2, 'get': 3, 'values': 4}.items() | list }}",
    "{{ {'items': 1, 'get': 3}.get('get') }}",
    "{% set x = none %}{{ x }}{{ 'a' if x is none }}{{ x | string }}{{ x == None }}{{ True }}{{ False }}",
    "{{ undefined_function() }}",
    "{{ 'a' | no_such_filter }}",
    "{% for m in messages %}",
    "{{ 'unclosed }}",
    "{% endif %}",
    "{{- '' -}}\n  \nx\n",
    "{% if a %}{% elif messages %}b{% else %}c{% endif %}",
    "{{ messages | map('attr', 'role') | list }}",
    "{% set role_map = {'user': 'Human', 'assistant': 'AI'} %}{% for m in messages %}{{ role_map[m.role] if m.role in role_map else m.role }},{% endfor %}",
    "{% set alternatives = namespace(list=['a']) %}{% set alternatives.list = alternatives.list + ['b'] %}{{ alternatives.list | join }}",
    "{{ '%s: %s' | format(messages[0].role, messages | length) }}",
    "{{ ('a' ~ 'b') | upper ~ 'c' }}",
    "{{ messages[0]['content'][:4] ~ '…' }}",
    "{{ (messages | last).role }}{{ (messages | first)['role'] }}",
    "{{ '{{}}'.format() }}",
    "{{ {'b':{'c':[1,2,{'d':none}]}} | tojson(indent=2) }}",
    "{{ {'b':{}} | tojson(indent=2) }}",
    "{{ {'a': {'b': 1}}['a']['b'] }}",
    "{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }} {% endfor %}",
    "{% for m in messages %}{{ loop.previtem.role if loop.previtem is defined else '-' }}{{ loop.nextitem.role if loop.nextitem is defined else '+' }}{% endfor %}",
    "{% for m in messages %}{{ loop.cycle('a','b') }}{{ loop.changed(m.role) }}{% endfor %}",
    "{% for m in messages %}{% if loop.index0 == 0 %}{% continue %}{% endif %}{{ m.role }}{% endfor %}",
    "{% for m in messages %}{% if loop.index0 == 1 %}{% break %}{% endif %}{{ m.role }}{% endfor %}",
    "{% for m in [] %}x{% else %}empty{% endfor %}",
    "{% for m in messages if m.role == 'user' %}{{ m.content }}{{ loop.length }}{% endfor %}",
    "{% for k, v in {'a':1,'b':2}.items() %}{{ k }}{{ v }}{% endfor %}",
    "{% for k, v in {'a':1,'b':2} | items %}{{ k }}{{ v }}{% endfor %}",
    "{% for k in {'a':1,'b':2} %}{{ k }}{% endfor %}",
    "{% for a, b in [[1,2],[3,4]] %}{{ a }}{{ b }};{% endfor %}",
    "{% for a in 'abc' %}{{ a }}.{% endfor %}",
    "{% for i in range(3) %}{{ i }}{{ ',' if not loop.last }}{% endfor %}",
    "{% for m in messages recursive %}{{ m.role }}{% endfor %}",
    "{% for x in [[1,[2]],[3]] recursive %}{{ loop(x) if x is iterable else x }}{% endfor %}",
    "{% set ns = namespace(x=1) %}{% for i in [1,2] %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}",
    "{%- set ns = namespace(found=false, items=[]) -%}{% for m in messages %}{% set ns.items = ns.items + [m.role] %}{% endfor %}{{ ns.items }}{{ ns.found }}",
    "{% set x %}a{{ 1 }}b{% endset %}{{ x }}{{ x | length }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set a = b = 1 %}{{ a }}",
    "{% set d = {} %}{% set _ = d.update({'a':1}) %}{{ d }}",
    "{% set l = [] %}{% set _ = l.append(1) %}{{ l }}",
    "{% macro f(a, b='x') %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}{{ f(1, 2) }}{{ f(b=3, a=4) }}",
    "{% macro f(a) %}{{ a is defined }}{% endmacro %}{{ f() }}",
    "{% macro f(a, b=a) %}{{ b }}{% endmacro %}{{ f(1) }}",
    "{% macro f() %}{{ caller() }}{% endmacro %}{% call f() %}x{% endcall %}",
    "{% macro f() %}{{ caller('y') }}{% endmacro %}{% call(a) f() %}x{{ a }}{% endcall %}",
    "{% macro f() %}{{ messages | length }}{% endmacro %}{{ f() }}",
    "{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
    "{% macro f(x) -%}   {{ x }}   {%- endmacro %}[{{ f('a') }}]",
    "{% macro f(x) %}{% if x is mapping %}{% for k, v in x.items() %}{{ k }}={{ f(v) }}{% endfor %}{% else %}{{ x }}{% endif %}{% endmacro %}{{ f({'a': {'b': 1}}) }}",
    "{% if true %}a{% elif false %}b{% else %}c{% endif %}",
    "{% if messages[0].foo %}a{% else %}b{% endif %}",
    "{% if messages[0].role == 'user' and messages[0].content is string %}y{% endif %}",
    "{% if tools %}t{% else %}n{% endif %}",
    "{% if not (messages[0].role == 'system') %}a{% endif %}",
    "  {% if true %}",
    "  a",
    "  {% endif %}",
    "b",
    "  {%- if true -%}  a  {%- endif -%}  b",
    "{%+ if true %}  a{% endif %}",
    "a  {%+ if true %}b{% endif %}",
    "{% if true +%}",
    "a{% endif %}",
    "{{ 'a' -}}   b",
    "a   {{- 'b' }}",
    "a {#- c -#} b",
    "a {# c #}",
    "{# c #}",
    "x",
    "{% raw %}{{ x }}{% endraw %}",
    "{% raw -%}  {{ x }}  {%- endraw %}",
    "{% filter replace('a','b') %}abc{% endfilter %}",
    "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}",
    "{% with %}{% set a = 1 %}{{ a }}{% endwith %}{{ a is defined }}",
    "{% generation %}abc{% endgeneration %}",
    "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "{% autoescape true %}{{ '<' }}{% endautoescape %}",
    "{% block a %}x{% endblock %}",
    "{% import 'x' as y %}",
    "{% extends 'x' %}",
    "{% set x = messages | selectattr('role','equalto','user') | list %}{{ x[0].content }}{{ x | length }}",
    "{% set x = 'a' if messages else 'b' %}{{ x }}",
    "{% if 'a' is not none and 'a' is not undefined %}x{% endif %}",
    "{% if messages is defined and messages is not none %}x{% endif %}",
    "{%- if messages[0]['role'] == 'system' -%}{%- set sys = messages[0]['content'] -%}{%- set loop_messages = messages[1:] -%}{%- else -%}{%- set sys = '' -%}{%- set loop_messages = messages -%}{%- endif -%}{{ sys }}{{ loop_messages | length }}",
    "{% set x = 5 %}{{ x is divisibleby 5 }}",
    "{{ '\\n' }}{{ \"\\t\" }}|",
    "a",
    "  {% set x = 1 %}",
    "\t{% set x = 1 %}",
    "a {% set x = 1 %}",
    "{% set x = 1 -%}",
    "{%- set x = 1 %}",
    "{% endfor %}",
    "{% for m in messages -%}",
    "{%- endfor %}",
    "{%- for m in messages %}",
    "    {%- if m.role == 'user' %}",
    "        {{- 'U: ' + m.content }}",
    "    {%- else %}",
    "        {{- 'A: ' + m.content }}",
    "    {%- endif %}",
    "{% set t = {'a': 1} %}{{ t['a'] if 'a' in t else 0 }}{{ t.b | default('z') }}{{ t.b.c | default('y') }}",
    "{% set x = messages[0].get('name') or 'anon' %}{{ x }}",
    "{{ messages[0].content.split('\\n')[0] }}{{ messages[0].content | trim | length }}",
    "{{ [1,2,3][1] }}{{ [1,2,3][-1] }}{{ [[1,2],[3]][0][1] }}",
    "{% set items = [1,2,3] %}{{ items[:2] + items[2:] }}",
    "{% set ns = namespace() %}{% set ns.a = 1 %}{{ ns.a }}{{ ns.b is defined }}",
    "{% set x = [] %}{% for m in messages %}{% if x.append(m.role) %}{% endif %}{% endfor %}{{ x }}",
    "{% for i in range(2) %}{% for j in range(2) %}{{ loop.index }}{{ loop.depth }}{% endfor %}{% endfor %}",
    "{% for i in range(2) %}{% set outer = loop %}{% for j in range(2) %}{{ outer.index }}{% endfor %}{% endfor %}",
    "{{ (1, 2)[0] }}{{ (1,2) | length }}",
    "{% for a in (1, 2) %}{{ a }}{% endfor %}",
    "{% if (1, 2) is sequence %}s{% endif %}",
    "{% if 'x' in ('x', 'y') %}in{% endif %}",
    "{{ {'a': 1, **{'b': 2}} }}",
    "{{ '中文' | length }}{{ '中文'[0] }}{{ '😀a'[1] }}{{ '😀' | length }}",
    "{{ 'a\\u00a0b'.split() }}{{ '\\u00a0a'.strip() }}",
    "{{ 'İ' | length }}{{ 'İ'.lower() | length }}",
    "{{ '\\x00' | tojson }}{{ '\\x7f' | tojson }}",
    "{{ [] is iterable }}{{ [] is sequence }}{{ [] | first is defined }}",
    "{{ 1.0 | int }}{{ '1.9' | int }}{{ true | int }}",
    "{{ 1e3 | int }}{{ '1e3' | int }}{{ ' 5 ' | int }}",
    "{{ 1 | float | string }}{{ 1e22 | string }}",
    "{{ 0.1 + 0.7 }}{{ 1.1 * 3 }}",
    "{{ 2 | round(1) }}{{ 2.55 | round(1) }}{{ 12.0 | round(0, 'ceil') }}",
    "  {% if true %}\n  a\n  {% endif %}\nb",
    "a {# c #}\nb",
    "{# c #}\nx",
    "{% if true +%}\na{% endif %}",
    "a\n  {% set x = 1 %}\nb",
    "a\n\t{% set x = 1 %}\nb",
    "a {% set x = 1 %}\nb",
    "{% set x = 1 -%}\n\nb",
    "a\n\n{%- set x = 1 %}\nb",
    "{% for m in messages %}\n{{ m.role }}\n{% endfor %}",
    "{% for m in messages -%}\n{{ m.role }}\n{%- endfor %}",
    "{%- for m in messages %}\n    {%- if m.role == 'user' %}\n        {{- 'U: ' + m.content }}\n    {%- else %}\n        {{- 'A: ' + m.content }}\n    {%- endif %}\n{%- endfor %}",
    "a\n  {#- c #}\nb",
    "a\n  {# c -#}\nb",
    "a  \n{{ 1 }}\n\n",
    "\n\n{{ 1 }}\n",
    "a\n{%+ if true %}\nb\n{%+ endif %}\nc",
    "  {%+ set x=1 %}b",
    "{{ 1 }}\n  {# x #}\n  {{ 2 }}",
    "{% if true %}\n\n\na{% endif %}",
    "{{- 1 -}}\n\n{{- 2 -}}\n",
    "a\r\n{% if true %}\r\nb\r\n{% endif %}\r\n",
    "{% raw %}\n a\n{% endraw %}\nb",
    "{% set x %}\n a\n{% endset %}\n{{ x }}|",
    "{% macro f() %}\n  a\n{% endmacro %}\n{{ f() }}|",
    "{% call_me %}",
    "{{",
    "{% if %}x{% endif %}",
    "{{ 1 }",
    "# for x in y\n",
    "{% for m in messages %}{{ m.role }}{% else %}n{% endfor %}",
    "{%-set x=1-%}{{x}}",
    "{{x|default('a')}}",
    "{%if true%}a{%endif%}",
    "{{ 'a' if true else\n 'b' }}",
    "{{ {\n'a':\n1} | tojson }}",
    "{% set x = [\n 1,\n 2\n] %}{{ x }}",
    "{{ messages[0]\n.role }}",
    "{% generation %}\n  a\n{% endgeneration %}\nb",
    " {%- generation -%} a {%- endgeneration -%} b",
]

rows = []
for template in ["{{ " + line + " }}" for line in EXPRESSIONS] + TEMPLATES:
    try:
        output = ENVIRONMENT.from_string(template).render(**CONTEXT)
    except Exception:
        output = None
    rows.append({"template": template, "output": output})
out = Path(__file__).resolve().parent.parent / "fixtures" / "templates.json"
out.write_text(json.dumps({"context": CONTEXT, "date": "2025-07-06", "rows": rows}, indent=1, ensure_ascii=False) + "\n")
print(f"{len(rows)} templates, {sum(row['output'] is None for row in rows)} of them refused")
