"""The page: whole, escaped, silent on the network, usable in a real browser; its figures."""

import base64
import json
import pathlib
import re
import shutil
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import PIL.Image
import pytest
import report_workdirs as workdirs

from jaxbudget.lab import report
from jaxbudget.lab.paper import figure1, sections
from jaxbudget.lab.report import figures, render, style
from jaxbudget.lab.report import page as page_module

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')
HOSTILE = '<img src=x onerror="window.hacked=1">'


@pytest.fixture(scope='module')
def page(tmp_path_factory):
  """A finished quickstart with text that would like to be markup."""
  path = tmp_path_factory.mktemp('page') / 'quick <b>start</b>'
  plan = workdirs.quickstart_plan()
  for run in plan:
    run['model'] = HOSTILE
  workdirs.write_workdir(path, plan)
  failed = {'run_id': plan[3]['run_id'], 'status': 'failed', 'error': HOSTILE}
  (path / 'runs' / plan[3]['run_id'] / 'result.json').write_text(json.dumps(failed))
  (path / 'a <script>window.hacked=1</script>'.replace('/', '∕')).write_text('')
  written = json.loads((path / 'plan.json').read_text())
  written['command'] = f'python launch.py --config=configs/quickstart.py {HOSTILE}'
  (path / 'plan.json').write_text(json.dumps(written))
  return report.write_report(path)


def test_the_page_stands_alone_and_escapes_what_it_quotes(page):
  text = page.read_text(encoding='utf-8')
  assert HOSTILE not in text and '&lt;img src=x onerror' in text
  assert not re.search(r'(?:src|href)="(?!data:|#|tables/|figures/)', text)
  assert not re.search(r'@import|url\((?!data:)', text)
  assert "default-src 'none'" in text
  assert text.index('class="verdict"') < text.index('<table')
  for heading in ('Accuracy and cost', 'At equal compute', 'Training', 'Runs', 'Configuration'):
    assert f'>{heading}</h2>' in text
  assert 'configs/quickstart.py' in text


def test_everything_the_contract_names_is_there_and_nothing_temporary(page):
  directory = page.parent
  for stem in ('summary', 'equal_compute', 'runs', 'settings', 'versions', 'problems'):
    for kind in ('csv', 'md', 'tex'):
      assert (directory / 'tables' / f'{stem}.{kind}').stat().st_size
  drawn = {path.stem for path in (directory / 'figures').glob('*.png')}
  for kind in ('svg', 'pdf'):
    assert {path.stem for path in (directory / 'figures').glob(f'*.{kind}')} == drawn
  assert {'realised'} < drawn and any(name.startswith('frontier') for name in drawn)
  assert not [path for path in directory.rglob('*') if path.name.startswith('.')]


def test_figures_are_pictures_with_named_axes(page):
  for file in (page.parent / 'figures').iterdir():
    if file.suffix == '.png':
      pixels = np.asarray(PIL.Image.open(file).convert('L'))
      assert min(pixels.shape) > 300 and pixels.std() > 5
    elif file.suffix == '.pdf':
      assert file.read_bytes().startswith(b'%PDF')
    elif file.suffix == '.svg':
      words = ' '.join(ElementTree.parse(file).getroot().itertext())
      assert 'cost' in words or 'epoch' in words or 'seconds' in words
  for source in re.findall(r'src="data:([^;]+);base64,([^"]+)"', page.read_text(encoding='utf-8')):
    head = base64.b64decode(source[1])[:5]
    assert head == (b'\x89PNG\r' if source[0] == 'image/png' else b'<?xml')


def test_methods_differ_in_colour_marker_and_line():
  names = ['unif_sgd', 'sgd', 'p_sgd', 'c_sgd', 'scan_sgd', 'selective_backprop', 'ordered_sgd',
           'random_subset', 'coreset', 'p_sgd x=1', 'new', 'newer']  # fmt: skip
  styles = style.method_styles(pd.DataFrame({'method': names, 'rule': names}))
  assert len({s['marker'] for s in styles.values()}) == len(names)
  known = [styles[n] for n in names[:9]]
  assert len({(str(s['linestyle']), s['color']) for s in known}) == 9
  alone = style.method_styles(pd.DataFrame({'method': ['p_sgd'], 'rule': ['p_sgd']}))
  assert alone == {'p_sgd': styles['p_sgd']}
  rates = [f'p_sgd learning_rate={rate}' for rate in (0.1, 0.2, 0.3)]
  variants = style.method_styles(pd.DataFrame({'method': rates, 'rule': 'p_sgd'})).values()
  assert len({v['color'] for v in variants}) == 1
  assert len({str(v['linestyle']) for v in variants}) == 3


