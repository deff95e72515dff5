"""How long a report takes, first and again, what memory it needs, and how fast its page opens.

    python benchmarks/report.py [--only=study] [--keep]

Three workdirs of synthetic runs, of the sizes people have: `rehearsal` (141 runs of 15 epochs, the
grid of the study on digits), `study` (885 runs of 200 epochs, all of Tables 1-6) and `sweep`
(10,080 runs of 20 epochs: 20 learning rates x 12 weight decays x 14 cells x 3 seeds).
Each is reported twice by `launch.py --stage=report`, start-up included; the second time nothing
has changed. Bounds are on wall-clock seconds, which others on the machine make longer; processor
seconds, of its workers too, stand beside. The page is opened in headless Chromium if chromium,
chromium-driver and selenium are there. Writes docs/results/report.json.
"""

import argparse
import pathlib
import shutil
import sys
import tempfile
import time

import record

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / 'tests'))

import report_workdirs as workdirs  # noqa: E402

SECONDS = {'rehearsal': 10, 'study': 30, 'sweep': 180}  # at most, for the first report
OPENS = 3.0


def plan(name: str) -> list[dict]:
  """The runs of a workdir."""
  if name == 'rehearsal':
    runs = workdirs.paper_plan(seeds=(0, 1), rehearsal=True)[:141]
    return [run | {'epochs': 15} for run in runs]
  if name == 'study':
    return workdirs.paper_plan(seeds=(0, 1, 2))
  return workdirs.sweep_plan()


def main() -> int:
  parser = argparse.ArgumentParser()
  parser.add_argument('--only', choices=list(SECONDS), help='one of the workdirs')
  parser.add_argument('--keep', help='directory for the workdirs; they stay there')
  args = parser.parse_args()
  figures, details = [], {}
  with tempfile.TemporaryDirectory() as temporary:
    for name in [args.only] if args.only else SECONDS:
      path = pathlib.Path(args.keep or temporary) / name
      runs = plan(name)
      if not path.exists():
        workdirs.write_workdir(path, runs, sealed=True)
      shutil.rmtree(path / 'report', ignore_errors=True)
      command = [str(ROOT / 'launch.py'), f'--workdir={path}', '--stage=report']
      first, again = (record.run(command) for _ in range(2))
      page = path / 'report' / 'index.html'
      files = sum(1 for _ in (path / 'report' / 'figures').glob('*.svg'))
      what = f'{name}, {len(runs):,} runs'
      figures += [
        record.Figure(f'{what}: first report', [first.wall], 's', at_most=SECONDS[name]),
        record.Figure(f'{what}: first report', [first.processor], 's of a processor'),
        record.Figure(f'{what}: again, nothing changed', [again.wall], 's'),
        record.Figure(f'{what}: again, nothing changed', [again.processor], 's of a processor'),
        record.Figure(f'{what}: peak memory', [first.memory], 'MB'),
        record.Figure(f'{what}: page', [page.stat().st_size / 1e6], 'MB'),
      ]
      opening = open_in_browser(page)
      if opening:
        figures.append(record.Figure(f'{what}: page opens', opening, 's', at_most=OPENS))
      details[name] = {'runs': len(runs), 'figures drawn': files}
      record.show(figures)
  return record.store('report', figures, details)


def open_in_browser(page: pathlib.Path) -> list[float]:
  """Seconds until the page has loaded and can be clicked, five times; none without a browser."""
  driver, chromium = shutil.which('chromedriver'), shutil.which('chromium')
  if not driver or not chromium:
    print('chromium or chromium-driver is not installed: opening not measured')
    return []
  from selenium import webdriver

  options = webdriver.ChromeOptions()
  options.binary_location = chromium
  for flag in ('--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking'):
    options.add_argument(flag)
  browser = webdriver.Chrome(options, webdriver.chrome.service.Service(driver))
  seconds = []
  for _ in range(5):
    browser.get('about:blank')
    start = time.monotonic()
    browser.get(page.as_uri())
    browser.execute_async_script('requestAnimationFrame(() => requestAnimationFrame(arguments[0]))')
    seconds.append(time.monotonic() - start)
  browser.quit()
  return seconds


if __name__ == '__main__':
  sys.exit(main())
