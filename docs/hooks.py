"""What the site is made of beside the pages in docs/: a hook of MkDocs, see mkdocs.yml.

It adds the README as the first page, the index of methods and other parts, the gallery, the
examples, and a reference page for each module; turns links into the repository into links
within the site; and stops the build at a public name that has no docstring.
"""

import html
import json
import pathlib
import posixpath
import re
from collections.abc import Iterator

import griffe
import mkdocs.exceptions
from mkdocs.structure.files import File

from jaxbudget import listing, registry

ROOT = pathlib.Path(__file__).parents[1]
# Of the laboratory, what people call; the rest serves the program.
LAB = (
  'api', 'alternatives', 'command', 'config', 'launcher', 'report.frontier', 'report.load',
  'report.statistics', 'run.loading',
)  # fmt: skip
_INDEX = """# Methods and parts

What there is by name, with the options of each; `jaxbudget --list` shows the same. Anybody's
parts go beside them as `package.module:factory`: [Parts from any package](parts.md).
"""
_REFERENCE = """# jaxbudget

::: jaxbudget
"""
_HEADINGS = {
  'selector': 'Methods', 'augment': 'Augmentations', 'model': 'Networks', 'dataset': 'Data sets',
  'schedule': 'Schedules', 'optimizer': 'Optimizers', 'task': 'Tasks',
  'averaging': 'Averages of the weights',
}  # fmt: skip


def modules() -> list[str]:
  """The modules that have a page, the package itself apart."""
  found = []
  for path in sorted((ROOT / 'jaxbudget').rglob('*.py')):
    name = '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')
    if not name.startswith('jaxbudget.lab') and not name.endswith('__'):
      found.append(name)
  found.remove('jaxbudget')
  return [*found, *(f'jaxbudget.lab.{name}' for name in LAB)]


def undocumented(package: griffe.Object, names: list[str]) -> Iterator[str]:
  """What has no docstring, or no page, although it is public.

  Of attributes only those that the package exports: others have a comment beside them, where
  that says more than the name.
  """
  for name in package.exports:
    if name not in package.members:
      yield f'{package.path}.{name}'
    elif not package[name].has_docstring:
      yield package[name].path
  for name in names:
    module = package[name.partition('.')[2]]
    public = [m for m in module.members.values() if m.is_public and not m.is_alias]
    public = [m for m in public if m.is_class or m.is_function]
    methods = [f for m in public if m.is_class for f in m.functions.values() if f.is_public]
    for member in [module, *public, *methods]:
      if not member.has_docstring and not member.name.startswith('__'):
        yield member.path


def on_config(config):
  """Checks the docstrings, and puts the made pages into the navigation."""
  package = griffe.load('jaxbudget', search_paths=[ROOT], resolve_aliases=True)
  wanting = sorted(set(undocumented(package, modules())))
  if wanting:
    raise mkdocs.exceptions.PluginError(f'no docstring: {", ".join(wanting)}')
  config.nav += [
    {'Gallery': [*(f'gallery/{p.stem}.md' for p in _notebooks()), *map(_page_of, _examples())]},
    {'Reference': [_page_of('jaxbudget'), *_by_package()]},
  ]
  return config


def on_files(files, config):
  """Adds the made pages."""
  made = {'index.md': (ROOT / 'README.md').read_text(), 'names.md': _index()}
  made[_page_of('jaxbudget')] = _REFERENCE
  made |= {_page_of(name): f'# {name}\n\n::: {name}\n' for name in modules()}
  made |= {_page_of(path): _example(path) for path in _examples()}
  made |= {f'gallery/{path.stem}.md': _notebook(path) for path in _notebooks()}
  made['changelog.md'] = (ROOT / 'CHANGELOG.md').read_text()
  for uri, content in made.items():
    files.append(File.generated(config, uri, content=content))
  return files