def test_figure1_stands_beside_the_original(tmp_path):
  path = workdirs.write_workdir(tmp_path / 'w', workdirs.figure1_plan(seeds=(0, 1)))
  loaded = report.load_workdir(path)
  drawn = {drawing.name: drawing.picture()['panels'] for drawing in figure1.drawings(loaded)}
  assert list(drawn) == ['figure1a', 'figure1b', 'figure1c', 'figure1d']
  left, right = drawn['figure1b']
  assert 'digitised' in left['title'] and right['title'] == 'ours, digits'
  heights = {line['label']: line['y'] for line in left['lines']}
  np.testing.assert_allclose(heights['Core-set'], [33.6, 47.5, 65.4, 72.0])
  ours = {line['label']: line['y'] for line in right['lines']}
  runs = loaded.runs[(loaded.runs['selector'] == 'coreset')]
  np.testing.assert_allclose(ours['Core-set'], runs.groupby('budget')['final_accuracy'].mean())
  assert len(drawn['figure1c'][1]['lines'][0]['x']) == 5


def test_no_number_sorts_as_nothing():
  rows = [(render.Cell('–', float('nan')),), (render.Cell('1', 1.0),)]
  shown = workdirs.table_html(render.Table('t', 't', ('a',), rows, pd.DataFrame(), labels=0))
  assert shown.count('data-v') == 1 and 'data-v="1.0"' in shown


def test_no_frontier_of_scoring_runs_alone(tmp_path):
  scoring = workdirs.plan_run('dynamics_sgd', 1.0, 0, epochs=3, schedule='step')
  chosen = workdirs.plan_run('coreset', 0.3, 0, epochs=3) | {'needs': scoring['run_id']}
  chosen['selection'] = {'forward_equivalents': scoring['planned']['forward_equivalents']}
  path = workdirs.write_workdir(tmp_path / 'w', [scoring, chosen])
  assert len(list(figures.frontiers(report.load_workdir(path)))) == 1


def test_report_while_training_shows_what_is_there(tmp_path):
  plan = workdirs.small_plan()
  path = workdirs.write_workdir(tmp_path / 'w', plan)
  for run in plan[3:]:
    (path / 'runs' / run['run_id'] / 'result.json').unlink()
    (path / 'runs' / run['run_id'] / 'counts.npy').unlink()
  first = report.write_report(path)
  text = first.read_text(encoding='utf-8')
  assert '3 of 10 planned runs have finished (7 stopped)' in text
  assert '>stopped<' in text
  assert report.write_report(path) == first  # again, over itself


def test_deviations_in_force_are_shown(tmp_path, monkeypatch):
  entry = {'id': 'Q1', 'title': 'RICAP credit', 'paper': 'silent', 'code': 'misaligned'}

  def in_force(config):
    return [entry | {'effect': '<i>'}] if config['seed'] == 0 else []

  monkeypatch.setattr(sections.deviations, 'in_force', in_force)
  path = workdirs.write_workdir(tmp_path / 'w', workdirs.small_plan())
  text = report.write_report(path, extra=[sections.sections]).read_text(encoding='utf-8')
  assert 'misaligned' in text and '&lt;i&gt;' in text
  table = (path / 'report' / 'tables' / 'deviations_in_force.csv').read_text()
  assert table.splitlines()[1].endswith(',5')  # five cells have a run of seed 0


