"""Any method in your own loop, right and counted: `python examples/own_loop.py NAME [FILE]`.

FILE is what a method takes from other runs, an npz of its arrays. A recording: `replay:PATH`.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxbudget as jb
from jaxbudget import data

name, file = [*sys.argv[1:], *('p_sgd', '')[len(sys.argv) - 1 :]]
train, test = data.place(data.load('digits'))
spec = jb.Spec(train.label.size, batch_size=32, num_classes=10, epochs=8, image_shape=(8, 8, 1))
given = dict(np.load(file)) if file else {}
budget = 1.0 if name in ('sgd', 'dynamics_sgd') else 0.3
selector = jb.make_selector(name, spec, budget, needed=given)  # or your own
to_float = lambda image: image.astype(jnp.float32) / 255
model = jb.Model(  # yours
  init=lambda key: (jnp.zeros((64, 10)), ()),
  apply=lambda w, _, image, train, mask=None: (image.reshape(len(image), -1) @ w, _),
  features=lambda w, _, image: image.reshape(len(image), -1),
)
augment = jb.Augment(lambda key, batch: batch._replace(image=to_float(batch.image)), to_float)
optimizer, root = optax.scale_by_adam(), jax.random.key(0)
step = jax.jit(jb.make_step(selector, model, optimizer, augment))
jb.check_labels(train.label, spec.num_classes)  # once: in the step nobody could tell
state = jb.init_state(0, spec, model, selector, optimizer, budget)
for epoch in range(selector.facts.epochs):
  state = jb.scan.before(selector, model, to_float, state, train, epoch, root)
  state = jb.begin_epoch(selector, state, epoch, root)
  while state.row < state.plan.rows and jb.affordable(state.allowance):
    index, weight = state.plan.index[state.row], state.plan.weight[state.row]
    state, _ = step(state, jb.plain_batch(train, index, weight, 10), jnp.float32(1e-2), root)
correct = model.apply(state.params, (), to_float(test.image), False)[0].argmax(-1) == test.label
print(f'test accuracy {correct.mean():.1%} on {int(state.times_trained.sum())} samples')
