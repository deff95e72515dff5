"""How long a report takes, and how long its page takes to open in headless Chromium.

    python benchmarks/report.py [--cells=13] [--seeds=3] [--epochs=10]

Writes synthetic runs into a temporary workdir. `--cells=300` with 3 seeds is the size of the
whole study. Opening is measured if Debian's chromium, chromium-driver and selenium are there.
"""

import argparse
import pathlib
import shutil
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / 'tests'))

import report_workdirs as workdirs  # noqa: E402

from jaxbudget.lab import report  # noqa: E402


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument('--cells', type=int, default=13)
  parser.add_argument('--seeds', type=int, default=3)
  parser.add_argument('--epochs', type=int, default=10)
  args = parser.parse_args()
  seeds = range(args.seeds)
  plan = workdirs.quickstart_plan(seeds)
  if args.cells > 13:
    plan = workdirs.paper_plan(seeds=seeds)[: args.cells * args.seeds]
  plan = [run | {'epochs': args.epochs} for run in plan]
  with tempfile.TemporaryDirectory() as directory:
    path = workdirs.write_workdir(pathlib.Path(directory) / 'w', plan)
    start = time.monotonic()
    page = report.write_report(path)
    size = page.stat().st_size / 1e6
    print(f'{len(plan)} runs: report in {time.monotonic() - start:.1f} s, page of {size:.1f} MB')
    open_in_browser(page)


def open_in_browser(page: pathlib.Path) -> None:
  """Prints the time until the page's load event, best of three."""
  driver, chromium = shutil.which('chromedriver'), shutil.which('chromium')
  if not driver or not chromium:
    print('chromium or chromium-driver is not installed: opening not measured')
    return
  from selenium import webdriver

  options = webdriver.ChromeOptions()
  options.binary_location = chromium
  for flag in ('--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking'):
    options.add_argument(flag)
  browser = webdriver.Chrome(options, webdriver.chrome.service.Service(driver))
  seconds = []
  for _ in range(3):
    start = time.monotonic()
    browser.get(page.as_uri())
    seconds.append(time.monotonic() - start)
  browser.quit()
  print(f'opens in {min(seconds):.2f} s')


if __name__ == '__main__':
  main()