def test_tensorboard_events(page):
  pytest.importorskip('tensorboardX', reason='the extra `tensorboard` is not installed')
  from tensorboardX.proto import event_pb2

  runs = page.parent / 'tensorboard'
  assert len(list(runs.iterdir())) == 39
  content = next((runs / 'digits-standard-linear-released-sgd-1-s0').iterdir()).read_bytes()
  found, at = {}, 0
  while at < len(content):  # records: length u64, crc, bytes, crc
    size = int.from_bytes(content[at : at + 8], 'little')
    event = event_pb2.Event.FromString(content[at + 12 : at + 12 + size])
    for value in event.summary.value:
      found.setdefault(value.tag, {})[event.step] = value.simple_value
    at += 16 + size
  assert len(found['loss/train']) == 20 and len(found['accuracy/test']) == 10
  metrics = page.parents[1] / 'runs' / 'digits-standard-linear-released-sgd-1-s0/metrics.jsonl'
  last = json.loads(metrics.read_text().splitlines()[-1])
  assert found['loss/train'][20] == pytest.approx(last['train_loss'])


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
  if not CHROMIUM or not shutil.which('chromedriver'):
    pytest.skip('no browser: Debian packages chromium and chromium-driver are not installed')
  webdriver = pytest.importorskip('selenium.webdriver', reason='selenium is not installed')
  options = webdriver.ChromeOptions()
  options.binary_location = CHROMIUM
  options.set_capability('goog:loggingPrefs', {'browser': 'ALL', 'performance': 'ALL'})
  for flag in (
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
    f'--user-data-dir={tmp_path_factory.mktemp("chromium")}',
  ):  # fmt: skip
    options.add_argument(flag)
  service = webdriver.chrome.service.Service(shutil.which('chromedriver'))
  driver = webdriver.Chrome(options=options, service=service)
  yield driver
  driver.quit()


def open_page(browser, page: pathlib.Path, width: int) -> None:
  size = {'width': width, 'height': 900, 'deviceScaleFactor': 1, 'mobile': width < 600}
  browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', size)
  browser.get(page.as_uri())


def visible_column(browser, table: str, column: int) -> list[str]:
  script = """
    return Array.from(document.getElementById('table-' + arguments[0]).tBodies[0].rows)
      .filter(row => !row.hidden).map(row => row.cells[arguments[1]].firstChild.textContent)"""
  return browser.execute_script(script, table, column)


def test_no_errors_no_requests_no_injection(browser, page):
  for width in (1280, 390):
    open_page(browser, page, width)
    browser.execute_script("document.querySelectorAll('img').forEach(i => { i.loading = 'eager' })")
    assert browser.execute_async_script(
      'const done = arguments[0]; Promise.all(Array.from(document.images).map(i => i.decode()))'
      '.then(() => done(true), () => done(false))'
    )
    assert not browser.execute_script('return window.hacked')
    across = browser.execute_script('return document.documentElement.scrollWidth')
    assert across <= width  # tables scroll in their own frames, the page does not
  assert browser.get_log('browser') == []
  assert asked_by_the_page(browser, page) == {page.as_uri()}


def asked_by_the_page(browser, page: pathlib.Path) -> set[str]:
  """What the page's own frames asked for; whatever else the browser does is its own affair."""
  tree = browser.execute_cdp_cmd('Page.getFrameTree', {})['frameTree']
  frames = {f['frame']['id'] for f in (tree, *tree.get('childFrames', ()))}
  messages = [json.loads(entry['message'])['message'] for entry in browser.get_log('performance')]
  asked = [
    message['params']['request']['url']
    for message in messages
    if message['method'] == 'Network.requestWillBeSent'
    and message['params'].get('frameId') in frames
  ]
  since = asked[asked.index(page.as_uri()) :]  # before it the start page was in this frame
  return {url for url in since if not url.startswith('data:')}


def headings(browser, table: str):
  """The names of a table's columns and the buttons that lie on them."""
  names = [head.text.rstrip(' ↕↑↓') for head in
           browser.find_elements('css selector', f'#table-{table} thead th')]  # fmt: skip
  return names, browser.find_elements('css selector', f'#table-{table} thead button')


def test_tables_sort_by_a_click(browser, page):
  open_page(browser, page, 1280)
  names, heads = headings(browser, 'summary')
  column = names.index('accuracy')
  heads[column].click()
  shown = [float(t.split()[0]) for t in visible_column(browser, 'summary', column)]
  assert len(shown) == 13 and shown == sorted(shown)
  heads[column].click()
  shown = [float(t.split()[0]) for t in visible_column(browser, 'summary', column)]
  assert shown == sorted(shown, reverse=True)
  heads[names.index('method')].click()
  shown = visible_column(browser, 'summary', names.index('method'))
  assert shown == sorted(shown)
  head = browser.find_elements('css selector', '#table-summary thead th')[names.index('method')]
  assert head.get_attribute('aria-sort') == 'ascending'


