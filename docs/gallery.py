"""Runs the notebooks of docs/gallery, from nothing, in an empty folder.

  python docs/gallery.py            # writes what comes out into them
  python docs/gallery.py --check    # only sees that they run, and show what they showed

Needs the extra `docs`.
"""

import argparse
import pathlib
import tempfile

import nbclient
import nbformat

GALLERY = pathlib.Path(__file__).parent / 'gallery'
TIMEOUT = 300  # seconds for a cell


def execute(path: pathlib.Path) -> nbformat.NotebookNode:
  """Runs a notebook; a cell that fails raises."""
  notebook = nbformat.read(path, as_version=4)
  with tempfile.TemporaryDirectory() as folder:
    client = nbclient.NotebookClient(
      notebook,
      timeout=TIMEOUT,
      resources={'metadata': {'path': folder}},
      record_timing=False,
      extra_arguments=['--log-level=ERROR'],
    )
    client.execute()
  for cell in notebook.cells:
    cell.metadata.clear()
    for output in cell.get('outputs', ()):
      output.get('metadata', {}).clear()
  notebook.metadata.language_info = {'name': 'python'}  # not of which version
  return notebook


def shown(notebook: nbformat.NotebookNode) -> list[list[str]]:
  """What each cell shows, by kind: tables, pictures, text."""
  return [
    [kind for output in cell.get('outputs', ()) for kind in sorted(output.get('data', ('text',)))]
    for cell in notebook.cells
  ]


def main() -> None:
  """Runs all there are."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--check', action='store_true')
  check = parser.parse_args().check
  for path in sorted(GALLERY.glob('*.ipynb')):
    before = shown(nbformat.read(path, as_version=4))
    notebook = execute(path)
    wrong = [
      output.text
      for cell in notebook.cells
      for output in cell.get('outputs', ())
      if output.output_type == 'stream' and output.name == 'stderr'
    ]
    if wrong:
      raise SystemExit(f'{path} complains: {wrong}')
    if check and shown(notebook) != before:
      raise SystemExit(f'{path} shows {shown(notebook)}, not {before}: `make gallery` renews it')
    if not check:
      nbformat.write(notebook, path)
    print(f'{path.name}: {len(notebook.cells)} cells')


if __name__ == '__main__':
  main()
