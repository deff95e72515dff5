"""What the figures of compiled programs are read off: text of HLO, by rules pinned here."""

import itertools
import json
import pathlib

import jax
import jax.numpy as jnp
import pytest

from benchmarks.aot import checks, figures, hand_count, hlo, page
from benchmarks.aot.programs import BATCH, SIDE, WIDTH, Row
from benchmarks.aot.targets import TARGETS
from jaxbudget.models import make_model

H100 = TARGETS['h100']
# A loop over rows: one gathers, multiplies, copies, draws in a loop, exchanges, and takes a step
# or none.
ROWS = """
HloModule rows, is_scheduled=true

%pick (data: u8[50000,3072], at: s32[128]) -> f32[128,3072] {
  %data = u8[50000,3072]{1,0} parameter(0)
  %at = s32[128]{0} parameter(1)
  %taken = u8[128,3072]{1,0} gather(%data, %at), offset_dims={1}, slice_sizes={1,3072}
  ROOT %converted = f32[128,3072]{1,0} convert(%taken)
}

%add (into: s32[50000], where: s32[128], by: s32[128]) -> s32[50000] {
  %into = s32[50000]{0} parameter(0)
  %where = s32[128]{0} parameter(1)
  %by = s32[128]{0} parameter(2)
  ROOT %sum = s32[50000]{0} scatter(%into, %where, %by), to_apply=%plus
}

%draws (one: (f32[])) -> (f32[]) {
  %one = (f32[]) parameter(0)
  %old = f32[] get-tuple-element(%one), index=0
  %new = f32[] sine(%old)
  ROOT %next = (f32[]) tuple(%new)
}

%step (carry: (f32[64,64])) -> (f32[64,64]) {
  %carry = (f32[64,64]) parameter(0)
  %x = bf16[128,8,8,16]{3,2,1,0} get-tuple-element(%carry), index=0
  %w = bf16[32,3,3,16]{3,2,1,0} get-tuple-element(%carry), index=1
  %conv = (bf16[128,4,4,32]{3,2,1,0}, u8[0]{0}) custom-call(%x, %w), WINDOW
  ROOT %done = (f32[64,64]) tuple(%conv)
}

%row (state: (u8[50000,3072])) -> (u8[50000,3072]) {
  %state = (u8[50000,3072]) parameter(0)
  %images = u8[50000,3072]{1,0} get-tuple-element(%state), index=0
  %index = s32[128]{0} get-tuple-element(%state), index=1
  %counts = s32[50000]{0} get-tuple-element(%state), index=2
  %batch = f32[128,3072]{1,0} fusion(%images, %index), kind=kLoop, calls=%pick
  %counted = s32[50000]{0} fusion(%counts, %index, %index), kind=kInput, calls=%add
  %copied = f32[128,3072]{1,0} copy(%batch)
  %product = f32[128,128]{1,0} dot(%batch, %copied), lhs_contracting_dims={1}
  %drawn = (f32[]) while(%one), condition=%c, body=%draws, metadata={op_name="beta"}
  %trained = (f32[64,64]) while(%carry), condition=%c, body=%step
  %everywhere = s32[50000]{0} all-reduce(%counted), replica_groups={{0,1}}, to_apply=%plus
  ROOT %after = (u8[50000,3072]) tuple(%images)
}

%c (p: (f32[])) -> pred[] {
  %p = (f32[]) parameter(0)
  ROOT %more = pred[] get-tuple-element(%p), index=0
}

ENTRY %main (start: (u8[50000,3072])) -> (u8[50000,3072]) {
  %start = (u8[50000,3072]) parameter(0)
  ROOT %rows = (u8[50000,3072]) while(%start), condition=%c, body=%row
}
""".replace(
  'WINDOW',
  'window={size=3x3 stride=2x2 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, '
  'custom_call_target="__cudnn$convForward"',
)