def test_missing_figures_sort_last_either_way(browser, page):
  open_page(browser, page, 1280)
  names, heads = headings(browser, 'runs')
  column = names.index('accuracy')
  for _ in range(2):
    heads[column].click()
    assert visible_column(browser, 'runs', column)[-1] == '–'  # the failed run


def test_tables_filter_by_words(browser, page):
  open_page(browser, page, 1280)
  before = "return document.getElementById('table-summary').parentElement.previousElementSibling"
  field = browser.execute_script(before)
  field.send_keys('SGD 0.300')
  assert len(visible_column(browser, 'summary', 1)) == 5
  field.clear()
  field.send_keys('selective')
  assert set(visible_column(browser, 'summary', 1)) == {'selective_backprop'}


def test_figures_grow_by_a_click(browser, page):
  open_page(browser, page, 390)
  image = browser.find_element('css selector', 'figure img')
  before = image.size['width']
  browser.execute_script('arguments[0].click()', image)
  assert image.size['width'] > 2 * before


@pytest.fixture(scope='module')
def long_page(tmp_path_factory):
  """A page with a table of 350 rows, some hostile, and one figure behind a fold."""
  path = tmp_path_factory.mktemp('long') / 'index.html'
  rows = [
    (render.text_cell(f'm{i % 7} {HOSTILE}</script>'), render.number_cell(i * 37 % 350, 0))
    for i in range(350)
  ]
  rows[5] = (render.text_cell('last'), render.Cell('–', float('nan')))
  table = render.Table('runs', 'Runs', ('method', 'value'), rows, pd.DataFrame())
  figure = {'drawing': figures.Drawing('f', 'f', '', None), 'source': 'data:,'}
  blocks = [
    {'kind': 'table', 'table': table},
    {'kind': 'figures', 'first': [], 'more': [figure], 'files': [], 'undrawn': 2},
  ]
  section = {'title': 'Runs', 'anchor': 'runs', 'blocks': blocks}
  texts = dict.fromkeys(('title', 'verdict', 'evidence', 'status', 'version', 'date'), HOSTILE)
  template = page_module.environment().get_template('page.html')
  path.write_text(template.render(sections=[section], **texts), encoding='utf-8')
  return path


def test_long_tables_turn_pages_sort_and_filter_all_rows(browser, long_page):
  open_page(browser, long_page, 1280)
  values = lambda: [int(t) if t != '–' else t for t in visible_column(browser, 'runs', 1)]
  assert len(values()) == 100 and values()[:2] == [0, 37]
  _, heads = headings(browser, 'runs')
  heads[1].click()
  assert values() == [v for v in range(101) if v != 5 * 37 % 350][:100]
  back, on = browser.find_elements('css selector', '.pages button')
  for _ in range(3):
    on.click()
  assert len(values()) == 50 and values()[-1] == '–' and not on.is_enabled()
  heads[1].click()
  assert values()[0] == 349 and not back.is_enabled()  # from the start again
  browser.find_element('css selector', 'input.filter').send_keys('m3')
  assert len(values()) == 50 and set(visible_column(browser, 'runs', 0)) == {
    f'm3 {HOSTILE}</script>'
  }
  assert not browser.execute_script('return window.hacked')
  assert [e for e in browser.get_log('browser') if e['level'] == 'SEVERE'] == []


def test_dark_and_on_paper(browser, long_page):
  open_page(browser, long_page, 1280)
  look = 'return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]'
  shades = []
  for scheme in ('light', 'dark'):
    features = [{'name': 'prefers-color-scheme', 'value': scheme}]
    browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': features})
    for what in ('backgroundColor', 'color'):
      colour = browser.execute_script(look, 'body', what)
      shades.append(sum(map(int, re.findall(r'\d+', colour)[:3])))
  light, ink, dark, chalk = shades
  assert light > 700 and ink < 150 and dark < 150 and chalk > 600
  browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {'media': 'print', 'features': []})
  assert browser.execute_script(look, '.scroll', 'overflow') == 'visible'
  assert browser.execute_script(look, '.pages', 'display') == 'none'
  folded = "return document.querySelectorAll('details:not([open])').length"
  assert browser.execute_script(folded) == 1
  for event, left in (('beforeprint', 0), ('afterprint', 1)):
    browser.execute_script(f"dispatchEvent(new Event('{event}'))")
    assert browser.execute_script(folded) == left
  browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {'media': '', 'features': []})
