"""Names and options: what values fit, whose an option is, and what `--list` says of them."""

import ast
import inspect
import pathlib
import subprocess
import sys
import typing
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx, serialization
from hypothesis import given
from hypothesis import strategies as st

from jaxbudget import factories, listing, models, options, registry
from jaxbudget.types import Needed

ROOT = pathlib.Path(__file__).parents[1]
REFUSED = object()


@pytest.mark.parametrize(
  'value, annotation, read',
  [
    (4, float, 4.0), (True, int, REFUSED), (True, float, REFUSED), (1, bool, REFUSED),
    (2.0, int, REFUSED), ('4', int, REFUSED), (5, str, REFUSED), (None, float, REFUSED),
    (None, float | None, None), (1, int | str, 1), (1, float | int, 1),
    ('a', Literal['a', 'b'], 'a'), ('c', Literal['a', 'b'], REFUSED), (1, Literal[True], REFUSED),
    ([80, 90.5], tuple[float, ...], (80.0, 90.5)), ((1, 2), tuple[int, int], (1, 2)),
    ((1, 2, 3), tuple[int, int], REFUSED), ((1, 'x'), tuple[int, ...], REFUSED),
    ('ab', tuple[str, ...], REFUSED), ((), tuple[float, ...], ()), ((1, [2]), tuple, (1, (2,))),
    (0.5, Annotated[float, 'share'], 0.5), ([1, None], Any, (1, None)), ({}, Any, REFUSED),
    (object(), Any, REFUSED), (np.float32(1), float, 1.0),
    (np.int64(2), int, 2), (jnp.int32(2), float, 2.0), (np.bool_(True), bool, True),
    (np.bool_(True), int, REFUSED), (np.float64(2), int, REFUSED), (np.ones(2), float, REFUSED),
    ([np.int64(1), 2], tuple[int, ...], (1, 2)), ((np.float32(1),), Any, (1.0,)),
  ],
)  # fmt: skip
def test_a_value_fits_its_annotation_or_is_refused(value, annotation, read):
  if read is REFUSED:
    with pytest.raises(ValueError, match='^option x is refused: it must be '):
      options.convert('option x', value, annotation)
  else:
    found = options.convert('option x', value, annotation)
    assert found == read and type(found) is type(read)


def test_refusals_say_what_is_allowed():
  told = {
    float | None: 'a number or None',
    Literal['own', 'first']: "'own' or 'first'; did you mean 'own'?",
    tuple[float, ...]: 'a tuple (a number, ...)',
    bool: 'True or False',
  }
  for annotation, said in told.items():
    with pytest.raises(ValueError) as fault:
      options.convert('x', 'owm', annotation)
    assert str(fault.value).endswith(f'it must be {said}')
  with pytest.raises(ValueError, match='a string, in quotes'):
    options.convert('x', 5, str)


_PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@given(_PLAIN | st.lists(_PLAIN) | st.tuples(_PLAIN, _PLAIN))
def test_what_was_read_once_is_read_the_same_again(value):
  for annotation in (bool, int, float, str, float | None, tuple[float, ...], Any, int | str):
    try:
      read = options.convert('x', value, annotation)
    except ValueError:
      continue
    assert options.convert('x', read, annotation) == read


def test_options_are_keyword_only_and_never_what_is_needed():
  def factory(a, b=1, *, c: int = 2, d: 'tuple[float, ...]' = (1,), e: Needed = None, f, **more):
    pass

  found = options.of(factory)
  assert list(found) == ['c', 'd', 'f']
  assert found['d'].default == (1.0,) and found['f'].default is options.REQUIRED

  def typed(*, x: 'NotImported' = 1):  # noqa: F821  for type checkers only
    pass

  assert options.of(typed)['x'].annotation is Any


@pytest.mark.parametrize('kind', registry.KINDS)
def test_the_list_is_that_of_the_signatures(kind):
  for name, entry in listing.entries(kind).items():
    part = factories.find(kind, name)
    assert list(entry.options) == list(part.options), name
    assert entry.summary == inspect.getdoc(part.factory).partition('\n')[0] and entry.summary
    assert entry.spelt.partition(':')[0] == name
    parameters = inspect.signature(part.factory).parameters
    for option, (annotation, default) in entry.options.items():
      real = parameters[option].default
      if typing.get_origin(part.options[option].annotation) is typing.Literal:
        allowed = typing.get_args(part.options[option].annotation)
        assert annotation == ' | '.join(map(repr, allowed)), (name, option)  # also of a name
      assert (real is inspect.Parameter.empty) == (default == ''), (name, option)
      if default:
        assert eval(compile(ast.parse(default, mode='eval'), '', 'eval')) == real  # constants
    assert f'{entry.spelt}' in listing.text(kind)


def test_the_list_comes_without_the_packages_that_parts_need():
  script = (
    'import sys\nfrom jaxbudget import listing\nlisting.text("all")\n'
    'print([m for m in ("tensorflow_datasets", "flax.nnx", "PIL", "ml_collections", '
    '"jaxbudget.models.resnet") if m in sys.modules])'
  )
  done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, cwd=ROOT)
  assert done.stdout == '[]\n', done.stderr
  with pytest.raises(ValueError, match="'modl'; did you mean 'model'"):
    listing.text('modl')