def test_a_row_is_read_off_its_text():
  most, least = figures.row_cost(hlo.parse(ROWS), H100)
  image, counts = 128 * 3072, 50_000 * 4
  # gather and convert; scatter; copy; product; the loop's kernel; all-reduce
  moved = [
    image + 128 * 4 + 4 * image,  # of the data set only the rows that are taken
    2 * 128 * 4,  # of the counts only those that change; where and by how much is one array
    8 * image,
    8 * image + 4 * 128 * 128,
    8,
    2 * counts,
  ]
  assert least.bytes == sum(moved) and least.kernels == 6
  assert least.copies == (('copied', 4 * image),)
  assert least.collectives == (('all-reduce', counts),)
  assert least.loops == (('beta', None),)
  product = 2 * 128 * 128 * 3072
  assert least.flops == product and not least.convolutions
  # 4 outputs, 3 taps along an axis; the first one of the first output meets padding.
  convolution = 2 * 128 * 16 * 32 * (4 * 3 - 1) ** 2
  assert most.flops == product + convolution and most.kernels == 7
  assert most.convolutions == {'bf16 x bf16 -> bf16, b01f_o01i->b01f': 1}
  assert most.loops == least.loops  # a step that is taken or not is none
  seconds = [*(each / H100.bandwidth for each in (*moved[:3], *moved[4:]))]
  seconds.append(max(moved[3] / H100.bandwidth, product / H100.flops['float32']))
  assert least.seconds == pytest.approx(sum(seconds))


def test_an_operation_that_is_only_begun_is_what_the_whole_would_be():
  whole = hlo.parse(ROWS)
  begun = hlo.parse(
    ROWS.replace(
      '%everywhere = s32[50000]{0} all-reduce(%counted)',
      '%everywhere = ((s32[50000]{0}), s32[50000]{0}) all-reduce-start(%counted)',
    ).replace(
      '%batch = f32[128,3072]{1,0} fusion(',
      '%batch = ((u8[50000,3072]{1,0}, s32[128]{0}), f32[128,3072]{1,0}, u32[]) fusion-start(',
    )
  )
  more = figures.row_cost(begun, H100)[0].bytes - figures.row_cost(whole, H100)[0].bytes
  assert 0 <= more <= 64  # a counter that comes with it
  assert figures.row_cost(begun, H100)[0].collectives == (('all-reduce', 50_000 * 4),)
  line = '  %a = (f32[4]{0}, f32[16]{0}) all-gather-start(%x)'
  gathered = hlo.parse(f'%c {{\n{line}\n}}')
  assert gathered.ops['a'].arrays == (hlo.Array('f32', (16,), '0'),)
  near = hlo.parse(
    """%c {
  %x = f32[8,4]{1,0} parameter(0)
  %copied = (f32[8,4]{1,0:S(1)}, f32[8,4]{1,0}, u32[]{:S(2)}) copy-start(%x)
  %cut = ((f32[8,4]{1,0}), f32[2,4]{1,0:S(1)}, s32[]{:S(2)}) slice-start(%x), slice={[0:2], [0:4]}
}"""
  )
  assert hlo.traffic(near, near.ops['copied']) == 4 * 8 * 4  # read; not written to main memory
  assert hlo.traffic(near, near.ops['cut']) == 4 * 2 * 4 + 4


def _with_prefixes():
  """The row of `ROWS`: it scores or not, then trains on a whole batch, a half or a quarter."""
  half, quarter = (
    f"""
%step_{n} (carry_{n}: (f32[64,64])) -> (f32[64,64]) {{
  %carry_{n} = (f32[64,64]) parameter(0)
  %x_{n} = bf16[{n},8,8,16]{{3,2,1,0}} get-tuple-element(%carry_{n}), index=0
  %w_{n} = bf16[32,3,3,16]{{3,2,1,0}} get-tuple-element(%carry_{n}), index=1
  %conv_{n} = (bf16[{n},4,4,32]{{3,2,1,0}}, u8[0]{{0}}) custom-call(%x_{n}, %w_{n}), WINDOW
  ROOT %done_{n} = (f32[64,64]) tuple(%conv_{n})
}}
""" for n in (64, 32)
  )  # fmt: skip
  score = half.replace('_64', '_score').replace('[64,', '[128,')
  none = """
%not (carry_not: (f32[64,64])) -> (f32[64,64]) {
  ROOT %carry_not = (f32[64,64]) parameter(0)
}
"""
  taken = '%trained = (f32[64,64]) while(%carry), condition=%c, body=%step\n'
  loops = taken + ''.join(
    f'  %trained_{n} = (f32[64,64]) while(%carry), condition=%c, body=%step_{n}\n' for n in (64, 32)
  )
  chosen = (
    '  %chosen = (f32[64,64]) conditional(%p, %a, %b), true_computation=%step_score, '
    'false_computation=%not\n'
  )
  window = ROWS.partition('custom-call(%x, %w), ')[2].partition('\n')[0]
  more = (score + half + quarter + none).replace('WINDOW', window)
  return ROWS.replace(taken, loops + chosen).replace('%row (state', more + '%row (state')