def on_page_markdown(markdown, page, config, files):
  """Makes links into the repository links within the site."""
  del config, files
  uri = page.file.src_uri
  home = (
    '' if uri in ('index.md', 'changelog.md') else posixpath.join('docs', posixpath.dirname(uri))
  )
  return re.sub(r'\]\(([^)#\s]+)(#[^)\s]*)?\)', lambda match: _link(match, uri, home), markdown)


def _link(match: re.Match, uri: str, home: str) -> str:
  target, anchor = match[1], match[2] or ''
  if re.match(r'[a-z]+:', target):
    return match[0]
  path = posixpath.normpath(posixpath.join(home, target))  # in the repository
  if path.startswith('docs/'):
    found = path.removeprefix('docs/').replace('.ipynb', '.md')
    if not posixpath.splitext(found)[1]:
      found = posixpath.join(found, 'README.md')
  elif path.startswith('jaxbudget/') and path.endswith('.py'):
    found = _page_of(path.removesuffix('.py').removesuffix('/__init__').replace('/', '.'))
  else:
    found = _page_of(path)
  return f']({posixpath.relpath(found, posixpath.dirname(uri) or ".")}{anchor})'


def _by_package() -> list[str | dict]:
  """The pages of modules, those of a package together."""
  found: dict[str, list[dict]] = {}
  for name in modules():
    package = '.'.join(name.split('.')[:2])
    title = name.removeprefix(f'{package}.')
    found.setdefault(package, []).append({title: _page_of(name)})
  return [{package: pages} if pages[1:] else pages[0] for package, pages in found.items()]


def _page_of(name: str) -> str:
  """The page of a module, or of an example."""
  if name.startswith('examples/'):
    return f'examples/{pathlib.PurePath(name).stem}.md'
  return f'reference/{name}.md'


def _examples() -> list[str]:
  return [f'examples/{path.name}' for path in sorted((ROOT / 'examples').glob('*.py'))]


def _notebooks() -> list[pathlib.Path]:
  return sorted((ROOT / 'docs' / 'gallery').glob('*.ipynb'))


def _example(path: str) -> str:
  text = (ROOT / path).read_text()
  return f'# {pathlib.PurePath(path).name}\n\n```python\n{text}```\n'


def _index() -> str:
  """Every known part with its options, by kind."""
  lines = [_INDEX]
  for kind in registry.KINDS:
    lines += [f'## {_HEADINGS[kind]}', '', f'`--config.{kind}=NAME`', '']
    lines += ['| name | what it is | options |', '|---|---|---|']
    for name, entry in listing.entries(kind).items():
      place = registry.NAMES[kind][name].replace(':', '.')
      options = '<br>'.join(
        f'`{option}: {annotation or "any"}{f" = {default}" if default else ""}`'
        for option, (annotation, default) in entry.options.items()
      )
      lines.append(f'| [`{entry.spelt}`][{place}] | {entry.summary} | {options} |')
    lines.append('')
  return '\n'.join(lines)


def _notebook(path: pathlib.Path) -> str:
  """An executed notebook as a page."""
  lines = []
  for cell in json.loads(path.read_text())['cells']:
    text = ''.join(cell['source'])
    lines += [text] if cell['cell_type'] == 'markdown' else [f'```python\n{text}\n```']
    lines += filter(None, map(_output, cell.get('outputs', ())))
  return '\n\n'.join(lines) + '\n'


def _output(output: dict) -> str:
  """What a cell gave: the richest of its forms."""
  if output['output_type'] == 'stream':
    return f'<pre class="output">{html.escape("".join(output["text"]))}</pre>'
  found = {kind: ''.join(content) for kind, content in output['data'].items()}
  if 'image/png' in found:
    return f'<img alt="figure" src="data:image/png;base64,{found["image/png"].strip()}">'
  if 'text/html' in found:
    table = re.sub(r'<style.*?</style>|\n\s*', '', found['text/html'], flags=re.DOTALL)
    return f'<div class="output">{table}</div>'
  return f'<pre class="output">{html.escape(found["text/plain"])}</pre>'