def test_options_of_a_chain_are_divided_or_said_to_be_unclear():
  parts = factories.chain('augment', 'randaugment+mixup')
  assert factories.divide(parts, {'n': 1, 'mixup': {'alpha': 1.0}}) == (
    [{'n': 1}, {'alpha': 1.0}], [],
  )  # fmt: skip
  assert factories.divide(parts, {'x': 1, 'ricap': {'alpha': 1}})[1] == ['x', 'ricap.alpha']
  with pytest.raises(ValueError, match='given twice'):
    factories.divide(parts, {'n': 1, 'randaugment': {'n': 2}})
  with pytest.raises(ValueError, match='of mixup and ricap: write augment_options.mixup.alpha'):
    factories.divide(factories.chain('augment', 'mixup+ricap'), {'alpha': 1.0})


class Net(nnx.Module):
  """Everything that makes trouble: a list, batch statistics, dropout, a mask."""

  def __init__(self, rngs):
    self.layers = nnx.List([nnx.Linear(16, 8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)])
    self.norm = nnx.BatchNorm(8, rngs=rngs)
    self.drop = nnx.Dropout(0.5, rngs=rngs)

  def features(self, x, mask=None):
    x = self.layers[0](x.reshape(len(x), -1))
    return self.drop(nnx.relu(self.norm(x, mask=None if mask is None else mask[:, None])))

  def __call__(self, x, mask=None):
    return self.layers[1](self.features(x, mask))


class LinenNet(linen.Module):
  """The same in Linen, without a mask."""

  @linen.compact
  def __call__(self, x, train: bool):
    x = linen.Dense(8)(x.reshape(len(x), -1))
    x = linen.relu(linen.BatchNorm(use_running_average=not train)(x))
    return linen.Dense(3)(linen.Dropout(0.5, deterministic=not train)(x))


@pytest.mark.parametrize('make', [
  lambda: models.from_nnx(Net), lambda: models.from_linen(LinenNet(), (4, 4, 1)),
])  # fmt: skip
def test_a_flax_module_is_two_pure_functions_of_plain_arrays(make):
  model = make()
  params, state = model.init(jax.random.key(0))
  for path, leaf in jax.tree.leaves_with_path((params, state))[2:]:
    assert all(isinstance(k.key, str) for k in path[1:]) and leaf.dtype in (jnp.float32, jnp.uint32)
  image = jax.random.normal(jax.random.key(1), (6, 4, 4, 1))
  apply = jax.jit(model.apply, static_argnames='train')
  first, after = apply(params, state, image, train=True)
  again, _ = apply(params, state, image, train=True)
  second, _ = apply(params, after, image, train=True)
  np.testing.assert_array_equal(first, again)
  assert not np.array_equal(first, second), 'dropout draws anew in the next step'
  assert jax.tree.structure(after) == jax.tree.structure(state)
  assert not jax.tree.all(jax.tree.map(np.array_equal, state, after)), 'statistics move'
  plain, same = apply(params, after, image, train=False)
  assert plain.dtype == jnp.float32 and plain.shape == (6, 3)
  assert jax.tree.all(jax.tree.map(np.array_equal, after, same))
  tree = serialization.to_state_dict(jax.device_get((params, after)))
  back = serialization.msgpack_restore(serialization.msgpack_serialize(tree))
  restored = serialization.from_state_dict((params, after), back)
  np.testing.assert_array_equal(apply(*restored, image, train=False)[0], plain)


def test_padding_stays_out_of_batch_statistics_or_is_refused():
  model = models.from_nnx(Net)
  params, state = model.init(jax.random.key(0))
  image = jax.random.normal(jax.random.key(1), (6, 4, 4, 1))
  mask = jnp.arange(6) < 4
  _, masked = model.apply(params, state, image, train=True, mask=mask)
  _, whole = model.apply(params, state, image[:4], train=True)
  np.testing.assert_allclose(masked['norm']['mean'], whole['norm']['mean'], atol=1e-6)
  assert model.features(params, state, image).shape == (6, 8)
  model = models.from_linen(LinenNet(), (4, 4, 1))
  with pytest.raises(ValueError, match='no argument `mask`'):
    model.apply(*model.init(jax.random.key(0)), image, train=True, mask=mask)
  assert model.features is None and model.head_bias
  assert not models.from_linen(LinenNet(), (4, 4, 1), head_bias=False).head_bias
  assert not models.from_nnx(Net, head_bias=False).head_bias


def test_what_a_module_raises_while_it_is_imported_is_told(tmp_path, monkeypatch):
  (tmp_path / 'broken_part.py').write_text('import math\nmath.nothing\n')
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(ValueError, match=(
    "selector 'broken_part:make': importing it raised AttributeError: module 'math' has no attri"
  )):  # fmt: skip
    factories.find('selector', 'broken_part:make')


class Reader(linen.Module):
  @linen.compact
  def __call__(self, tokens):
    return linen.Dense(3)(linen.Embed(11, 8)(tokens).mean(1))


def test_a_linen_module_may_take_tokens():
  model = models.from_linen(Reader(), (6,), dtype=jnp.int32)
  params, state = model.init(jax.random.key(0))
  assert model.apply(params, state, jnp.zeros((2, 6), jnp.int32), train=True)[0].shape == (2, 3)


def test_names_in_capitals_have_a_closest_one():
  for make in (
    lambda: factories.find('selector', 'P_SGD'),
    lambda: registry.check('key', 'P_SGD', ['p_sgd', 'sgd']),
    lambda: options.convert('x', 'P_SGD', Literal['p_sgd', 'sgd']),
  ):
    with pytest.raises(ValueError, match="did you mean 'p_sgd'"):
      make()
  with pytest.raises(ValueError, match="did you mean 'OrderedDict'"):
    factories.find('selector', 'collections:ordereddict')