def test_a_step_on_a_prefix_comes_with_scoring_and_on_the_whole_batch_without():
  plain, none = figures.row_cost(hlo.parse(ROWS), H100)
  most, least = figures.row_cost(hlo.parse(_with_prefixes()), H100)
  step = plain.flops - none.flops
  assert most.flops == none.flops + 3 * step // 2  # not 2, though there are such branches
  assert sum(most.convolutions.values()) == 2
  assert least == most  # there is no row without a step


def test_convolutions_are_counted_as_xla_counts_them():
  """On the CPU both can be had: forward, and both gradients in their general form."""
  for stride, pad, size in itertools.product((1, 2), (0, 1), (1, 3)):
    x, w = jnp.ones((2, 8, 8, 4)), jnp.ones((size, size, 4, 6))

    def out(x, w, stride=stride, pad=pad):
      y = jax.lax.conv_general_dilated(
        x, w, (stride, stride), ((pad, pad),) * 2, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
      )
      return jnp.sum(y**2)

    lowered = jax.jit(jax.grad(out, (0, 1))).lower(x, w)
    module = hlo.parse(lowered.as_text(dialect='hlo'))
    found = [
      flops
      for name in module.computations
      for op in module.computations[name]
      if op.code == 'convolution'
      for _, flops in hlo.products(module, op)
    ]
    assert len(found) == 3
    counted = lowered.cost_analysis()['flops']
    elementwise = counted - sum(found)
    assert 0 <= elementwise <= 4 * 2 * 8 * 8 * 6 + 64, (stride, pad, size)


FILE = pathlib.Path(__file__).parents[1] / 'docs' / 'results' / 'aot.json'
# Rows; what else is stored are pieces of them.
PROGRAMS = json.loads(FILE.read_text())['programs']
STORED = [r for r in PROGRAMS.values() if 'dtype' in r]


@pytest.mark.parametrize('record', STORED, ids=lambda r: f'{r["target"]}-{r["selector"]}')
def test_rows_that_are_stored_keep_to_the_rules(record):
  row = Row(*(record[key] for key in ('target', 'selector', 'dtype', 'augment', 'devices')))
  assert list(checks.faults(row, record)) == []
  if row.devices > 1:  # what is as long as N, and a second batch of images
    for size in (4 * 50_000, 4 * checks.IMAGES):
      exchange = [*record['exchange'], ['all-reduce', size], ['all-reduce', size]]
      assert len(list(checks.faults(row, record | {'exchange': exchange}))) == 1


def test_what_is_stored_names_its_compiler_and_rows_that_there_are():
  for name, record in PROGRAMS.items():
    compiler = 'libtpu' if name.startswith('v5e') else 'jax-cuda12-plugin'
    assert record['made']['commit'] and compiler in record['made']['compilers'], name
  # A row that trains on nothing has at least scored something.
  assert all(record['without_step']['flops'] for record in STORED if record['without_step'])


def test_programs_are_stored_with_what_made_them(tmp_path, monkeypatch):
  monkeypatch.setattr(page, 'STORED', tmp_path / 'aot.json')
  page.store({'a': {'kernels': 1}})
  page.store({'b': {'kernels': 2}})
  found = page.stored()
  assert found.keys() == {'programs'} and found['programs'].keys() == {'a', 'b'}
  assert found['programs']['a']['made']['compilers']['jax'] == jax.__version__


def test_layers_counted_by_hand_are_those_of_the_network():
  model = make_model('resnet18', 10, (SIDE, SIDE, 3), width=WIDTH, conv='lax')
  params, _ = jax.eval_shape(model.init, jax.random.key(0))
  kernels = sorted(leaf.size for leaf in jax.tree.leaves(params) if leaf.ndim == 4)
  assert kernels == sorted(layer.weights for layer in hand_count.layers(SIDE, WIDTH))
  step, scoring = (count(WIDTH, 2, SIDE, BATCH) for count in (hand_count.step, hand_count.scoring))
  # 8 passes over outputs and 3 over inputs, where scoring has 3 and 1
  assert 2.71e9 < step < 2.74e9
  assert 0.25 < scoring / step < 0.4
